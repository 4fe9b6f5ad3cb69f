"""Ray workers that rehearse cells, as many at once as a sweep would run, and say what each part of a cell takes."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from datasets.errors import InputError, reason
from datasets.source import Source
from sweep.cluster.machine import Machine
from sweep.config.sweep import Sweep
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.profiling.parts import Part, mean

STEPS, PROBE_STEPS, BATCHES = 40, 60, 16
"""Steps of pretraining and probe, and batches of an evaluation, that are timed at most."""
BUDGET = 15.0
"""Seconds that each of these may take, or fewer are timed."""
PATIENCE = 1800.0
"""Seconds after which a worker that has not answered counts as lost."""


@contextmanager
def rehearsers(sweep: Sweep, source: Source, machine: Machine, at_once: int) -> Iterator["Rehearsers"]:
    """Workers on the machine that rehearse at the same time.

    Args:
        sweep: with its engine settled.
        source: the data.
        machine: where.
        at_once: how many cells it runs at the same time.

    Raises:
        InputError: a worker cannot start.
    """
    # No cores are asked of Ray: their number is right already, and threads are set by hand.
    share = sweep.gpu_share if machine.gpus else 0.0
    actor: Any = ray.remote(num_cpus=0, num_gpus=share)(_Rehearser)
    data = ray.put(source)
    there = actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(machine.node, soft=False))
    running = [there.remote(sweep, data) for _ in range(at_once)]
    try:
        try:
            ray.get([one.ready.remote() for one in running], timeout=PATIENCE)
        except RayError as error:
            raise _refusal("a worker cannot start", error) from error
        yield Rehearsers(running)
    finally:
        for one in running:
            ray.kill(one)


class Rehearsers:
    """They all rehearse one cell at the same time, since they share the machine's cores, caches and GPU."""

    def __init__(self, running: Sequence[Any]) -> None:
        """`running`: the workers, on one machine."""
        self._running = running

    def rehearse(self, cell: Cell) -> tuple[Part, ...]:
        """Mean seconds of each part of the cell, after a first and shortest rehearsal by which workers get warm.

        Raises:
            InputError: it cannot be run here; says why.
        """
        first = self._together(cell, None)
        return self._together(cell, sizes({f"{part.stage} {part.name}": part.each for part in first}))

    def _together(self, cell: Cell, size: Mapping[str, int] | None) -> tuple[Part, ...]:
        try:
            return mean(ray.get([one.rehearse.remote(cell, size) for one in self._running], timeout=PATIENCE))
        except RayError as error:
            raise _refusal(str(cell), error) from error


def sizes(each: Mapping[str, float]) -> dict[str, int]:
    """How much is timed, by what the parts took in the shortest rehearsal (of one batch), seconds."""

    def fit(most: int, least: int, name: str) -> int:
        taken = each.get(name, 0.0)
        return max(least, min(most, int(BUDGET / taken))) if taken > 0 else most

    # By the slower of the two: an excerpt serves both, and features are encoded from as much.
    batches = min(fit(BATCHES, 1, name) for name in ("pretrain evaluation", "probe evaluation", "probe features"))
    return {
        "steps": fit(STEPS, 4, "pretrain step"),
        "probe_steps": fit(PROBE_STEPS, 4, "probe step"),
        "batches": batches,
    }


class _Rehearser:
    """A process that does what a worker of the sweep does."""

    def __init__(self, sweep: Sweep, source: Source) -> None:
        import torch  # here, because the driver does without it

        self._sweep, self._source = sweep, source
        torch.set_num_threads(sweep.engine.threads)
        torch.use_deterministic_algorithms(sweep.engine.deterministic)
        torch.backends.cudnn.benchmark = not sweep.engine.deterministic
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def ready(self) -> None:
        """It has started."""

    def rehearse(self, cell: Cell, size: Mapping[str, int] | None) -> tuple[Part, ...]:
        """Seconds of each part; None is the shortest size."""
        from trainables.profiling.cell_profile import SMALLEST, Size, profile_cell

        with tempfile.TemporaryDirectory(prefix="rehearsal-") as folder:
            return profile_cell(
                cell,
                CellJob(recipe=self._sweep.recipe, source=self._source, engine=self._sweep.engine),
                self._device,
                size=SMALLEST if size is None else Size(**size),
                folder=Path(folder),
            )


def _refusal(what: str, error: RayError) -> InputError:
    cause = getattr(error, "cause", None)
    said = f"{type(cause).__name__}: {reason(cause)}" if isinstance(cause, Exception) else reason(error)
    return InputError(f"the plan cannot be measured: {what}: {said}; the sweep would fail so too")
