"""What a command prints: the sweep and its data at the start, the results and the missing cells at the end."""

import logging
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from analysis import tables
from analysis.records.io import compact, read_records, recorded_keys
from analysis.text import describe_error, failure_reason, first_few, without_secrets
from datasets.errors import InputError
from datasets.source import Settings, Source, aimed
from sweep.config.sweep import Sweep
from sweep.monitor.progress import typed_command
from sweep.planning.adaptive_seeds import final_lines
from sweep.storage.run_dir import RunDir
from sweep.tracking.background import BackgroundTracking
from sweep.tracking.connection import is_server
from sweep.tracking.parent_metrics import parent_metrics
from sweep.tune.outcome import Outcome
from trainables.cell import Cell

log = logging.getLogger(__name__)

AGAIN = "free space or mend the cause, then run the same command again"


def announce(sweep: Sweep, sources: Mapping[Settings, Source]) -> None:
    """Print the sweep's name, folder and data, as its probes see them."""
    seen = [aimed(sources[recipe.data], recipe.probe.target) for recipe in sweep.recipes.values()]
    titles = dict.fromkeys(source.title for source in seen)
    print(f"{sweep.preset} in {sweep.out}, on {first_few(titles, 2, ' and ')}")
    for name, *values in sweep.vary:
        print(f"varied: {name} {' '.join(values)}")
    for note in dict.fromkeys(note for source in seen for note in source.notes):
        print(note)


@contextmanager
def last_step(problem: str, failed: list[str] | None = None) -> Iterator[None]:
    """Context manager of a step after the last cell: if it fails, it says so in one line, and the others follow.

    Args:
        problem: what the user reads if it fails, before the reason.
        failed: collects that text instead of printing it, if the command fails with the step.
    """
    try:
        yield
    except Exception as error:  # any error: the records are complete, and the user must learn where they are
        log.exception(problem)
        text = f"{problem}: {describe_error(error)}"
        if failed is None:
            print(f"{text}; the log tells more")
        else:
            failed.append(text)


def summarize(sweep: Sweep, outcome: Outcome, run_dir: RunDir, tracking: BackgroundTracking) -> list[Cell]:
    """Print the results, their files and the missing cells, and log them to MLflow.

    Returns:
        The planned cells that are not done.

    Raises:
        InputError: a result could not be written. Everything else was printed before.
    """
    cells = sweep.cells()
    done = {key for key, status in recorded_keys(run_dir.root).status.items() if status == "done"}
    left = [cell for cell in cells if cell.key not in done]
    failed: list[str] = []
    artifacts = _write_results(sweep, outcome, run_dir, tracking, complete=not left, failed=failed) if done else []
    if outcome.unwritable is None:
        with last_step("the results could not be sent", failed):
            run_dir.send(*artifacts, run_dir.log, run_dir.progress, run_dir.plan)
    if done:
        print(f"records   {run_dir.name}/records")
    for name, path in {"summary": run_dir.summary, "report": run_dir.report, "figures": run_dir.figures}.items():
        if path in artifacts:
            print(f"{name:<10}{run_dir.name_of(path)}")
    print(f"logs      {run_dir.name_of(run_dir.log)}")
    print_mlflow(tracking)
    if tracking.fault:
        print(
            f"MLflow could not be written ({tracking.fault}); the same command fills in the missing runs, and so does "
            f"{python_command()} -m sweep.sync {shlex.quote(str(sweep.out))}"
        )
    if any(outcome.counts.values()):
        print("problems: " + ", ".join(f"{count} x {kind}" for kind, count in sorted(outcome.counts.items())))
    if left:
        # An address that has just failed would be asked again for a minute.
        asks = not (run_dir.uri and (outcome.unwritable or failed))
        _print_missing(sweep, left, outcome, run_dir, asks=asks)
    with last_step("the seeds of --until cannot be summarised"):
        if text := final_lines(sweep):
            print(f"\n{text}")
    if outcome.unwritable is None:
        refuse_if(failed)
    for problem in failed:  # the driver refuses, because records could not be written
        print(problem)
    return left


def refuse_if(failed: Sequence[str]) -> None:
    """Raise InputError if any of the last steps has failed, which collected these texts."""
    if failed:
        raise InputError(f"{'; '.join(failed)}: {AGAIN}; no record is lost")


def _write_results(
    sweep: Sweep,
    outcome: Outcome,
    run_dir: RunDir,
    tracking: BackgroundTracking,
    *,
    complete: bool,
    failed: list[str],
) -> list[Path]:
    """Print the tables, write the results, and end the sweep's run in MLflow.

    Returns:
        The files and folders that it wrote. `failed` gets what could not be written.
    """
    artifacts = [run_dir.config]
    metrics: dict[str, float | Mapping[int, float]] = dict(outcome.forecast)
    records: pd.DataFrame | None = None
    with last_step("the summary could not be written", failed):
        artifacts.append(compact(run_dir.root))
    with last_step("the tables could not be written", failed):
        records = read_records(run_dir.root)
        text = tables.render(records, level=sweep.grown.level)
        print(f"\n{text}\n")
        run_dir.tables.write_text(text + "\n")
        artifacts.append(run_dir.tables)
    if outcome.stop is None:  # otherwise there is no time for it
        if sweep.report:
            with last_step("the report could not be written"):
                artifacts += _write_report(run_dir)
        if records is not None:
            with last_step("the differences could not be computed for MLflow"):
                metrics |= parent_metrics(records, sweep.grown.level)
        tracking.fill_again()
        tracking.end(complete, metrics, artifacts)
    return artifacts


def print_mlflow(tracking: BackgroundTracking) -> None:
    """Print where the runs are: their page on the server, or the command that shows a database, and then the page."""
    shown = without_secrets(tracking.uri)
    if is_server(tracking.uri):
        print(f"MLflow    {shown.rstrip('/')}/{tracking.runs}")
        return
    database = shlex.quote(shown) if shown == tracking.uri else '"$MLFLOW_TRACKING_URI"'  # the secret is not printed
    print(f"MLflow    {python_command()} -m mlflow ui --backend-store-uri {database}")
    print(f"          then http://127.0.0.1:5000/{tracking.runs}")


def _print_missing(sweep: Sweep, left: Sequence[Cell], outcome: Outcome, run_dir: RunDir, *, asks: bool) -> None:
    """Print each missing cell with its reason, and how to continue; `asks`: whether to look for checkpoints."""
    failed: dict[str, str] = {}
    begun: set[str] = set()
    with last_step("the reasons of failed cells cannot be read"):
        failed = recorded_errors(run_dir.root)
    if asks:
        with last_step("checkpoints cannot be listed"):
            begun = run_dir.cells_with_checkpoints()
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
        print(f"to continue: {_command(run_dir)}")


def recorded_errors(root: Path) -> dict[str, str]:
    """Key -> why the cell is recorded as failed."""
    if "failed" not in recorded_keys(root).status.values():
        return {}
    records = read_records(root)
    failed = records[records["status"] == "failed"]
    return dict(zip(failed["key"], failed["error"], strict=True))


def print_shared(run_dir: RunDir, planned: int, recorded: int, others: int) -> None:
    """Print that other commands have the rest of the cells."""
    who = "another command has" if others == 1 else f"{others} other commands have"
    print(f"\n{recorded} of {planned} cells are recorded; {who} the rest, and the last one shows the results")
    print(f"records   {run_dir.name}/records\nlogs      {run_dir.name_of(run_dir.log)}")


def print_stopped(run_dir: RunDir) -> None:
    """Print how to continue after a sweep that was stopped at once."""
    print(f"stopped; to continue: {_command(run_dir)}", flush=True)


def _write_report(run_dir: RunDir) -> list[Path]:
    """Draw the figures, write the report, and print how many of the paper's claims the records support.

    Returns:
        The files and folders that it wrote.
    """
    # Here, because matplotlib takes a second to import.
    from analysis.claims import count_verdicts
    from analysis.figures import draw_all, save_figures
    from analysis.findings.verdicts import judge
    from analysis.records.merge import read_sweeps
    from analysis.report.page import html_page

    joined = read_sweeps([run_dir.root])
    print(f"the paper's claims: {count_verdicts(judge(joined.records, level=joined.level))}; see the report\n")
    drawn = draw_all(joined.records, joined.folders)
    save_figures(drawn, run_dir.figures)
    run_dir.report.write_text(html_page(joined, drawn), encoding="utf-8")
    return [run_dir.report, run_dir.figures]


def python_command() -> str:
    """The path of the Python interpreter, as a user types it in the current folder."""
    path = Path(sys.executable)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _command(run_dir: RunDir) -> str:
    """The command as the user typed it, or one that continues a call from Python."""
    return shlex.join([python_command(), "-m", *typed_command(run_dir)])
