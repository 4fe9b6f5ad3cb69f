"""What a command says: at the beginning what it runs, at the end what was found and what is missing."""

import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis import tables
from analysis.comparisons import by_objective
from analysis.differences import noisy_minus_exposure
from analysis.records import compact, read_records, recorded_keys
from analysis.studies import headline
from datasets.source import Source
from sweep.config import Sweep
from sweep.folder import Folder
from sweep.logbook import Logbook
from trainables.cell import Cell

log = logging.getLogger(__name__)


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
        artifacts = [summary, folder.tables, folder.config, *(_report(folder) if sweep.report else [])]
        logbook.end(not left, _headline(records), artifacts)
        print(f"records   {sweep.out / 'records'}\nsummary   {summary}")
        if folder.report in artifacts:
            print(f"report    {folder.report}\nfigures   {folder.figures}")
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


def _report(folder: Folder) -> list[Path]:
    """Draw the figures and write the report; print which of the paper's sentences the records support.

    What is wrong with them is said and costs nothing that is recorded.
    """
    # Here, because matplotlib takes a second to import.
    from analysis.claims import count_verdicts
    from analysis.figures import draw_all, save
    from analysis.joining import read_sweeps
    from analysis.judging import judge
    from analysis.report import html

    try:
        joined = read_sweeps([folder.root])
        print(f"the paper's sentences: {count_verdicts(judge(joined.records))}; see the report\n")
        drawn = draw_all(joined.records, joined.folders)
        save(drawn, folder.figures)
        folder.report.write_text(html(joined, drawn), encoding="utf-8")
    except Exception as error:  # whatever it is: the sweep has ended well, and its records are complete
        log.exception("the report could not be made")
        print(f"the report could not be made: {' '.join(str(error).split()) or type(error).__name__}; see {folder.log}")
        return []
    return [folder.report, folder.figures]


def _headline(records: pd.DataFrame) -> dict[str, float]:
    """Noisy minus exposure a loss, with its interval over seeds, for the parent run in MLflow."""
    rows = by_objective(noisy_minus_exposure(records, headline(records))).to_dict("records")
    names = ("mean", "std", "low", "high")
    found = {f"noisy_minus_exposure_{row['objective']}_{name}": row[name] for row in rows for name in names}
    return {name: value for name, value in found.items() if pd.notna(value)}


def _python() -> str:
    """The interpreter as one would type it here."""
    here = Path(sys.executable)
    return str(here.relative_to(Path.cwd())) if here.is_relative_to(Path.cwd()) else str(here)
