"""Why cells fail, how often each may try, and what is written down of one that has failed."""

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from analysis.records.schema import Record
from sweep.provenance import project_version
from trainables.cell import Cell

LOST = "machine lost"
ERROR = "error in the cell"
MEMORY = "out of memory"
DIVERGED = "loss not finite"
LAST_LINES = 4
"""Lines of a traceback that a record holds."""


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a cell gave no score."""

    kind: str
    reason: str
    """One line."""
    tries: int = 1
    log: str = "logs/sweep.log"
    """Where all of it stands, in the sweep's folder."""
    traceback: str = ""

    def __str__(self) -> str:
        times = "once" if self.tries == 1 else f"{self.tries} times"
        return f"{self.reason} ({self.kind}, tried {times}; {self.log})"

    @property
    def text(self) -> str:
        """For the record, on one line: all of it, and the traceback's last lines behind bars."""
        lines = [line.strip() for line in self.traceback.splitlines() if line.strip(" ^~")]
        return " | ".join([str(self), *lines[-LAST_LINES:]])


class Retries:
    """Counts attempts and what ended them, and allows one more for each kind of failure."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """What went wrong in this command, by kind, whether or not it was made good."""
        self.last_round = False
        """Whether what fails now has failed."""
        self._begun: Counter[str] = Counter()
        self._given: set[tuple[str, str]] = set()

    def begin(self, cell: Cell) -> None:
        """An attempt at the cell begins."""
        self._begun[cell.key] += 1

    def tries(self, cell: Cell) -> int:
        """Attempts at the cell so far."""
        return max(1, self._begun[cell.key])

    def once_more(self, cell: Cell, kind: str) -> bool:
        """Whether the cell may try again after a failure of this kind; asked once for each."""
        if self.last_round or (cell.key, kind) in self._given:
            return False
        self._given.add((cell.key, kind))
        return True


def bare_record(cell: Cell) -> Record:
    """The record of a cell that has not ended: its coordinates and the time."""
    return Record(
        **asdict(cell),
        key=cell.key,
        status="failed",
        version=project_version(),
        started=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )
