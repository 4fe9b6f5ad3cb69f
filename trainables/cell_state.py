"""How far a cell has come: what its stages have told and taken so far, and what a checkpoint gives back.

There is no generator whose state would have to be kept: every random stream derives from (seed, purpose, step), so that
step n draws the same whether the cell was cut off before it or not.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from trainables.checkpoints import Checkpoints

Report = Callable[[str, int, dict[str, float]], None]
"""(stage, step, name -> value): takes points of the learning curves as they come."""

T = TypeVar("T")


class Progress:
    """One cell on its way through pretraining and probe; it goes on where the newest checkpoint was."""

    def __init__(self, checkpoints: Checkpoints, report: Report) -> None:
        """Load the checkpoint, if there is one, and report again the points that it holds: the receiver may be new."""
        self._checkpoints, self._report = checkpoints, report
        found = checkpoints.load()
        state = found.state if found else {"points": [], "seconds": {}, "stages": {}}
        self._points: list[tuple[str, int, dict[str, float]]] = state["points"]
        self._seconds: dict[str, float] = state["seconds"]
        self._stages: dict[str, dict[str, Any]] = state["stages"]
        self._part, self._since = "pretrain", time.perf_counter()
        for point in self._points:
            report(*point)

    def report(self, stage: str, step: int, values: dict[str, float]) -> None:
        """A point of the learning curves."""
        self._points.append((stage, step, values))
        self._report(stage, step, values)

    def begin(self, part: str) -> None:
        """From here on time is that of this part of the cell."""
        self.seconds()
        self._part = part

    def seconds(self) -> dict[str, float]:
        """Seconds that each part has taken so far; what was done before a checkpoint counts, what was lost does not."""
        now = time.perf_counter()
        self._seconds[self._part] = self._seconds.get(self._part, 0.0) + now - self._since
        self._since = now
        return dict(self._seconds)

    def take(self, stage: str) -> dict[str, Any] | None:
        """The state of a stage that the checkpoint holds, if so; handed out once, for it is large."""
        return self._stages.pop(stage, None)

    def tick(self, stage: str, step: int, state: Callable[[], dict[str, Any]]) -> None:
        """After each step of a stage; `state` makes what the stage needs to go on after it.

        Raises:
            StoppedError: the cell is to stop; this step's checkpoint is written.
        """
        self._checkpoints.tick(stage, step, lambda: self._whole({**self._stages, stage: state()}))

    def hold(self, stage: str, state: dict[str, Any]) -> None:
        """The result of a stage that is part of all later checkpoints; not written by itself."""
        self._stages[stage] = state

    def stage_end(self, stage: str, state: dict[str, Any]) -> None:
        """A stage is done: its result is held and written."""
        self.hold(stage, state)
        self._checkpoints.stage_end(stage, self._whole(self._stages))

    def watch(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches, with a sign of life for each; see `Checkpoints.watch`."""
        return self._checkpoints.watch(batches)

    def close(self) -> None:
        """Wait until the last checkpoint is written."""
        self._checkpoints.close()

    def _whole(self, stages: dict[str, dict[str, Any]]) -> dict[str, Any]:
        return {"points": self._points, "seconds": self.seconds(), "stages": stages}


def undisturbed(report: Report) -> Progress:
    """A cell that nobody stops and that keeps nothing."""
    return Progress(Checkpoints(None, ""), report)
