"""How long cells take on several workers, from given durations or from those of recorded cells."""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import fmean, pstdev

from sweep.monitor.progress import Running
from trainables.cell import Cell
from trainables.objective_names import objective_info

GUESSED_SPREAD = 0.5
"""Assumed relative standard deviation of a loss's durations, if fewer than two of its cells are recorded."""


@dataclass(frozen=True, kw_only=True)
class TimeLeft:
    """How long the missing cells will take."""

    seconds: float
    low: float
    high: float
    """`low` and `high` are two standard deviations from `seconds`: of the cells of a loss, and of their mean."""
    at_once: int
    """Assumed number of cells at the same time."""
    cells: int
    """Number of recorded cells behind the estimate."""
    guessed: tuple[str, ...]
    """Losses without a recorded cell. Their durations are guessed from the other losses, by the usual ratio."""


def makespan(durations: Sequence[float], workers: int) -> float:
    """Seconds until the last cell is done, if each free worker takes the next cell."""
    free = [0.0] * min(workers, len(durations))
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free, default=0.0)


def estimate_time_left(
    cells: Sequence[Cell],
    recorded: Sequence[tuple[str, float]],
    running: Sequence[Running],
    now: datetime,
    *,
    at_once: int = 1,
) -> TimeLeft | None:
    """Estimate how long `cells` take, from the durations of recorded cells of the same loss.

    Args:
        cells: the cells without a record.
        recorded: (loss, seconds) of each recorded cell.
        running: the running cells; the time that they have run is subtracted.
        now: the current time.
        at_once: cells at the same time, if none runs now.

    Returns:
        The estimate; None if no cell is left, or no cell is recorded.
    """
    seconds: dict[str, list[float]] = {}
    for loss, one in recorded:
        if 0 < one < math.inf:
            seconds.setdefault(loss, []).append(one)
    if not cells or not seconds:
        return None
    unit = fmean(fmean(known) / objective_info(loss).cost for loss, known in seconds.items())
    mean, variance = dict[str, float](), 0.0
    for loss in dict.fromkeys(cell.objective for cell in cells):
        known = seconds.get(loss, [])
        mean[loss] = fmean(known) if known else unit * objective_info(loss).cost
        spread = pstdev(known) if len(known) > 1 else GUESSED_SPREAD * mean[loss]
        count = sum(cell.objective == loss for cell in cells)
        variance += count * spread**2 + (count * spread) ** 2 / max(1, len(known))
    ages = {one.key: max(0.0, (now - one.since).total_seconds()) for one in running}
    begun_first = sorted(cells, key=lambda cell: cell.key not in ages)
    workers = max(1, len(running) or at_once)
    middle = makespan([max(0.0, mean[cell.objective] - ages.get(cell.key, 0.0)) for cell in begun_first], workers)
    margin = 2 * math.sqrt(variance) / workers
    return TimeLeft(
        seconds=middle,
        low=max(0.0, middle - margin),
        high=middle + margin,
        at_once=workers,
        cells=sum(map(len, seconds.values())),
        guessed=tuple(loss for loss in mean if loss not in seconds),
    )
