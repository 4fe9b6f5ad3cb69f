"""What a command prints: the sweep and its data at the start, the results and the missing cells at the end."""

import logging
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from analysis import tables
from analysis.names import LEVEL
from analysis.records.io import compact, read_records, recorded_keys
from analysis.records.studies import studies
from analysis.stats.differences import noisy_minus_exposure
from analysis.stats.inference import by_objective
from analysis.text import failure_reason
from datasets.errors import describe_error
from datasets.source import Source
from sweep.adaptive_seeds import final_lines
from sweep.config.sweep import Sweep
from sweep.storage.run_dir import RunDir
from sweep.tracking.background import BackgroundTracking
from sweep.tune.outcome import Outcome
from trainables.cell import Cell

log = logging.getLogger(__name__)


def announce(sweep: Sweep, sources: Collection[Source]) -> None:
    """Print the sweep's name, folder and data."""
    print(f"{sweep.preset} in {sweep.out}, on {' and '.join(dict.fromkeys(source.title for source in sources))}")
    for name, *values in sweep.vary:
        print(f"varied: {name} {' '.join(values)}")
    for note in dict.fromkeys(note for source in sources for note in source.notes):
        print(note)


def summarize(sweep: Sweep, outcome: Outcome, run_dir: RunDir, tracking: BackgroundTracking) -> list[Cell]:
    """Print the results, their files and the missing cells, and log them to MLflow.

    Returns:
        The planned cells that are not done.

    Raises:
        StoreError: the tables cannot be written at the sweep's address.
    """
    cells = sweep.cells()
    done = {key for key, status in recorded_keys(run_dir.root).status.items() if status == "done"}
    left = [cell for cell in cells if cell.key not in done]
    if done:
        summary = compact(run_dir.root)
        records = read_records(run_dir.root)
        text = tables.render(records, level=sweep.grown.level)
        run_dir.tables.write_text(text + "\n")
        print(f"\n{text}\n")
        artifacts = [summary, run_dir.tables, run_dir.config]
        if outcome.stop is None:  # otherwise there is no time for it
            artifacts += _write_report(run_dir) if sweep.report else []
            tracking.fill_again()
            tracking.end(not left, parent_metrics(records, sweep.grown.level) | dict(outcome.forecast), artifacts)
        if outcome.unwritable is None:
            run_dir.send(*artifacts)
        print(f"records   {run_dir.name}/records\nsummary   {run_dir.name_of(summary)}")
        if run_dir.report in artifacts:
            print(f"report    {run_dir.name_of(run_dir.report)}\nfigures   {run_dir.name_of(run_dir.figures)}")
    if outcome.unwritable is None:
        run_dir.send(run_dir.log, run_dir.progress, run_dir.plan)
    print(f"logs      {run_dir.name_of(run_dir.log)}")
    print(f"MLflow    {python_command()} -m mlflow ui --backend-store-uri {shlex.quote(tracking.uri)}")
    print(f"          then http://127.0.0.1:5000/{tracking.runs}")
    if tracking.fault:
        print(
            f"MLflow could not be written ({tracking.fault}); the same command fills in the missing runs, and so does "
            f"{python_command()} -m sweep.sync {shlex.quote(str(sweep.out))}"
        )
    if any(outcome.counts.values()):
        print("problems: " + ", ".join(f"{count} x {kind}" for kind, count in sorted(outcome.counts.items())))
    if left:
        _print_missing(sweep, left, outcome, run_dir)
    if text := final_lines(sweep):
        print(f"\n{text}")
    return left


def _print_missing(sweep: Sweep, left: Sequence[Cell], outcome: Outcome, run_dir: RunDir) -> None:
    """Print each cell that is not done with its reason, and how to continue."""
    failed = recorded_errors(run_dir.root)
    begun = set() if run_dir.uri and outcome.unwritable else run_dir.cells_with_checkpoints()
    print(f"\n{len(left)} of {len(sweep.cells())} cells are missing:")
    for cell in left:
        reason = outcome.failures.get(cell.key) or failure_reason(failed.get(cell.key, "")) or "not finished"
        print(f"  {cell}: {reason}" + (", has a checkpoint" if cell.key in begun else ""))
    again = sum(cell.key in failed for cell in left)
    if again < len(left):
        print("the same command runs the missing cells" + (", from their checkpoints" if begun else ""))
    if again:
        print(f"with --retry-failed it runs only the failed cells ({again}) once more")
    if outcome.stop:
        print(f"to continue: {_command()}")


def recorded_errors(root: Path) -> dict[str, str]:
    """Key -> why the cell is recorded as failed."""
    if "failed" not in recorded_keys(root).status.values():
        return {}
    records = read_records(root)
    failed = records[records["status"] == "failed"]
    return dict(zip(failed["key"], failed["error"], strict=True))


def print_stopped() -> None:
    """Print how to continue after a sweep that was stopped at once."""
    print(f"stopped; to continue: {_command()}", flush=True)


def _write_report(run_dir: RunDir) -> list[Path]:
    """Draw the figures, write the report, and print how many of the paper's claims the records support.

    An error is printed and does not end the sweep, because the records are complete.

    Returns:
        The files and folders that it wrote.
    """
    # Here, because matplotlib takes a second to import.
    from analysis.claims import count_verdicts
    from analysis.figures import draw_all, save_figures
    from analysis.findings.verdicts import judge
    from analysis.records.merge import read_sweeps
    from analysis.report.page import html_page

    try:
        joined = read_sweeps([run_dir.root])
        print(f"the paper's claims: {count_verdicts(judge(joined.records, level=joined.level))}; see the report\n")
        drawn = draw_all(joined.records, joined.folders)
        save_figures(drawn, run_dir.figures)
        run_dir.report.write_text(html_page(joined, drawn), encoding="utf-8")
    except Exception as error:  # any error: the records are complete
        log.exception("the report could not be written")
        print(f"the report could not be written: {describe_error(error)}; see {run_dir.log}")
        return []
    return [run_dir.report, run_dir.figures]


def parent_metrics(records: pd.DataFrame, level: float = LEVEL) -> dict[str, float]:
    """Noisy minus exposure of each loss, with its interval over seeds, for the parent run in MLflow."""
    found: dict[str, float] = {}
    for study in studies(records):
        rows = by_objective(noisy_minus_exposure(study.records, study.metric), level=level).to_dict("records")
        ending = "".join(f"_{name}_{value}" for name, value in study.settings)
        for row in rows:
            found |= {
                f"noisy_minus_exposure_{row['objective']}{ending}_{name}": row[name]
                for name in ("mean", "std", "low", "high")
            }
    return {name: value for name, value in found.items() if pd.notna(value)}


def python_command() -> str:
    """The path of the Python interpreter, as a user types it in the current folder."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _command() -> str:
    """The command as the user typed it."""
    return shlex.join([python_command(), "-m", "sweep.run", *sys.argv[1:]])
