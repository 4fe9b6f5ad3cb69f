"""A plan (`plan.json`): what a sweep will take, from the measured parts of a cell. Nothing is measured here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from datasets.errors import InputError, one_line
from datasets.files import write_text_atomically
from sweep.monitor.time_left import makespan
from sweep.storage.run_dir import RunDir, cannot_write
from trainables.engine import Engine
from trainables.profiling.parts import Part, seconds

HARNESS = 0.3
"""Seconds between two cells of a worker, as measured by `python -m benchmarks.speed.sweep`."""
TABLES, REPORT = 1.0, 6.0
"""Seconds from the last cell to the end: tables and MLflow; figures and the report."""
CELL_BYTES, FOLDER_BYTES = 120_000, 6_000_000
"""Bytes on the disk of a cell (record, curves, predictions, its runs in MLflow and logs), and of all the rest."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What was measured, for which cells, and where. All times in seconds. The fields are those of `plan.json`."""

    made: str
    """UTC, ISO 8601."""
    recipe: str
    """Fingerprint."""
    data: str
    """Fingerprint."""
    engine: Engine
    processor: str
    """Name of the GPU, or of the processor where there is none."""
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
    """How it compares with what happened; see `sweep.planning.comparison`."""

    def cell_seconds(self, objective: str) -> float:
        """Seconds of one cell."""
        return seconds(self.parts[objective])

    @property
    def all_cells_seconds(self) -> float:
        """Seconds of all cells, one after the other."""
        return sum(self.cell_seconds(objective) for _, objective in self.cells)

    def seconds_to_last_cell(self, workers: int) -> float:
        """Seconds from the command to the end of the last cell."""
        return self.start + makespan([self.cell_seconds(name) + HARNESS for _, name in self.cells], workers)

    def wall_seconds(self, workers: int) -> float:
        """Seconds of the whole command, if so many cells run at the same time."""
        return self.seconds_to_last_cell(workers) + self.end

    @property
    def billed_hours(self) -> float:
        """Hours of GPUs, or of the machine where it has none, with as many cells at the same time as here."""
        return self.wall_seconds(self.at_once) / 3600 * (self.gpus or 1.0)

    def spot_slowdown(self, losses: float) -> float:
        """How many times longer it takes where each machine is lost so many times an hour."""
        restart = self.start + max(parts[0].seconds for parts in self.parts.values())
        rate = losses / 3600
        cells = [self.cell_seconds(objective) for _, objective in self.cells]
        slowed = [with_losses(one, every=self.checkpoint_every, losses=rate, restart=restart) for one in cells]
        return sum(slowed) / sum(cells)


def with_losses(work: float, *, every: float, losses: float, restart: float) -> float:
    """Expected seconds of a cell on a machine that may be lost at any moment.

    Losses come as a Poisson process, and what was done since the last checkpoint is done again: a stretch of c seconds
    takes (1/l + r) (exp(l c) - 1) of them (Daly 2006, "A higher order estimate of the optimum checkpoint interval",
    with checkpoints that cost nothing).

    Args:
        work: seconds without losses.
        every: seconds between two checkpoints; the last stretch ends with the cell.
        losses: l, a second.
        restart: r, seconds from a loss until the cell resumes.
    """
    if losses == 0:
        return work
    whole, rest = divmod(work, every)
    return sum(
        count * (1 / losses + restart) * math.expm1(min(700.0, losses * stretch))
        for count, stretch in ((whole, every), (1.0, rest))
    )


_ADAPTER = TypeAdapter(Forecast)


def plan_path(root: Path) -> Path:
    """The plan's file in a sweep's folder."""
    return RunDir(root).plan


def write_plan(forecast: Forecast, root: Path) -> Path:
    """Write the plan, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    path = plan_path(root)
    try:
        write_text_atomically(path, _ADAPTER.dump_json(forecast, indent=1).decode() + "\n")
    except OSError as error:
        raise cannot_write(root, error) from error
    return path


def read_plan(root: Path) -> Forecast | None:
    """The plan in a sweep's folder; None where there is none.

    Raises:
        InputError: it is damaged.
    """
    path = plan_path(root)
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path} is no plan of this version ({one_line(first['msg'])})") from error
