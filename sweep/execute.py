"""One command from beginning to end: what is missing is run, everything recorded is shown."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.records import recorded_keys
from analysis.remote import fetch
from datasets.errors import InputError
from datasets.registry import load
from datasets.source import Source
from sweep import logs
from sweep.config import Sweep
from sweep.folder import Folder
from sweep.growing import grown, in_the_end, in_words, most_further, run_growing
from sweep.imagenet import Weights, weights
from sweep.lease import leased
from sweep.lock import alone
from sweep.logbook import Logbook
from sweep.machine import Machine
from sweep.provenance import commit, project_version
from sweep.remote import Store
from sweep.show import Outcome, announce, show, stopped_at_once
from sweep.stopping import Stop
from sweep.terminal import Terminal
from sweep.tidying import tidy
from trainables.cell import Cell
from trainables.recipe import KNOWN, Recipe

if TYPE_CHECKING:
    from sweep.chronicle import Chronicle


def describe(sweep: Sweep) -> int:
    """Print the distinct cells and how many equivalent ones were dropped; nothing is run or written."""
    if sweep.until:
        seen = replace(sweep, out=fetch(sweep.remote)) if sweep.remote else sweep
        sweep, _ = grown(seen.going_on(Folder(seen.root).check(seen)))
    cells = sweep.cells()
    for cell in cells:
        print(f"{cell.key}  {cell}")
    dropped = sweep.points - len(cells)
    print(f"{len(cells)} distinct cells; {dropped} of {sweep.points} combinations equal one of them and are dropped")
    if sweep.until:
        print(f"{most_further(sweep)} more at most, where --until {sweep.until!r} asks for further seeds")
    return 0


def execute(sweep: Sweep, *, address: str | None = None) -> int:
    """Run the cells that are not recorded, then show the results.

    Args:
        sweep: what was asked for.
        address: of a Ray cluster that runs the cells; None: Ray is started here.

    Returns:
        0 if every planned cell is recorded as done; 1 otherwise, each missing cell named with the reason; 130 after
        Ctrl-C, 143 after SIGTERM.

    Raises:
        InputError: the data, the folder or the cluster do not fit, or another sweep runs there.
        RecordsError, StoreError: what lies at the sweep's address cannot be read, or nothing be written there.
    """
    began = time.time()
    store = Store(sweep.root, sweep.remote)
    folder = Folder(sweep.root, store)
    with alone(folder) as here, _alone_there(store) as there:
        if before := there if sweep.remote else here:
            print(f"the sweep that ran here ({before}) was cut off; what it has recorded and checkpointed is used")
        recorded = _recorded(sweep)
        if drafts := tidy(sweep.keeping, recorded, before=began):
            print(f"{drafts} unfinished files of it are removed")
        sweep, looks = grown(sweep.going_on(folder.check(sweep)))
        for line in (in_words(sweep, seen) for seen in looks if recorded):
            print(line)
        cells = sweep.cells()
        missing = _pending(sweep, cells, recorded)
        outcome, left = _execute(sweep, cells, missing, folder, recorded, address)
    if outcome.unwritable:
        remedy = "when that is over," if sweep.remote else "free space, then"
        raise InputError(f"{outcome.unwritable}: {remedy} run the same command again; nothing recorded is lost")
    return outcome.stop.code if outcome.stop else 1 if left else 0


@contextmanager
def _alone_there(store: Store) -> Iterator[str | None]:
    """Where the sweep is at an address: this is its only driver inside, and the folder is as it is there.

    Yields:
        The driver before this one, where it did not end by itself.
    """
    if store.uri is None:
        yield None
        return
    fetch(store.uri, store.root)  # what cannot be reached is said at once
    with leased(store) as before:
        fetch(store.uri, store.root)  # and nobody writes there from now on
        yield before


def _execute(
    sweep: Sweep,
    cells: Sequence[Cell],
    missing: Sequence[Cell],
    folder: Folder,
    recorded: Mapping[str, str],
    address: str | None,
) -> tuple[Outcome, list[Cell]]:
    """Run the missing cells and show the results.

    Args:
        sweep: what was asked for.
        cells: all that are planned.
        missing: those that are to be run.
        folder: where.
        recorded: key -> status of what is recorded there.
        address: of a cluster.

    Returns:
        What they came to, and the cells that are not done.
    """
    # Not beside the start of Ray, which forks: a thread that is inside a matrix product then hangs for ever.
    # What is cheap to refuse comes first: bringing real images into arrays can take long.
    if missing:
        _check(sweep.recipe)
        if address is not None:
            from sweep.joining import check_machines, reached

            address = reached(address)
    imagenet = weights(sweep, cells if missing and sweep.until else missing)
    source = load(sweep.recipe.data, sweep.place, sweep.demands)
    files = [path.resolve() for path in (*source.files, *([imagenet.path] if imagenet else ()))]
    identity = source.fingerprint, imagenet.fingerprint if imagenet else None
    with ExitStack() as stack:
        if missing:
            from sweep.chronicle import Chronicle, machines
            from sweep.cluster import machine, started
            from sweep.settle import settle

        folder.claim(sweep, *identity)
        logs.to_file(folder.log)
        if missing:
            stack.enter_context(started(sweep.engine, address))
            there = machine(sweep.engine.threads, address)
            if address is not None:
                for line in check_machines(None if sweep.remote else sweep.root.resolve(), files):
                    print(line)
            states = {cell.key: recorded.get(cell.key) for cell in cells}
            chronicle = stack.enter_context(Chronicle(folder.progress, states, machines, sent=folder.send_soon))
            if chronicle.note:
                print(chronicle.note)
            sweep, engine = settle(sweep, missing, there)
            folder.claim(sweep, *identity)
        announce(sweep, source)
        logbook = stack.enter_context(Logbook(sweep, folder))
        if recorded:
            logbook.fill(sweep.root, cells)
        if not missing:
            print(_nothing(sweep, cells))
            return Outcome(), _shown(sweep, Outcome(), folder, logbook)
        print(f"engine: {engine}")
        print(_plan(sweep, cells, missing), flush=True)

        def run(sweep: Sweep, missing: Sequence[Cell]) -> Outcome:
            logbook.expect(sweep.cells())
            chronicle.expect(sweep.cells())
            grows = address is not None
            return _run(sweep, missing, source, imagenet, there, folder, logbook, chronicle, grows=grows)

        sweep, outcome = run_growing(sweep, missing, run, lambda larger: folder.claim(larger, *identity))
        chronicle.end()
        if outcome.stop and outcome.stop.at_once:
            stopped_at_once()
            return outcome, list(missing)
        return outcome, _shown(sweep, outcome, folder, logbook)


def _shown(sweep: Sweep, outcome: Outcome, folder: Folder, logbook: Logbook) -> list[Cell]:
    """Show the results, and what --until has come to; returns the cells that are not done."""
    left = show(sweep, sweep.cells(), outcome, folder, logbook)
    if said := in_the_end(sweep):
        print(f"\n{said}")
    return left


def _run(
    sweep: Sweep,
    missing: Sequence[Cell],
    source: Source,
    imagenet: Weights | None,
    machine: Machine,
    folder: Folder,
    logbook: Logbook,
    chronicle: "Chronicle",
    *,
    grows: bool,
) -> Outcome:
    """Run the missing cells; `grows` tells whether machines may join meanwhile."""
    from sweep.launch import launch
    from sweep.recorder import Recorder
    from sweep.watch import Watch

    total = len(sweep.cells())
    terminal = Terminal(total, total - len(missing))
    origin = {
        "commit": commit(),
        "version": project_version(),
        "data": source.fingerprint,
        "source": source.title,
        "task": sweep.recipe.data.task,
    }
    stop = Stop(sweep.keeping.stop, folder.store)
    recorder = Recorder(sweep, source.classes, origin, logbook, terminal, stop, folder.store)
    watch = Watch(sweep.patience, terminal)
    try:
        with stop.listening():
            weights_file = imagenet.path if imagenet else None
            launch(
                sweep,
                missing,
                source,
                weights_file,
                machine,
                recorder,
                watch,
                chronicle,
                stop,
                folder.logs,
                grows=grows,
            )
    except KeyboardInterrupt:
        if not stop.asked:
            raise
    finally:
        terminal.close()
    return Outcome(
        failures=recorder.failures,
        counts=recorder.retries.counts,
        unwritable=recorder.stopped,
        stop=stop if stop.asked else None,
    )


def _check(recipe: Recipe) -> None:
    """Make sure, before anything is run, that the encoder can be built.

    Raises:
        InputError: it cannot, or gives no feature map.
    """
    if recipe.encoder.name not in KNOWN:
        from trainables.encoders import check_encoder  # here, because torch and timm take seconds to import

        check_encoder(recipe.encoder, bands=recipe.data.bands)


def _recorded(sweep: Sweep) -> dict[str, str]:
    """Key -> status of what is recorded; what cannot be read is said."""
    recorded = recorded_keys(sweep.root)
    for path in recorded.unreadable:
        print(f"{path} cannot be read and is not counted as recorded: its cell is run again")
    return dict(recorded.status)


def _pending(sweep: Sweep, cells: Sequence[Cell], recorded: Mapping[str, str]) -> list[Cell]:
    """The cells that have no record; with --retry-failed just those that are recorded as failed."""
    wanted = "failed" if sweep.retry_failed else None
    return [cell for cell in cells if recorded.get(cell.key) == wanted]


def _plan(sweep: Sweep, cells: Sequence[Cell], missing: Sequence[Cell]) -> str:
    if sweep.retry_failed:
        return f"running {len(missing)} of {len(cells)} cells again: those recorded as failed, and no others"
    resumed = len(sweep.keeping.begun() & {cell.key for cell in missing})
    goes_on = f", {resumed} of them from a checkpoint" if resumed else ""
    return f"{len(cells) - len(missing)} of {len(cells)} cells are recorded; running {len(missing)}{goes_on}"


def _nothing(sweep: Sweep, cells: Sequence[Cell]) -> str:
    if sweep.retry_failed:
        return "no cell is recorded as failed; nothing is run (without --retry-failed: what is missing)"
    return f"all {len(cells)} cells are recorded already; nothing is run"
