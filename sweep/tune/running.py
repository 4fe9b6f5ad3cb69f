"""Which cells run now, and the parts of the driver that follow them. This module does not import Ray."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sweep.monitor.progress import Running
from trainables.cell import Cell

Worker = tuple[int, str]
"""A worker's process, and Ray's name of its machine."""

LAST = ("record", "error", "stopped")
"""The last report of a cell holds one of these keys."""


@dataclass
class RunningCell:
    """A cell that runs in a worker."""

    cell: Cell
    last_report: float
    """When the worker last reported, by the tracker's clock."""
    since: datetime = field(default_factory=lambda: datetime.now().astimezone())
    worker: Worker | None = None
    """The worker that runs it; None until its first report."""

    @property
    def entry(self) -> Running:
        """Its entry in `progress.json`."""
        return Running(key=self.cell.key, cell=str(self.cell), objective=self.cell.objective, since=self.since)


class CellListener:
    """A part of the driver that follows running cells. Each method does nothing unless overridden."""

    def cell_started(self, cell: Cell) -> None:
        """A cell starts, or starts again after its worker was lost."""

    def cell_reported(self, cell: Cell, result: dict[str, Any]) -> None:
        """A cell's worker has reported."""

    def worker_lost(self, cell: Cell, losses: int, limit: int) -> None:
        """A cell's worker was lost for the `losses`th time. Ray starts the cell again, at most `limit` times."""

    def cell_given_up(self, cell: Cell, losses: int, error_file: str) -> None:
        """A cell's worker was lost too often. Ray does not start the cell again."""

    def cell_ended(self, cell: Cell) -> None:
        """A cell no longer runs: it has ended, its worker was lost, or Ray does not start it again."""

    def step_ended(self) -> None:
        """One turn of the driver's loop has ended."""


class RunningCells:
    """Knows which cells run, and passes events to its listeners, in their order."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without cells. `clock` is for tests."""
        self.clock = clock
        self.listeners: Sequence[CellListener] = ()
        self.running: dict[str, RunningCell] = {}
        """Name of the attempt -> its cell."""

    def started(self, attempt: str, cell: Cell) -> None:
        """See `CellListener.cell_started`."""
        self.running[attempt] = RunningCell(cell, self.clock())
        for listener in self.listeners:
            listener.cell_started(cell)

    def reported(self, attempt: str, cell: Cell, result: dict[str, Any]) -> None:
        """See `CellListener.cell_reported`."""
        if running := self.running.get(attempt):
            running.last_report = self.clock()
            running.worker = result.get("worker", running.worker)
        # A cell ends with its last report, although its worker may need time to clean up.
        ended = self.running.pop(attempt, None) if result.keys() & set(LAST) else None
        for listener in self.listeners:
            listener.cell_reported(cell, result)
            if ended:
                listener.cell_ended(cell)

    def ended(self, attempt: str, cell: Cell, notify: Callable[[CellListener], None] = lambda listener: None) -> None:
        """The attempt no longer runs: call `notify` with each listener, then see `CellListener.cell_ended`."""
        ended = self.running.pop(attempt, None)  # None if it waits, or has sent its last report
        for listener in self.listeners:
            notify(listener)
            if ended:
                listener.cell_ended(cell)

    def step_ended(self) -> None:
        """See `CellListener.step_ended`."""
        for listener in self.listeners:
            listener.step_ended()
