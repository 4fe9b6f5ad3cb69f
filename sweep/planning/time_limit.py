"""`--time-left`: a cell is not begun if it would not end in the time that a command has."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from datasets.errors import InputError
from sweep.config.sweep import Sweep
from sweep.monitor.snapshot import read_rows
from sweep.planning.comparison import difference_from
from sweep.planning.forecast import read_plan
from sweep.storage.run_dir import RunDir
from trainables.cell import Cell

AGAIN = 60.0
"""The least seconds between two looks at the records for durations."""


@dataclass(frozen=True, kw_only=True)
class TimeSpan:
    """When a command began, and how long it may take."""

    began: float
    """Seconds since the epoch."""
    seconds: float = math.inf


class TimeLimit:
    """The time that a command has, and how long cells take.

    A cell that fits into no command of this length is begun all the same: its checkpoints carry it over to the next
    ones. So is a cell that has a checkpoint, and one of whose kind nothing is known.
    """

    def __init__(
        self, span: TimeSpan, sweep: Sweep, run_dir: RunDir, *, clock: Callable[[], float] = time.time
    ) -> None:
        """The limit of a command that runs a sweep whose engine is chosen. `clock` is for tests."""
        self._clock, self._span, self._run_dir = clock, span, run_dir
        self._cells = {cell.key: cell for cell in sweep.cells()}
        self._looked = -math.inf
        self._planned: Mapping[str, float] = {}
        self._recorded: Mapping[str, float] = {}
        try:
            plan = read_plan(run_dir.root)
        except InputError:  # damaged; said elsewhere
            plan = None
        if plan and not difference_from(plan, sweep):
            self._planned = {name: plan.cell_seconds(name) for name in plan.parts}

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self._span.began + self._span.seconds - self._clock()

    def allows(self, cell: Cell) -> bool:
        """Whether to begin a cell now."""
        seconds = self.expected(cell)
        if seconds is None or seconds <= self.left or seconds > self._span.seconds:
            return True
        return any(self._run_dir.cell_checkpoints(cell.key).glob("*.ckpt"))

    def expected(self, cell: Cell) -> float | None:
        """Seconds that a cell takes by the plan, or else as the recorded ones of its kind; None if nothing is known."""
        if cell.variant in self._planned:
            return self._planned[cell.variant]
        if cell.variant not in self._recorded and self._clock() - self._looked >= AGAIN:
            self._looked = self._clock()
            seconds = defaultdict[str, list[float]](list)
            for row in read_rows(self._run_dir.root)[0]:
                if row.key in self._cells and row.status == "done" and row.seconds is not None:
                    seconds[self._cells[row.key].variant].append(row.seconds)
            self._recorded = {variant: fmean(some) for variant, some in seconds.items()}
        return self._recorded.get(cell.variant)


def describe_late(limit: TimeLimit, cells: Sequence[Cell]) -> str:
    """One line about the cells that were left for lack of time."""
    first = cells[0]
    return (
        f"--time-left: {len(cells)} cells are left for a later command, because they would not end in time ({first} "
        f"takes about {limit.expected(first) or 0:.0f} s, and {max(0.0, limit.left):.0f} s are left)"
    )
