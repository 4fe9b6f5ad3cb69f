"""A plan (`plan.json`): how long a sweep will take, computed from the measured parts of a cell."""

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
"""Seconds between two cells of a worker, measured by `python -m benchmarks.speed.sweep`."""
TABLES, REPORT = 1.0, 6.0
"""Seconds from the last cell to the end: for tables and MLflow, and for figures and the report."""
CELL_BYTES, FOLDER_BYTES = 120_000, 6_000_000
"""Bytes on the disk of one cell (record, curves, predictions, MLflow, logs), and of everything else."""


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """The measurements, their machine and the cells of the plan. Times are in seconds. `plan.json` has these fields."""

    made: str
    """UTC, ISO 8601."""
    recipe: str
    """Fingerprint."""
    data: str
    """Fingerprint; several if --vary changes the data."""
    engine: Engine
    processor: str
    """Name of the GPU, or of the processor without a GPU."""
    threads: int
    """Threads per cell."""
    at_once: int
    """Cells at the same time, on all machines of Ray."""
    gpus: float
    """GPUs that these cells use together."""
    total: int
    """Cells of the grid."""
    cells: tuple[tuple[str, str], ...]
    """(key, `Cell.variant`) of the missing cells, in the order in which they run."""
    parts: Mapping[str, tuple[Part, ...]]
    """`Cell.variant` -> the measured parts of one of its cells."""
    steps: int
    """Pretraining steps of all missing cells together."""
    start: float
    """From the start of the command to the first step of the first cell."""
    end: float
    """From the end of the last cell to the end of the command."""
    disk: int
    """Bytes."""
    outcome: dict[str, Any] = field(default_factory=dict)
    """The comparison with the time that the sweep took; see `sweep.planning.comparison`."""

    def cell_seconds(self, variant: str) -> float:
        """Seconds of one cell."""
        return seconds(self.parts[variant])

    @property
    def all_cells_seconds(self) -> float:
        """Seconds of all cells, if they run one after the other."""
        return sum(self.cell_seconds(variant) for _, variant in self.cells)

    def seconds_to_last_cell(self, workers: int) -> float:
        """Seconds from the start of the command to the end of the last cell."""
        return self.start + makespan([self.cell_seconds(name) + HARNESS for _, name in self.cells], workers)

    def wall_seconds(self, workers: int) -> float:
        """Seconds of the whole command with `workers` cells at the same time."""
        return self.seconds_to_last_cell(workers) + self.end

    @property
    def billed_hours(self) -> float:
        """GPU hours, or machine hours without a GPU, with `at_once` cells at the same time."""
        return self.wall_seconds(self.at_once) / 3600 * (self.gpus or 1.0)


_ADAPTER = TypeAdapter(Forecast)


def write_plan(forecast: Forecast, root: Path) -> Path:
    """Write the plan to a sweep's folder, atomically.

    Raises:
        InputError: it cannot be written.
    """
    path = RunDir(root).plan
    try:
        write_text_atomically(path, _ADAPTER.dump_json(forecast, indent=1).decode() + "\n")
    except OSError as error:
        raise cannot_write(root, error) from error
    return path


def read_plan(root: Path) -> Forecast | None:
    """Read the plan in a sweep's folder; returns None if there is none.

    Raises:
        InputError: it is damaged, or of another version.
    """
    path = RunDir(root).plan
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path} is damaged or of another version ({one_line(first['msg'])})") from error
