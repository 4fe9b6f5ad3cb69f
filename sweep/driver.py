"""One command from beginning to end: it runs the missing cells, then shows all results."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from analysis.records.io import recorded_keys
from analysis.records.remote import fetch
from datasets.errors import InputError
from sweep import logs
from sweep.backend import Backend, InlineBackend, RayBackend
from sweep.config.kept import by_encoder
from sweep.config.sweep import Sweep
from sweep.monitor.progress import add_shared_progress
from sweep.planning.adaptive_seeds import add_seeds, describe_decision, max_added_cells, run_adaptively
from sweep.planning.comparison import PlanComparison, RunConditions
from sweep.planning.time_limit import TimeLimit, TimeSpan, describe_late
from sweep.prepare import (
    Inputs,
    check_settings,
    check_without_writing,
    claim,
    cluster_address,
    load_inputs,
    missing_cells,
    opened_run_dir,
    previous_sweep,
)
from sweep.signals import StopRequest
from sweep.storage.lock import LONGEST_TURN, alone, turn
from sweep.storage.run_dir import RunDir
from sweep.summarize import AGAIN, announce, last_step, print_shared, print_stopped, summarize
from sweep.tracking.background import BackgroundTracking
from sweep.tune.admission import Admission
from sweep.tune.job import WorkerJob
from sweep.tune.outcome import Outcome
from sweep.tune.progress_writer import ProgressWriter
from trainables.cell import Cell, digest

LATER = 75
"""The exit code of a command that has left cells for lack of time: that of a temporary failure in sysexits.h."""
SHORT_TURN = 2.0
"""Seconds that a driver waits for its turn after a signal, whose sender does not wait long."""


def describe(sweep: Sweep, *, address: str | None = None, inline: bool = False) -> int:
    """Print the distinct cells, and how many equal combinations were dropped. Runs and writes nothing.

    Raises:
        InputError: the sweep would be refused, as far as this is known without running it. The cells are printed first.
    """
    if isinstance(sweep.out, str):
        fetch(sweep.out)
    sweep, _ = add_seeds(sweep.continuing(previous_sweep(sweep.run_dir, sweep)))
    cells = sweep.cells()
    for cell in cells:
        print(f"{cell.key}  {cell}")
    dropped = sweep.points - len(cells)
    print(f"{len(cells)} distinct cells; {dropped} of {sweep.points} combinations equal one of them and are dropped")
    if sweep.until:
        print(f"--until {sweep.until!r} may add up to {max_added_cells(sweep)} cells")
    check_without_writing(sweep, address, inline=inline)
    return 0


def run_sweep(
    sweep: Sweep,
    *,
    address: str | None = None,
    inline: bool = False,
    shard: bool = False,
    seconds: float = math.inf,
    by_signals: bool = True,
) -> int:
    """Run the cells that are not recorded, then show the results.

    Args:
        sweep: the sweep of the command line.
        address: of a Ray cluster that runs the cells; None: Ray is started on this machine.
        inline: run the cells one after the other in this process, without Ray.
        shard: share the folder with other commands: run only cells that none of them has.
        seconds: that the command has. A cell that would not end in time is not begun.
        by_signals: as for `StopRequest`.

    Returns:
        0 if every planned cell is done, or run by another command; 1 otherwise, with a printed reason for each missing
        cell; `LATER` if cells were left for lack of time; 130 after Ctrl-C, 143 after SIGTERM.

    Raises:
        InputError: the data, the folder or the cluster cannot be used, or another command runs the sweep.
        RecordsError, StoreError: the sweep's address cannot be read or written.
    """
    span = TimeSpan(began=time.time(), seconds=seconds)
    with opened_run_dir(sweep, shard=shard, before=span.began) as (run_dir, recorded):
        sweep = _with_folder_settings(sweep, run_dir, recorded)
        missing = missing_cells(sweep, recorded)
        if missing:
            check_settings(sweep, address, inline=inline)
        backend = InlineBackend(sweep.cores) if inline else RayBackend(cluster_address(address) if missing else None)
        inputs = load_inputs(sweep, missing)
        missing = [cell for cell in missing if cell.key not in inputs.absent]
        with alone(run_dir):
            claim(run_dir, sweep, *inputs.fingerprints)
        logs.to_file(run_dir.log)
        if missing:
            stop = StopRequest(run_dir, by_signals=by_signals)
            outcome, left = _run_missing(sweep, missing, inputs, recorded, span, backend, stop)
        else:
            outcome, left = Outcome(), _show_recorded(sweep, inputs, run_dir, recorded)
    if outcome.unwritable:
        remedy = "when that has ended, run the same command again" if run_dir.uri or run_dir.claims else AGAIN
        raise InputError(f"{outcome.unwritable}: {remedy}; no record is lost")
    if outcome.stop:
        return outcome.stop.code
    return LATER if any(cell.key in outcome.late for cell in left) else 1 if left else 0


def _with_folder_settings(sweep: Sweep, run_dir: RunDir, recorded: Mapping[str, str]) -> Sweep:
    """The sweep with the engine that the folder was used with, and the seeds that --until adds."""
    sweep, decisions = add_seeds(sweep.continuing(previous_sweep(run_dir, sweep)))
    if recorded:
        for decision in decisions:
            print(describe_decision(sweep, decision))
    return sweep


def _show_recorded(sweep: Sweep, inputs: Inputs, run_dir: RunDir, recorded: Mapping[str, str]) -> list[Cell]:
    """Show the results when no cell is missing; returns the cells that are not done."""
    announce(sweep, inputs.sources)
    with alone(run_dir), BackgroundTracking(sweep, run_dir) as tracking:
        if recorded:
            tracking.fill(run_dir.root, sweep.cells())
        if sweep.retry_failed:
            print("no cell is recorded as failed; nothing to run (leave out --retry-failed to run missing cells)")
        else:
            here = len(sweep.cells()) - len(inputs.absent)
            print(f"{'all ' * (not inputs.absent)}{here} cells are recorded already; nothing to run")
        return summarize(sweep, Outcome(failures=inputs.absent), run_dir, tracking)


def _run_missing(
    sweep: Sweep,
    missing: Sequence[Cell],
    inputs: Inputs,
    recorded: Mapping[str, str],
    span: TimeSpan,
    backend: Backend,
    stop: StopRequest,
) -> tuple[Outcome, list[Cell]]:
    """Start what runs the cells, choose the engine, run the missing cells, show the results.

    Returns:
        How the cells ended, and those that are not done.
    """
    run_dir = stop.run_dir
    comparison = PlanComparison(run_dir.root, span.began)
    planned = {cell.key: recorded.get(cell.key) for cell in sweep.cells()}
    with (
        backend.session(sweep),
        ProgressWriter(run_dir, planned, backend.machines) as progress,
        _tracking(sweep, run_dir) as tracking,
    ):
        if progress.warning:
            print(progress.warning)
        machine = backend.first_machine(sweep, inputs.files)
        with alone(run_dir):  # drivers that share the folder have one engine
            if run_dir.claims:
                sweep = sweep.continuing(previous_sweep(run_dir, sweep))
            sweep, engine = backend.choose_engine(sweep, missing, machine, inputs.sources)
            claim(run_dir, sweep, *inputs.fingerprints)
        announce(sweep, inputs.sources)
        if recorded:
            tracking.fill(run_dir.root, sweep.cells())
        resumed = len(run_dir.cells_with_checkpoints() & {cell.key for cell in missing})
        print(f"engine: {engine}\n{_intention(sweep, missing, resumed)}", flush=True)
        weights = inputs.weights.path if inputs.weights else None
        job = replace(WorkerJob.of(sweep, inputs.sources, weights, inputs.kept), shard=run_dir.shard)
        limit = TimeLimit(span, sweep, run_dir) if span.seconds < math.inf else None
        admission = Admission(run_dir, limit.allows if limit else None)
        runner = backend.runner()(sweep, job, machine, run_dir, tracking, stop, progress=progress)

        def run(sweep: Sweep, missing: Sequence[Cell]) -> Outcome:
            tracking.expect(sweep.cells())
            progress.expect(sweep.cells())
            ordered, planned = by_encoder(missing, inputs.kept, backend.at_once(sweep, machine)), sweep.cells()
            outcome = stop.call(lambda: runner.run(ordered, planned=planned, grows=backend.grows, admission=admission))
            outcome = replace(outcome, late=admission.late)
            if limit and (late := [cell for cell in missing if cell.key in admission.late]):
                print(describe_late(limit, late))
            if stop.at_once or run_dir.claims:  # several commands are in no plan
                return outcome
            conditions = RunConditions(
                resumed=resumed,
                failed_attempts=sum(outcome.counts.values()),
                stopped=bool(outcome.stop or outcome.unwritable),
                at_once=max(backend.at_once(sweep, machine), progress.most),
            )
            forecast: Mapping[str, float] = {}
            with last_step("the time cannot be compared with the plan"):
                forecast = comparison.compare(sweep, missing, conditions)
            return replace(outcome, forecast=forecast)

        sweep, outcome = run_adaptively(
            sweep, missing, run, lambda larger: claim(run_dir, larger, *inputs.fingerprints)
        )
        outcome = replace(outcome, failures={**inputs.absent, **outcome.failures})
        progress.end()
        if stop.at_once:
            print_stopped(run_dir)
            return outcome, list(missing)
        return outcome, _show(sweep, outcome, run_dir, tracking)


def _tracking(sweep: Sweep, run_dir: RunDir) -> BackgroundTracking:
    """The runs in MLflow, which drivers that share the folder must not create at the same time."""
    with alone(run_dir):
        return BackgroundTracking(sweep, run_dir, shared=run_dir.claims is not None)


def _show(sweep: Sweep, outcome: Outcome, run_dir: RunDir, tracking: BackgroundTracking) -> list[Cell]:
    """Show the results. Of the drivers that share a folder, the last one does so, or one that finds all cells recorded.

    Returns:
        The cells that are not done, without those of other drivers.
    """
    claims = run_dir.claims
    if claims is None:
        return summarize(sweep, outcome, run_dir, tracking)
    try:
        with turn(run_dir, SHORT_TURN if outcome.stop else LONGEST_TURN):
            add_shared_progress(run_dir, run_dir.progress)
            cells, recorded = sweep.cells(), recorded_keys(run_dir.root).status
            absent = [cell for cell in cells if cell.key not in recorded]
            others, state = claims.others, digest(sorted(recorded.items()))
            if others and (absent or claims.shown == state):
                claims.leave()  # now, so that one of the others is the last
                print_shared(run_dir, len(cells), len(recorded), len(others))
                mine = {key for key in (*outcome.failures, *outcome.late) if key not in recorded}
                return [cell for cell in cells if recorded.get(cell.key) == "failed" or cell.key in mine]
            tracking.open()
            if not outcome.stop:
                tracking.fill(run_dir.root, cells)
            left = summarize(sweep, outcome, run_dir, tracking)
            claims.shown = state
            return left
    except InputError as error:
        if outcome.stop is None:
            raise
        print(f"{error}; another command writes the results")
        return []


def _intention(sweep: Sweep, missing: Sequence[Cell], resumed: int) -> str:
    """One line about the cells that will run."""
    planned = len(sweep.cells())
    if sweep.retry_failed:
        return f"running the {len(missing)} of {planned} cells again that are recorded as failed"
    checkpoints = f", {resumed} of them from a checkpoint" if resumed else ""
    return f"{planned - len(missing)} of {planned} cells are recorded; running {len(missing)}{checkpoints}"
