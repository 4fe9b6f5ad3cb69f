"""Which cells run now: the callback of Ray Tune, which passes its events to listeners."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ray.tune import Callback

from trainables.cell import Cell

Worker = tuple[int, str]
"""A worker's process, and Ray's name of its machine."""

LARGE = ("points", "record", "curves", "examples", "traceback")
"""Keys of large values that only the recorder needs."""
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
        """One step of Tune's loop has ended."""


class TrialTracker(Callback):
    """Knows which cells run, and passes events to its listeners, in their order."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without cells. `clock` is for tests."""
        self.clock = clock
        self.listeners: Sequence[CellListener] = ()
        self.running: dict[str, RunningCell] = {}
        """Ray's name of the trial -> its cell."""

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune pickles its callbacks, which hold threads. They are never restored."""
        return {}

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """See `CellListener.cell_started`."""
        cell = _cell(trial)
        self.running[trial.trial_id] = RunningCell(cell, self.clock())
        for listener in self.listeners:
            listener.cell_started(cell)

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """See `CellListener.cell_reported`."""
        if running := self.running.get(trial.trial_id):
            running.last_report = self.clock()
            running.worker = result.get("worker", running.worker)
        # A cell ends with its last report, although its worker may need time to clean up.
        ended = self.running.pop(trial.trial_id, None) if result.keys() & set(LAST) else None
        for listener in self.listeners:
            listener.cell_reported(_cell(trial), result)
            if ended:
                listener.cell_ended(_cell(trial))
        for name in LARGE:  # Tune writes the last result of each trial to disk again and again
            result.pop(name, None)
        result["not_empty"] = True  # Tune prints a line about a trial with an empty last result

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """See `CellListener.worker_lost`."""
        self._end(trial, lambda listener, cell: listener.worker_lost(cell, trial.num_failures, trial.max_failures))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """See `CellListener.cell_given_up`."""
        self._end(trial, lambda listener, cell: listener.cell_given_up(cell, trial.num_failures, trial.error_file))

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """See `CellListener.cell_ended`."""
        self._end(trial, lambda listener, cell: None)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """See `CellListener.step_ended`."""
        for listener in self.listeners:
            listener.step_ended()

    def _end(self, trial: Any, notify: Callable[[CellListener, Cell], None]) -> None:
        ended = self.running.pop(trial.trial_id, None)  # None if it waits, or has sent its last report
        for listener in self.listeners:
            notify(listener, _cell(trial))
            if ended:
                listener.cell_ended(_cell(trial))


def _cell(trial: Any) -> Cell:
    return Cell(**trial.config["cell"])
