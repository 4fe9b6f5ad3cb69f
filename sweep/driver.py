"""One command from beginning to end: what is missing is run, everything recorded is shown."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from analysis.records.remote import fetch
from datasets.errors import InputError
from datasets.registry import load
from sweep import logs
from sweep.adaptive_seeds import grown, in_the_end, in_words, most_further, run_growing
from sweep.config.sweep import Sweep
from sweep.planning.retrospect import Circumstances, Hindsight
from sweep.prepare import check_encoder, entered, machine_for, pending, recorded_here, weights
from sweep.storage.cleanup import tidy
from sweep.storage.run_dir import Folder
from sweep.summarize import announce, show, stopped_at_once
from sweep.tracking.background import Logbook
from sweep.tune.outcome import Outcome
from sweep.tune.runner import run_cells
from trainables.cell import Cell


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
    with entered(sweep) as (folder, before):
        if before:
            print(f"the sweep that ran here ({before}) was cut off; what it has recorded and checkpointed is used")
        recorded = recorded_here(sweep)
        if drafts := tidy(sweep.keeping, recorded, before=began):
            print(f"{drafts} unfinished files of it are removed")
        sweep, looks = grown(sweep.going_on(folder.check(sweep)))
        for line in (in_words(sweep, seen) for seen in looks if recorded):
            print(line)
        cells = sweep.cells()
        missing = pending(sweep, cells, recorded)
        hindsight = Hindsight(folder.root, began)
        outcome, left = _execute(sweep, cells, missing, folder, recorded, hindsight, address)
    if outcome.unwritable:
        remedy = "when that is over," if sweep.remote else "free space, then"
        raise InputError(f"{outcome.unwritable}: {remedy} run the same command again; nothing recorded is lost")
    return outcome.stop.code if outcome.stop else 1 if left else 0


def _execute(
    sweep: Sweep,
    cells: Sequence[Cell],
    missing: Sequence[Cell],
    folder: Folder,
    recorded: Mapping[str, str],
    hindsight: Hindsight,
    address: str | None,
) -> tuple[Outcome, list[Cell]]:
    """Run the missing cells and show the results.

    Args:
        sweep: what was asked for.
        cells: all that are planned.
        missing: those that are to be run.
        folder: where.
        recorded: key -> status of what is recorded there.
        hindsight: holds the plan, if there is one, against what happens.
        address: of a cluster.

    Returns:
        What they came to, and the cells that are not done.
    """
    # Not beside the start of Ray, which forks: a thread that is inside a matrix product then hangs for ever.
    # What is cheap to refuse comes first: bringing real images into arrays can take long.
    if missing:
        check_encoder(sweep.recipe)
        if address is not None:
            from sweep.cluster.join import resolve_address

            address = resolve_address(address)
    imagenet = weights(sweep, cells if missing and sweep.until else missing)
    source = load(sweep.recipe.data, sweep.place, sweep.demands)
    files = [path.resolve() for path in (*source.files, *([imagenet.path] if imagenet else ()))]
    identity = source.fingerprint, imagenet.fingerprint if imagenet else None
    with ExitStack() as stack:
        folder.claim(sweep, *identity)
        logs.to_file(folder.log)
        if missing:
            from sweep.autotune.choose import settle
            from sweep.cluster.session import ray_session
            from sweep.tune.progress_writer import Chronicle, machines
            from sweep.tune.runner import room

            stack.enter_context(ray_session(sweep.engine, address))
            there = machine_for(sweep, address, files)
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
        resumed = len(sweep.keeping.begun() & {cell.key for cell in missing})
        print(_plan(sweep, cells, missing, resumed), flush=True)

        def run(sweep: Sweep, missing: Sequence[Cell]) -> Outcome:
            logbook.expect(sweep.cells())
            chronicle.expect(sweep.cells())
            grows = address is not None
            outcome = run_cells(sweep, missing, source, imagenet, there, folder, logbook, chronicle, grows=grows)
            if outcome.stop and outcome.stop.at_once:
                return outcome
            how = Circumstances(
                resumed=resumed,
                troubles=sum(outcome.counts.values()),
                stopped=bool(outcome.stop or outcome.unwritable),
                at_once=max(room(sweep, there).at_once, chronicle.most),
            )
            return replace(outcome, forecast=hindsight.look_back(sweep, missing, how))

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


def _plan(sweep: Sweep, cells: Sequence[Cell], missing: Sequence[Cell], resumed: int) -> str:
    if sweep.retry_failed:
        return f"running {len(missing)} of {len(cells)} cells again: those recorded as failed, and no others"
    goes_on = f", {resumed} of them from a checkpoint" if resumed else ""
    return f"{len(cells) - len(missing)} of {len(cells)} cells are recorded; running {len(missing)}{goes_on}"


def _nothing(sweep: Sweep, cells: Sequence[Cell]) -> str:
    if sweep.retry_failed:
        return "no cell is recorded as failed; nothing is run (without --retry-failed: what is missing)"
    return f"all {len(cells)} cells are recorded already; nothing is run"
