"""What a command says: at the beginning what it runs, at the end what was found and what is missing."""

import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from analysis import tables
from analysis.names import LEVEL
from analysis.records.io import compact, read_records, recorded_keys
from analysis.records.studies import headline
from analysis.stats.differences import noisy_minus_exposure
from analysis.stats.inference import by_objective
from analysis.text import failure_reason
from datasets.source import Source
from sweep.config.sweep import Sweep
from sweep.storage.run_dir import Folder
from sweep.tracking.background import Logbook
from sweep.tune.outcome import Outcome
from trainables.cell import Cell

log = logging.getLogger(__name__)


def announce(sweep: Sweep, source: Source) -> None:
    """Say what is about to be run, and on what."""
    print(f"{sweep.preset} in {sweep.out}, on {source.title}")
    for note in source.notes:
        print(note)


def show(sweep: Sweep, cells: Sequence[Cell], outcome: Outcome, folder: Folder, logbook: Logbook) -> list[Cell]:
    """Print and log tables, places and what is missing; returns the planned cells that are not done.

    Raises:
        StoreError: the tables cannot be written at the sweep's address.
    """
    done = {key for key, status in recorded_keys(sweep.root).status.items() if status == "done"}
    left = [cell for cell in cells if cell.key not in done]
    if done:
        summary = compact(sweep.root)
        records = read_records(sweep.root)
        text = tables.render(records)
        folder.tables.write_text(text + "\n")
        print(f"\n{text}\n")
        artifacts = [summary, folder.tables, folder.config]
        if outcome.stop is None:  # else there is no time for it
            artifacts += _report(folder) if sweep.report else []
            logbook.fill_again()
            logbook.end(not left, parent_metrics(records, sweep.grown.level) | dict(outcome.forecast), artifacts)
        if outcome.unwritable is None:
            folder.send(*artifacts)
        print(f"records   {folder.name}/records\nsummary   {_shown(folder, summary)}")
        if folder.report in artifacts:
            print(f"report    {_shown(folder, folder.report)}\nfigures   {_shown(folder, folder.figures)}")
    if outcome.unwritable is None:
        folder.send(folder.log, folder.progress, folder.plan)
    print(f"logs      {_shown(folder, folder.log)}")
    print(f"MLflow    {python()} -m mlflow ui --backend-store-uri {shlex.quote(logbook.uri)}")
    print(f"          then http://127.0.0.1:5000/{logbook.runs}")
    if logbook.fault:
        print(
            f"MLflow could not be written ({logbook.fault}); the same command fills in what it lacks, and so does "
            f"{python()} -m sweep.sync {shlex.quote(str(sweep.out))}"
        )
    if any(outcome.counts.values()):
        print("went wrong: " + ", ".join(f"{count} x {kind}" for kind, count in sorted(outcome.counts.items())))
    if left:
        _say_what_is_missing(sweep, cells, left, outcome)
    return left


def _say_what_is_missing(sweep: Sweep, cells: Sequence[Cell], left: Sequence[Cell], outcome: Outcome) -> None:
    """Each cell that is not done with the reason, and how to go on."""
    failed = recorded_errors(sweep.root)
    begun = set() if sweep.remote and outcome.unwritable else sweep.keeping.begun()
    print(f"\n{len(left)} of {len(cells)} cells are missing:")
    for cell in left:
        reason = outcome.failures.get(cell.key) or failure_reason(failed.get(cell.key, "")) or "not finished"
        print(f"  {cell}: {reason}" + (", has a checkpoint" if cell.key in begun else ""))
    again = sum(cell.key in failed for cell in left)
    if again < len(left):
        print("the same command runs what is missing" + (", from the checkpoints that there are" if begun else ""))
    if again:
        print(f"with --retry-failed it runs just those recorded as failed ({again}) once more")
    if outcome.stop:
        print(f"to go on: {_command()}")


def _shown(folder: Folder, path: Path) -> str:
    """Where something of the folder is found: at its address, if it has one."""
    return f"{folder.name}/{path.relative_to(folder.root).as_posix()}"


def recorded_errors(folder: Path) -> dict[str, str]:
    """Why cells are recorded as failed, by key."""
    if "failed" not in recorded_keys(folder).status.values():
        return {}
    records = read_records(folder)
    failed = records[records["status"] == "failed"]
    return dict(zip(failed["key"], failed["error"], strict=True))


def stopped_at_once() -> None:
    """The last words of a sweep that had no time for more."""
    print(f"stopped; to go on: {_command()}", flush=True)


def _report(folder: Folder) -> list[Path]:
    """Draw the figures and write the report; print which of the paper's sentences the records support.

    What is wrong with them is said and costs nothing that is recorded.
    """
    # Here, because matplotlib takes a second to import.
    from analysis.claims import count_verdicts
    from analysis.figures import draw_all, save_figures
    from analysis.findings.verdicts import judge
    from analysis.records.merge import read_sweeps
    from analysis.report.page import html_page

    try:
        joined = read_sweeps([folder.root])
        print(f"the paper's sentences: {count_verdicts(judge(joined.records, level=joined.level))}; see the report\n")
        drawn = draw_all(joined.records, joined.folders)
        save_figures(drawn, folder.figures)
        folder.report.write_text(html_page(joined, drawn), encoding="utf-8")
    except Exception as error:  # whatever it is: the sweep has ended well, and its records are complete
        log.exception("the report could not be made")
        print(f"the report could not be made: {' '.join(str(error).split()) or type(error).__name__}; see {folder.log}")
        return []
    return [folder.report, folder.figures]


def parent_metrics(records: pd.DataFrame, level: float = LEVEL) -> dict[str, float]:
    """Noisy minus exposure a loss, with its interval over seeds, for the parent run in MLflow."""
    rows = by_objective(noisy_minus_exposure(records, headline(records)), level=level).to_dict("records")
    names = ("mean", "std", "low", "high")
    found = {f"noisy_minus_exposure_{row['objective']}_{name}": row[name] for row in rows for name in names}
    return {name: value for name, value in found.items() if pd.notna(value)}


def python() -> str:
    """The interpreter as one would type it here."""
    here = Path(sys.executable)
    return str(here.relative_to(Path.cwd())) if here.is_relative_to(Path.cwd()) else str(here)


def _command() -> str:
    """What was typed."""
    return shlex.join([python(), "-m", "sweep.run", *sys.argv[1:]])
