"""Ray workers that time the parts of a cell, with as many workers at a time as a sweep would run cells."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from datasets.errors import InputError, describe_error
from datasets.source import Settings, Source
from sweep.cluster.machine import Machine
from sweep.config.sweep import Sweep
from sweep.tune.compute import compute
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.profiling.parts import Part, mean

STEPS, PROBE_STEPS, BATCHES = 40, 60, 16
"""The most steps of pretraining and probe, and batches of an evaluation, that are timed."""
BUDGET = 15.0
"""Seconds that each of these may take; otherwise fewer are timed."""
TIMEOUT = 1800.0
"""Seconds within which a worker must answer."""


@contextmanager
def profilers(
    sweep: Sweep, sources: Mapping[Settings, Source], machine: Machine, at_once: int
) -> Iterator["Profilers"]:
    """Start workers on a machine that profile cells at the same time, and end them afterwards.

    Args:
        sweep: the sweep, with its engine chosen.
        sources: settings of the data -> the data.
        machine: where the workers run.
        at_once: how many cells the machine runs at the same time.

    Raises:
        InputError: a worker cannot start.
    """
    # The actors request no cores from Ray: the number of workers is right already, and each sets its threads.
    share = sweep.gpu_share if machine.gpus else 0.0
    actor: Any = ray.remote(num_cpus=0, num_gpus=share)(_Profiler)
    data = ray.put(sources)
    placed = actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(machine.id, soft=False))
    workers = [placed.remote(sweep, data) for _ in range(at_once)]
    try:
        try:
            ray.get([worker.ready.remote() for worker in workers], timeout=TIMEOUT)
        except RayError as error:
            raise _refusal("a worker cannot start", error) from error
        yield Profilers(workers)
    finally:
        for worker in workers:
            ray.kill(worker)


class Profilers:
    """All workers profile one cell at the same time, because cells share the machine's cores, caches and GPU."""

    def __init__(self, workers: Sequence[Any]) -> None:
        """`workers`: Ray actors, on one machine."""
        self._workers = workers

    def profile(self, cell: Cell) -> tuple[Part, ...]:
        """Mean seconds of each part of the cell, after a short first run that warms the workers up.

        Raises:
            InputError: the cell cannot run; the message says why.
        """
        warm_up = self._profile_together(cell, None)
        return self._profile_together(cell, profile_sizes({f"{part.stage} {part.name}": part.each for part in warm_up}))

    def _profile_together(self, cell: Cell, size: Mapping[str, int] | None) -> tuple[Part, ...]:
        try:
            return mean(ray.get([worker.profile.remote(cell, size) for worker in self._workers], timeout=TIMEOUT))
        except RayError as error:
            raise _refusal(str(cell), error) from error


def profile_sizes(each: Mapping[str, float]) -> dict[str, int]:
    """How many steps and batches are timed.

    Args:
        each: part -> its seconds in the short first run.
    """

    def affordable(most: int, least: int, name: str) -> int:
        taken = each.get(name, 0.0)
        return max(least, min(most, int(BUDGET / taken))) if taken > 0 else most

    # The slowest part decides: all parts use the same excerpt of the data.
    batches = min(
        affordable(BATCHES, 1, name) for name in ("pretrain evaluation", "probe evaluation", "probe features")
    )
    return {
        "steps": affordable(STEPS, 4, "pretrain step"),
        "probe_steps": affordable(PROBE_STEPS, 4, "probe step"),
        "batches": batches,
    }


class _Profiler:
    """Ray actor that times the work of a sweep's worker."""

    def __init__(self, sweep: Sweep, sources: Mapping[Settings, Source]) -> None:
        from trainables.device import prepare_device  # here, because the driver does not import torch

        self._sweep, self._sources = sweep, sources
        # In the thread of the cells, because the number of threads holds for one thread.
        self._device = compute(prepare_device, sweep.engine, needs_gpu=bool(ray.get_gpu_ids()))

    def ready(self) -> None:
        """Returns as soon as the actor has started."""

    def profile(self, cell: Cell, size: Mapping[str, int] | None) -> tuple[Part, ...]:
        """Seconds of each part; without a size from the shortest run."""
        from trainables.profiling.cell_profile import SMALLEST, Size, profile_cell

        recipe = self._sweep.recipes[cell.recipe]
        with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
            return compute(
                profile_cell,
                cell,
                CellJob(recipe=recipe, source=self._sources[recipe.data], engine=self._sweep.engine),
                self._device,
                size=SMALLEST if size is None else Size(**size),
                folder=Path(folder),
            )


def _refusal(what: str, error: RayError) -> InputError:
    cause = getattr(error, "cause", None)
    reason = describe_error(error)
    if isinstance(cause, Exception):
        reason = f"{type(cause).__name__}: {describe_error(cause)}"
    return InputError(f"the plan cannot be measured: {what}: {reason}; the sweep would fail in the same way")
