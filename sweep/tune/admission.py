"""Which cells a command begins, and when: none of other drivers, and none that would not end in its time."""

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from analysis.records.io import is_recorded
from sweep.storage.run_dir import RunDir
from trainables.cell import Cell

PAUSE = 1.0
"""The least seconds between two looks at the cells of other drivers."""

Answer = Literal["begin", "wait", "leave"]


class Admission:
    """Decides about each cell of a command, when a worker is free for it."""

    def __init__(self, run_dir: RunDir, in_time: Callable[[Cell], bool] | None = None) -> None:
        """Decide for the driver of this folder.

        Args:
            run_dir: the folder, with this driver's claims if it shares the folder.
            in_time: returns whether the time of the command allows to begin a cell; None: it has no limit.
        """
        self._run_dir, self._claims, self._in_time = run_dir, run_dir.claims, in_time
        self._first: dict[str, float | None] = {}
        self.late: set[str] = set()
        """Keys of the cells that were left, because they would not have ended in time."""

    @property
    def one_by_one(self) -> bool:
        """Whether a cell must be chosen only when a worker is free for it."""
        return self._claims is not None or self._in_time is not None

    def ask(self, cell: Cell) -> Answer:
        """Whether to begin a cell now, to ask again later, or to leave it."""
        if self._in_time and not self._in_time(cell):
            self.late.add(cell.key)
            return "leave"
        if self._claims is None:
            return "begin"
        if not self._claims.take(cell.key):
            return "wait"
        self._first.clear()
        if is_recorded(self._run_dir.root, cell.coordinates | {"key": cell.key}):  # since this command has begun
            self._claims.give_back(cell.key)
            return "leave"
        return "begin"

    def settled(self, cells: Iterable[Cell]) -> bool:
        """Whether each of these waiting cells has an owner that was seen alive since the first such call."""
        if self._claims is None:
            return True
        now = self._claims.renewals(cell.key for cell in cells)
        before = {key: self._first.setdefault(key, renewed) for key, renewed in now.items()}
        return all(renewed is not None and renewed != before[key] for key, renewed in now.items())


class CellQueue:
    """Cells that are begun one at a time, in their order as far as possible."""

    def __init__(self, cells: Sequence[Cell], admission: Admission | None = None) -> None:
        """Without `admission` each cell is begun in turn."""
        self._waiting, self._admission = list(cells), admission
        self._looked = -math.inf

    def take(self, *, clock: Callable[[], float] = time.monotonic) -> Cell | None:
        """The next cell to begin; None if there is none now."""
        if self._admission is None:
            return self._waiting.pop(0) if self._waiting else None
        if clock() - self._looked < PAUSE:
            return None
        for cell in list(self._waiting):
            answer = self._admission.ask(cell)
            if answer != "wait":
                self._waiting.remove(cell)
            if answer == "begin":
                return cell
        self._looked = clock()
        return None

    def is_over(self) -> bool:
        """Whether no cell will come any more. Ask while no cell of this command runs, after `take` has found none."""
        return not self._waiting or (self._admission is not None and self._admission.settled(self._waiting))
