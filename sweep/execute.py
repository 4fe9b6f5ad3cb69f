"""One command from beginning to end: what is missing is run, everything recorded is shown."""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from analysis import tables
from analysis.differences import difference_by_objective, noisy_minus_exposure
from analysis.errors import RecordsError
from analysis.records import compact, read_curves, read_records, recorded_keys
from datasets.errors import InputError
from datasets.textures import TextureBank
from datasets.vts import CLASSES, load_textures
from sweep import logs
from sweep.config import Sweep
from sweep.folder import Folder
from sweep.provenance import commit, project_version
from sweep.status import Status
from sweep.tracking import TRACKING_ERRORS, Tracking, connect
from trainables.cell import Cell
from trainables.encoders import check_encoder


def describe(sweep: Sweep) -> int:
    """Print the distinct cells and how many equivalent ones were dropped; nothing is run or written."""
    cells = sweep.cells()
    for cell in cells:
        print(f"{cell.key}  {cell}")
    dropped = sweep.axes.points - len(cells)
    print(
        f"{len(cells)} distinct cells; {dropped} of {sweep.axes.points} combinations equal one of them and are dropped"
    )
    return 0


def execute(sweep: Sweep) -> int:
    """Run the cells that are not recorded, then show the results.

    Returns:
        0 if every planned cell is recorded as done; 1 otherwise, each missing cell named with the reason; 130 after
        Ctrl-C.

    Raises:
        InputError: the data or the folder do not fit.
    """
    bank = load_textures(sweep.recipe.vts, sweep.data_root, download=sweep.download)
    cells = sweep.cells()
    missing = _pending(sweep, cells)
    if missing:
        check_encoder(sweep.recipe.encoder)
    folder = Folder(sweep.out)
    folder.claim(sweep, bank.fingerprint)
    logs.to_file(folder.log)
    logs.redirect("mlflow", "alembic")
    _announce(sweep, bank)
    elsewhere = os.environ.get("MLFLOW_TRACKING_URI")
    tracking = connect(elsewhere or folder.mlflow_uri, sweep, own=not elsewhere)
    _try_tracking(lambda: _fill_tracking(tracking, sweep, cells))
    if not missing:
        print(f"all {len(cells)} cells are recorded already; nothing is run")
        return 1 if _show(sweep, cells, {}, folder, tracking) else 0
    print(f"{len(cells) - len(missing)} of {len(cells)} cells are recorded; running {len(missing)}", flush=True)
    failures, interrupted, unwritable = _run(sweep, missing, len(cells), bank, folder, tracking)
    left = _show(sweep, cells, failures, folder, tracking)
    if unwritable:
        raise InputError(f"{unwritable}: free space, then run the same command again; nothing recorded is lost")
    return 130 if interrupted else 1 if left else 0


def _run(
    sweep: Sweep, missing: Sequence[Cell], total: int, bank: TextureBank, folder: Folder, tracking: Tracking
) -> tuple[dict[str, str], bool, str | None]:
    """Run the missing cells.

    Returns:
        Why some gave no result, by key; whether the user stopped the sweep; why records could not be written, if so.
    """
    # Ray takes seconds to import and is not needed to show results.
    from sweep.launch import launch
    from sweep.recorder import Recorder

    status = Status(total, total - len(missing))
    origin = {
        "commit": commit(),
        "version": project_version(),
        "data": bank.fingerprint,
        "source": f"{bank.source} textures ({', '.join(bank.categories)})",
    }
    recorder = Recorder(sweep, CLASSES, origin, tracking, status)
    interrupted = False
    try:
        launch(sweep, missing, bank, recorder, folder.logs)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        status.close()
    if recorder.untracked:
        print(f"MLflow could not be written ({recorder.untracked}); the same command fills in what it lacks")
    return recorder.failures, interrupted, recorder.stopped


def _pending(sweep: Sweep, cells: Sequence[Cell]) -> list[Cell]:
    """The cells that have no record, and with --retry-failed those that are recorded as failed."""
    recorded = recorded_keys(sweep.out)
    for path in recorded.unreadable:
        print(f"{path} cannot be read and is not counted as recorded: its cell is run again")
    counts = {"done"} if sweep.retry_failed else {"done", "failed"}
    return [cell for cell in cells if recorded.status.get(cell.key) not in counts]


def _fill_tracking(tracking: Tracking, sweep: Sweep, cells: Sequence[Cell]) -> None:
    """Give cells that were recorded, but never finished in MLflow, the run they lack."""
    recorded = recorded_keys(sweep.out).status
    ended = tracking.ended()
    lacking = {c.key: c for c in cells if c.key in recorded and c.key not in ended}
    if not lacking:
        return
    curves = read_curves(sweep.out).groupby("key")[["stage", "step", "name", "value"]]
    points = {key: list(part.itertuples(index=False, name=None)) for key, part in curves}
    for row in read_records(sweep.out).to_dict("records"):
        if cell := lacking.get(str(row["key"])):
            tracking.curves(cell, points.get(cell.key, []))
            tracking.finish(cell, {str(name): value for name, value in row.items()})


def _try_tracking(write: Callable[[], None]) -> None:
    """Write to MLflow; a fault there is told and loses nothing, for the records are complete."""
    try:
        write()
    except (*TRACKING_ERRORS, RecordsError) as error:  # the latter: curves that are gone or damaged
        print(f"MLflow could not be written ({' '.join(str(error).split())[:200]}): the same command fills it")


def _show(
    sweep: Sweep, cells: Sequence[Cell], failures: dict[str, str], folder: Folder, tracking: Tracking
) -> list[Cell]:
    """Print and log tables, places and what is missing; returns the planned cells that are not done."""
    done = {key for key, status in recorded_keys(sweep.out).status.items() if status == "done"}
    left = [cell for cell in cells if cell.key not in done]
    if done:
        summary = compact(sweep.out)
        records = read_records(sweep.out)
        text = tables.render(records)
        folder.tables.write_text(text + "\n")
        print(f"\n{text}\n")
        _try_tracking(lambda: tracking.end(not left, _headline(records), [summary, folder.tables, folder.config]))
        print(f"records   {sweep.out / 'records'}\nsummary   {summary}")
    print(f"logs      {folder.log}")
    print(f"MLflow    {_python()} -m mlflow ui --backend-store-uri {shlex.quote(tracking.uri)}")
    # MLflow's own first page is about language models.
    print(
        f"          then http://127.0.0.1:5000/#/experiments/{tracking.experiment}/runs?workflowType=machine_learning"
    )
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


def _announce(sweep: Sweep, bank: TextureBank) -> None:
    """Say what is about to be run, and on what."""
    kind = "procedural textures made in memory" if bank.source == "procedural" else f"{bank.source} textures"
    print(f"{sweep.preset} in {sweep.out}, on {kind} ({', '.join(bank.categories)})")
    if bank.source == "folder":
        print("these are not DTD's images: results on them are not results on DTD")
    if bank.enlarged:
        print(f"{bank.enlarged} texture images were smaller than a scene and have been resized up")
