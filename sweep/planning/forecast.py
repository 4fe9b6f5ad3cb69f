"""What a sweep will take, from what the parts of a cell take: seconds, hours, disk, money. Nothing is measured here."""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from datasets.errors import InputError, one_line
from sweep.storage.run_dir import Folder, cannot_write, replace_text
from trainables.engine import Engine
from trainables.profiling.parts import Part, seconds

HARNESS = 0.3
"""Seconds between two cells of a worker: `python -m benchmarks.sweep` measures it."""
TABLES, REPORT = 1.0, 6.0
"""Seconds from the last cell to the end: tables and MLflow; figures and the report."""
CELL_BYTES, FOLDER_BYTES = 120_000, 6_000_000
"""Bytes on the disk of a cell (record, curves, predictions, its runs in MLflow and logs), and of all the rest."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """A plan: what was measured, for which cells, and where. All times in seconds."""

    made: str
    """UTC, ISO 8601."""
    recipe: str
    """Fingerprint."""
    data: str
    """Fingerprint."""
    engine: Engine
    processor: str
    threads: int
    """Of a cell."""
    at_once: int
    """Cells at the same time on this machine, or on all that Ray has."""
    gpus: float
    """GPUs that these cells take together; 0 without any."""
    total: int
    """Cells of the grid."""
    cells: tuple[tuple[str, str], ...]
    """(key, objective) of those that are missing, in the order in which they run."""
    parts: Mapping[str, tuple[Part, ...]]
    """By objective."""
    steps: int
    """Of pretraining, all missing cells together."""
    start: float
    """From the command to the first step of the first cell."""
    end: float
    """From the last cell to the end."""
    disk: int
    """Bytes."""
    checkpoint_every: float
    outcome: dict[str, Any] = field(default_factory=dict)
    """What happened then; see `sweep.planning.retrospect`."""

    def cell(self, objective: str) -> float:
        """Seconds of one cell."""
        return seconds(self.parts[objective])

    @property
    def busy(self) -> float:
        """Seconds of all cells, one after the other."""
        return sum(self.cell(objective) for _, objective in self.cells)

    def until_last(self, workers: int) -> float:
        """Seconds from the command to the end of the last cell."""
        return self.start + makespan([self.cell(objective) + HARNESS for _, objective in self.cells], workers)

    def wall(self, workers: int) -> float:
        """Seconds of the whole command, if so many cells run at the same time."""
        return self.until_last(workers) + self.end

    @property
    def hours(self) -> float:
        """What is paid for: hours of GPUs, or of the machine where it has none, with as many cells at once as here."""
        return self.wall(self.at_once) / 3600 * (self.gpus or 1.0)

    def spot(self, losses: float) -> float:
        """How many times longer it takes where machines are lost so many times an hour."""
        restart = self.start + max(parts[0].seconds for parts in self.parts.values())
        taken = [self.cell(objective) for _, objective in self.cells]
        again = sum(
            with_losses(one, every=self.checkpoint_every, losses=losses / 3600, restart=restart) for one in taken
        )
        return again / sum(taken)


def makespan(durations: Sequence[float], workers: int) -> float:
    """Seconds until the last is done, each begun in its turn by the worker that is free first."""
    free = [0.0] * min(workers, len(durations))
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free, default=0.0)


def with_losses(work: float, *, every: float, losses: float, restart: float) -> float:
    """Expected seconds of a cell on a machine that may be lost at any moment.

    Losses come as a Poisson process, and what was done since the last checkpoint is done again: a stretch of c seconds
    takes (1/l + r) (exp(l c) - 1) of them (Daly 2006, "A higher order estimate of the optimum checkpoint interval",
    with checkpoints that cost nothing).

    Args:
        work: seconds without losses.
        every: seconds between two checkpoints; the last stretch ends with the cell.
        losses: a second.
        restart: seconds from a loss until the cell goes on.
    """
    if losses == 0:
        return work
    whole, rest = divmod(work, every)
    return sum(
        count * (1 / losses + restart) * math.expm1(min(700.0, losses * stretch))
        for count, stretch in ((whole, every), (1.0, rest))
    )


_ADAPTER = TypeAdapter(Forecast)


def place(root: Path) -> Path:
    """The plan's file in a sweep's folder."""
    return Folder(root).plan


def write(forecast: Forecast, root: Path) -> Path:
    """Write the plan, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    try:
        replace_text(place(root), _ADAPTER.dump_json(forecast, indent=1).decode() + "\n")
    except OSError as error:
        raise cannot_write(root, error) from error
    return place(root)


def read(root: Path) -> Forecast | None:
    """The plan in a sweep's folder; None where there is none.

    Raises:
        InputError: it is damaged.
    """
    try:
        text = place(root).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{place(root)} cannot be read ({error.strerror or error})") from error
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{place(root)} is no plan of this version ({one_line(first['msg'])})") from error


MOST_LOSSES = 60
"""Losses an hour that are believed."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What an hour of one GPU costs, or of the machine where it has none, USD; None: not asked for."""

    hour: float | None = None
    spot_hour: float | None = None
    spot_losses: float | None = None
    """Machines lost an hour, each."""

    def __post_init__(self) -> None:
        """Refuse what is no price."""
        for flag, value in (("price", self.hour), ("spot-price", self.spot_hour)):
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"--{flag} {value:g}: must be above 0 USD an hour")
        if (self.spot_hour is None) != (self.spot_losses is None):
            raise InputError("--spot-price and --spot-losses-per-hour belong together: give both, or neither")
        if self.spot_losses is not None and not 0 <= self.spot_losses <= MOST_LOSSES:
            raise InputError(f"--spot-losses-per-hour {self.spot_losses:g}: must be from 0 to {MOST_LOSSES}")

    @property
    def asked(self) -> bool:
        """Whether any was given."""
        return self.hour is not None or self.spot_hour is not None
