"""What a command says: at the beginning what it runs, at the end what was found and what is missing."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis import tables
from analysis.differences import difference_by_objective, noisy_minus_exposure
from analysis.records import compact, read_records, recorded_keys
from datasets.source import Source
from sweep.config import Sweep
from sweep.folder import Folder
from sweep.logbook import Logbook
from trainables.cell import Cell


def announce(sweep: Sweep, source: Source) -> None:
    """Say what is about to be run, and on what."""
    print(f"{sweep.preset} in {sweep.out}, on {source.title}")
    for note in source.notes:
        print(note)


def show(sweep: Sweep, cells: Sequence[Cell], failures: dict[str, str], folder: Folder, logbook: Logbook) -> list[Cell]:
    """Print and log tables, places and what is missing; returns the planned cells that are not done."""
    done = {key for key, status in recorded_keys(sweep.out).status.items() if status == "done"}
    left = [cell for cell in cells if cell.key not in done]
    if done:
        summary = compact(sweep.out)
        records = read_records(sweep.out)
        text = tables.render(records)
        folder.tables.write_text(text + "\n")
        print(f"\n{text}\n")
        logbook.end(not left, _headline(records), [summary, folder.tables, folder.config])
        print(f"records   {sweep.out / 'records'}\nsummary   {summary}")
    print(f"logs      {folder.log}")
    print(f"MLflow    {_python()} -m mlflow ui --backend-store-uri {shlex.quote(logbook.uri)}")
    print(f"          then http://127.0.0.1:5000/{logbook.runs}")
    if logbook.fault:
        print(f"MLflow could not be written ({logbook.fault}); the same command fills in what it lacks")
    if left:
        print(f"\n{len(left)} of {len(cells)} cells are missing:")
        for cell in left:
            print(f"  {cell}: {failures.get(cell.key, 'not finished')}")
        print("the same command runs what is missing (--retry-failed: those recorded as failed, too)")
    return left


def _headline(records: pd.DataFrame) -> dict[str, float]:
    """Noisy minus exposure a loss, for the parent run in MLflow."""
    rows = difference_by_objective(noisy_minus_exposure(records)).to_dict("records")
    found = {f"noisy_minus_exposure_{row['objective']}_{name}": row[name] for row in rows for name in ("mean", "std")}
    return {name: value for name, value in found.items() if pd.notna(value)}


def _python() -> str:
    """The interpreter as one would type it here."""
    here = Path(sys.executable)
    return str(here.relative_to(Path.cwd())) if here.is_relative_to(Path.cwd()) else str(here)
