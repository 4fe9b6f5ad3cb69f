"""One command from beginning to end: what is missing is run, everything recorded is shown."""

from collections.abc import Sequence
from contextlib import ExitStack

from analysis.records import recorded_keys
from datasets.errors import InputError
from datasets.registry import load
from datasets.source import Source
from sweep import logs
from sweep.config import Sweep
from sweep.folder import Folder
from sweep.imagenet import Weights, weights
from sweep.logbook import Logbook
from sweep.provenance import commit, project_version
from sweep.show import announce, show
from sweep.status import Status
from trainables.cell import Cell
from trainables.recipe import KNOWN, Recipe


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
    cells = sweep.cells()
    missing = _pending(sweep, cells)
    folder = Folder(sweep.out)
    sweep = sweep.going_on(folder.check(sweep))
    # Not beside the start of Ray, which forks: a thread that is inside a matrix product then hangs for ever.
    # What is cheap to refuse comes first: bringing real images into arrays can take long.
    if missing:
        _check(sweep.recipe)
    imagenet = weights(sweep, missing)
    source = load(sweep.recipe.data, sweep.place, sweep.demands)
    identity = source.fingerprint, imagenet.fingerprint if imagenet else None
    with ExitStack() as stack:
        if missing:
            from sweep.cluster import machine, started
            from sweep.settle import settle

        folder.claim(sweep, *identity)
        logs.to_file(folder.log)
        if missing:
            stack.enter_context(started(sweep.engine))
            sweep, engine = settle(sweep, missing, machine())
            folder.claim(sweep, *identity)
        announce(sweep, source)
        logbook = stack.enter_context(Logbook(sweep, folder))
        if len(missing) < len(cells):
            logbook.fill(sweep.out, cells)
        if not missing:
            print(f"all {len(cells)} cells are recorded already; nothing is run")
            return 1 if show(sweep, cells, {}, folder, logbook) else 0
        print(f"engine: {engine}")
        print(f"{len(cells) - len(missing)} of {len(cells)} cells are recorded; running {len(missing)}", flush=True)
        failures, interrupted, unwritable = _run(sweep, missing, len(cells), source, imagenet, folder, logbook)
        left = show(sweep, cells, failures, folder, logbook)
    if unwritable:
        raise InputError(f"{unwritable}: free space, then run the same command again; nothing recorded is lost")
    return 130 if interrupted else 1 if left else 0


def _run(
    sweep: Sweep,
    missing: Sequence[Cell],
    total: int,
    source: Source,
    imagenet: Weights | None,
    folder: Folder,
    logbook: Logbook,
) -> tuple[dict[str, str], bool, str | None]:
    """Run the missing cells.

    Returns:
        Why some gave no result, by key; whether the user stopped the sweep; why records could not be written, if so.
    """
    from sweep.launch import launch
    from sweep.recorder import Recorder

    status = Status(total, total - len(missing))
    origin = {
        "commit": commit(),
        "version": project_version(),
        "data": source.fingerprint,
        "source": source.title,
        "task": sweep.recipe.data.task,
    }
    recorder = Recorder(sweep, source.classes, origin, logbook, status)
    interrupted = False
    try:
        launch(sweep, missing, source, imagenet.path if imagenet else None, recorder, folder.logs)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        status.close()
    return recorder.failures, interrupted, recorder.stopped


def _check(recipe: Recipe) -> None:
    """Make sure, before anything is run, that the encoder can be built.

    Raises:
        InputError: it cannot, or gives no feature map.
    """
    if recipe.encoder.name not in KNOWN:
        from trainables.encoders import check_encoder  # here, because torch and timm take seconds to import

        check_encoder(recipe.encoder, bands=recipe.data.bands)


def _pending(sweep: Sweep, cells: Sequence[Cell]) -> list[Cell]:
    """The cells that have no record, and with --retry-failed those that are recorded as failed."""
    recorded = recorded_keys(sweep.out)
    for path in recorded.unreadable:
        print(f"{path} cannot be read and is not counted as recorded: its cell is run again")
    counts = {"done"} if sweep.retry_failed else {"done", "failed"}
    return [cell for cell in cells if recorded.status.get(cell.key) not in counts]
