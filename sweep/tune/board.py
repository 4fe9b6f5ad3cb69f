"""How a sweep stands while its cells run: counts by loss, rate, time left; `sweep.status` has the same from files."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from analysis.text import duration
from sweep.monitor.progress import now
from sweep.monitor.snapshot import CellCounts, RecordRow, cells_per_hour, count_by_loss
from sweep.monitor.time_left import TimeLeft, estimate_time_left
from sweep.tune.running import RunningCell
from trainables.cell import Cell


class Board:
    """The cells of a sweep: which are recorded, and which run."""

    def __init__(
        self,
        cells: Iterable[Cell] = (),
        running: Mapping[str, RunningCell] | None = None,
        *,
        rows: Sequence[RecordRow] = (),
        most: int = 1,
    ) -> None:
        """Start with the cells that earlier commands have recorded.

        Args:
            cells: all cells of the sweep.
            running: those that run; changes.
            rows: the records of cells that do not run again.
            most: how many cells run at a time, if none runs now.
        """
        self.began = now()
        self._cells = {cell.key: cell for cell in cells}
        self._running = {} if running is None else running
        self._most = most
        self._ends: list[datetime] = []
        here = [row for row in rows if row.key in self._cells]
        self._seconds = {row.key: row.seconds for row in here if row.status == "done"}
        self._failed = {row.key for row in here if row.status == "failed"}

    def recorded(self, cell: Cell, seconds: float | None) -> None:
        """A cell is done after so many seconds, or has failed (None)."""
        self._cells.setdefault(cell.key, cell)  # a search proposes cells as it runs
        self._seconds.pop(cell.key, None)
        self._failed.discard(cell.key)
        if seconds is None:
            self._failed.add(cell.key)
        else:
            self._seconds[cell.key] = seconds
        self._ends.append(now())

    @property
    def losses(self) -> dict[str, CellCounts]:
        """The numbers of cells of each loss."""
        running = [one.entry for one in self._running.values()]
        return count_by_loss(self._cells, set(self._seconds), self._failed, running)

    @property
    def total(self) -> CellCounts:
        """The sums over all losses."""
        counts = list(self.losses.values())
        return CellCounts(
            **{name: sum(getattr(one, name) for one in counts) for name in ("done", "failed", "missing", "running")}
        )

    def per_hour(self, at: datetime) -> float | None:
        """Cells recorded per hour in the last hour of the command; None in its first minute."""
        return cells_per_hour(self._ends, self.began, at)

    def left(self, at: datetime) -> TimeLeft | None:
        """How long the missing cells take; None until a cell is recorded."""
        recorded = [(self._cells[key].objective, one) for key, one in self._seconds.items() if one is not None]
        missing = [cell for key, cell in self._cells.items() if key not in self._seconds and key not in self._failed]
        running = [one.entry for one in self._running.values()]
        self._most = max(self._most, len(running))
        return estimate_time_left(missing, recorded, running, at, at_once=self._most)

    def counts(self) -> str:
        """How many cells are done, have failed and run."""
        total = self.total
        words = [f"{total.done} of {total.done + total.failed + total.missing} cells done"]
        words += [f"{count} {name}" for name, count in (("failed", total.failed), ("running", total.running)) if count]
        return ", ".join(words)

    def pace(self, at: datetime) -> str:
        """How fast cells are recorded, and the time left; empty if neither is known."""
        rate, left = self.per_hour(at), self.left(at)
        words = [f"{rate:.3g} cells per hour"] if rate else []
        if left:
            words.append(f"about {duration(left.seconds)} left ({duration(left.low)} to {duration(left.high)})")
        return ", ".join(words)
