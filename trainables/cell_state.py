"""The state of a cell during pretraining and probe, which its checkpoints hold.

It contains no random generator: every random stream derives from (seed, purpose, step), so step n draws the same
numbers with and without an interruption before it.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from trainables.checkpoints import Checkpoints

Report = Callable[[str, int, dict[str, float]], None]
"""Receives each point of the learning curves: (stage, step, name -> value)."""

T = TypeVar("T")


class CellState:
    """The learning curves, times and stage results of one cell. It starts from the newest checkpoint."""

    def __init__(self, checkpoints: Checkpoints, report: Report) -> None:
        """Load the checkpoint, if there is one, and report its points again, since the receiver may be new."""
        self._checkpoints, self._report = checkpoints, report
        loaded = checkpoints.load()
        state = loaded.state if loaded else {"points": [], "seconds": {}, "stages": {}}
        self._points: list[tuple[str, int, dict[str, float]]] = state["points"]
        self._seconds: dict[str, float] = state["seconds"]
        self._stages: dict[str, dict[str, Any]] = state["stages"]
        self._part, self._since = "pretrain", time.perf_counter()
        for point in self._points:
            report(*point)

    def report(self, stage: str, step: int, values: dict[str, float]) -> None:
        """Report a point of the learning curves, and add it to later checkpoints."""
        self._points.append((stage, step, values))
        self._report(stage, step, values)

    def start_timing(self, part: str) -> None:
        """From now on, time belongs to this part of the cell, `pretrain` or `probe`."""
        self.seconds()
        self._part = part

    def seconds(self) -> dict[str, float]:
        """Seconds of each part so far, including the time before the checkpoint but not the lost time after it."""
        now = time.perf_counter()
        self._seconds[self._part] = self._seconds.get(self._part, 0.0) + now - self._since
        self._since = now
        return dict(self._seconds)

    def pop_stage(self, stage: str) -> dict[str, Any] | None:
        """Remove and return the state of a stage from the checkpoint, if it has one; it is large."""
        return self._stages.pop(stage, None)

    def after_step(self, stage: str, step: int, stage_state: Callable[[], dict[str, Any]]) -> None:
        """Write a checkpoint if one is due; `stage_state` returns what the stage needs to resume after this step.

        Raises:
            StoppedError: the cell must stop; the checkpoint of this step is written.
        """
        self._checkpoints.after_step(stage, step, lambda: self._whole({**self._stages, stage: stage_state()}))

    def keep_result(self, stage: str, result: dict[str, Any]) -> None:
        """Add the result of a stage to all later checkpoints, without writing one now."""
        self._stages[stage] = result

    def finish_stage(self, stage: str, result: dict[str, Any]) -> None:
        """Add the result of a stage to all later checkpoints, and write one now."""
        self.keep_result(stage, result)
        self._checkpoints.finish_stage(stage, self._whole(self._stages))

    def with_heartbeat(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches, with a heartbeat for each; see `Checkpoints.with_heartbeat`."""
        return self._checkpoints.with_heartbeat(batches)

    def close(self) -> None:
        """Wait until the last checkpoint is written."""
        self._checkpoints.close()

    def _whole(self, stages: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return {"points": self._points, "seconds": self.seconds(), "stages": stages}


def without_checkpoints(report: Report) -> CellState:
    """The state of a cell that writes no checkpoints and is never stopped."""
    return CellState(Checkpoints(None, ""), report)
