"""Kinds of failures, how often a cell may run again, and the record of a failed cell."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime

from analysis.records.schema import Record
from analysis.text import without_secrets
from sweep.cluster.provenance import project_version
from trainables.cell import Cell

LOST = "machine lost"
ERROR = "error in the cell"
MEMORY = "out of memory"
DIVERGED = "loss not finite"
LAST_LINES = 4
"""The record of a failed cell holds this many last lines of the traceback."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a cell has no score."""

    kind: str
    reason: str
    """One line."""
    tries: int = 1
    log: str = "logs/sweep.log"
    """The log file with the whole traceback, relative to the sweep's folder."""
    traceback: str = ""

    def __str__(self) -> str:
        times = "once" if self.tries == 1 else f"{self.tries} times"
        return f"{self.reason} ({self.kind}, tried {times}; {self.log})"

    @property
    def text(self) -> str:
        """One line for the record: the failure, then the last lines of the traceback, separated by " | "."""
        lines = [line.strip() for line in self.traceback.splitlines() if line.strip(" ^~")]
        return without_secrets(" | ".join([str(self), *lines[-LAST_LINES:]]))


class Retries:
    """Counts attempts and failures, and allows one more attempt for each kind of failure."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Kind of failure -> number of failures in this command, including those of cells that succeeded later."""
        self.last_round = False
        """Whether a cell that fails now gets no further attempt."""
        self._begun: Counter[str] = Counter()
        self._given: set[tuple[str, str]] = set()

    def begin(self, cell: Cell) -> None:
        """An attempt at the cell begins."""
        self._begun[cell.key] += 1

    def tries(self, cell: Cell) -> int:
        """The number of attempts at the cell so far."""
        return max(1, self._begun[cell.key])

    def once_more(self, cell: Cell, kind: str) -> bool:
        """Whether the cell may run again after a failure of this kind. The answer is true once per cell and kind."""
        if self.last_round or (cell.key, kind) in self._given:
            return False
        self._given.add((cell.key, kind))
        return True


def bare_record(cell: Cell) -> Record:
    """The record of a cell that has not ended: its coordinates and the current time."""
    return Record(
        **cell.coordinates,
        settings=dict(cell.settings),
        key=cell.key,
        status="failed",
        version=project_version(),
        started=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
