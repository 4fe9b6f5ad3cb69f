"""A snapshot of a sweep from the files in its folder. It needs no lock; any machine can take it during the sweep."""

import math
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from analysis.errors import RecordsError
from analysis.records import parquet
from analysis.records.io import record_files
from analysis.text import failure_reason
from datasets.errors import InputError
from sweep.config.yaml_io import from_yaml
from sweep.monitor.progress import Driver, Progress, Running, ended, joined, read_progress
from sweep.monitor.time_left import TimeLeft, estimate_time_left
from sweep.storage.run_dir import RunDir
from trainables.cell import Cell

MOST_SILENCE = {"starting": 1800.0, "running": 120.0, "ended": math.inf}
"""Seconds without an update after which a driver counts as cut off. It writes every 10 s while cells run, but only once
while it starts: reading the data and measuring the machine take minutes. On a busy machine all takes longer: with five
programs for each core, five times."""
PROCESS_GONE = 20.0
"""The same if the driver ran on this machine and its process no longer exists."""

State = Literal["unknown", "starting", "running", "ended", "cut off"]


@dataclass(frozen=True, kw_only=True)
class RecordRow:
    """The columns of a record that a snapshot needs."""

    key: str
    status: Literal["done", "failed"]
    seconds: float | None
    started: str
    error: str | None
    collapsed: bool | None = None
    """Null in older records."""

    @property
    def ended(self) -> datetime | None:
        """When the cell ended; None if the record does not tell."""
        try:
            began = datetime.fromisoformat(self.started)
            return began + timedelta(seconds=self.seconds) if began.tzinfo and self.seconds is not None else None
        except (ValueError, OverflowError):
            return None


@dataclass(frozen=True, kw_only=True)
class CellCounts:
    """Numbers of cells of one loss. Running cells also count as missing, or as failed if they run again."""

    done: int
    failed: int
    missing: int
    running: int


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The state of a sweep. The fields are those of `python -m sweep.status --json`."""

    preset: str
    state: State
    heard: float | None
    """Seconds since the driver last wrote `progress.json`."""
    progress: Progress | None
    losses: Mapping[str, CellCounts]
    last_hour: float | None
    """Cells recorded per hour during the last hour of the command; None in its first minute."""
    overall: float | None
    """Cells recorded per hour, over all time during which cells ran."""
    left: TimeLeft | None
    failures: Mapping[str, str]
    """Failed cell -> the reason."""
    collapsed: tuple[str, ...]
    """The done cells whose pretraining has collapsed."""
    unreadable: tuple[Path, ...]
    """Unreadable records. Their cells count as missing and run again."""
    beyond: int
    """Number of records of cells that are not in the grid of `sweep.yaml`."""
    moved: Path | None
    """The folder, if its `sweep.yaml` names another one, because it was moved or copied."""
    drivers: tuple[Driver, ...] = ()
    """The commands that share the folder and run now (`--shard auto`). `progress` holds all of them together."""

    def total(self, name: Literal["done", "failed", "missing", "running"]) -> int:
        """The sum over all losses."""
        return sum(getattr(count, name) for count in self.losses.values())

    @property
    def planned(self) -> int:
        """Cells of the grid."""
        return self.total("done") + self.total("failed") + self.total("missing")


def take_snapshot(root: Path, now: datetime) -> Snapshot:
    """Take a snapshot of the sweep in this folder.

    Raises:
        InputError: the folder holds no sweep, or its `sweep.yaml` or `progress.json` is damaged.
    """
    run_dir = RunDir(root)
    if not run_dir.config.exists():
        problem = "there is no sweep.yaml in this folder" if root.is_dir() else "there is no such folder"
        raise InputError(f"{root}: {problem}; give the --out of a sweep")
    sweep = from_yaml(run_dir.config)
    cells = {cell.key: cell for cell in sweep.cells()}
    progress, sharing = _read_all(run_dir, now)
    rows, unreadable = read_rows(root)
    planned = [row for row in rows if row.key in cells]
    state = _state(progress, now)
    running = progress.running if progress and state == "running" else ()
    done = {row.key: row for row in planned if row.status == "done"}
    failed = {row.key: row for row in planned if row.status == "failed"}
    used = progress.used if progress else None
    return Snapshot(
        preset=sweep.preset,
        state=state,
        heard=(now - progress.driver.updated).total_seconds() if progress else None,
        progress=progress,
        losses=count_by_loss(cells, set(done), set(failed), running),
        # A record's end is its start plus its seconds. That is too late for a cell that was interrupted in between.
        last_hour=cells_per_hour(
            [row.ended for row in rows if row.ended], progress.driver.began, min(now, progress.driver.updated)
        )
        if progress
        else None,
        overall=3600 * used.cells / used.seconds if used and used.seconds >= 60 else None,
        left=estimate_time_left(
            [cell for key, cell in cells.items() if key not in done and key not in failed],
            [(cells[key].objective, row.seconds) for key, row in done.items() if row.seconds is not None],
            running,
            now,
            at_once=progress.most if progress else 1,
        ),
        failures={str(cells[key]): failure_reason(row.error or "") for key, row in failed.items()},
        collapsed=tuple(str(cells[key]) for key, row in done.items() if row.collapsed),
        unreadable=tuple(unreadable),
        beyond=len(rows) - len(planned),
        moved=root if isinstance(sweep.out, Path) and sweep.out.resolve() != root.resolve() else None,
        drivers=tuple(one.driver for one in sharing),
    )


def _read_all(run_dir: RunDir, now: datetime) -> tuple[Progress | None, list[Progress]]:
    """The progress of all drivers together, and of each that shares the folder and runs now."""
    whole = read_progress(run_dir.progress)
    several = [one for path in run_dir.shared_progress if (one := read_progress(path))]
    if not several:
        return whole, []
    active = [one for one in several if _state(one, now) in ("starting", "running")]
    gone = [one for one in several if one not in active]
    before = [ended(whole)] if whole else []
    return joined([*before, *active, *map(ended, gone)] if active else [*before, *gone]), active


_ROWS = TypeAdapter(list[RecordRow])
_COLUMNS = tuple(RecordRow.__dataclass_fields__)


def read_rows(root: Path) -> tuple[list[RecordRow], list[Path]]:
    """The records of a folder, and the unreadable files."""
    rows: list[RecordRow] = []
    unreadable = []
    for path in record_files(root):
        try:
            rows += _ROWS.validate_python(parquet.read(path, columns=_COLUMNS, remedy="").to_pylist())
        except FileNotFoundError:  # removed after it was listed
            continue
        except (RecordsError, ValidationError):
            unreadable.append(path)
    return rows, unreadable


def _state(progress: Progress | None, now: datetime) -> State:
    if progress is None:
        return "unknown"
    driver = progress.driver
    silence = (now - driver.updated).total_seconds()
    if silence > MOST_SILENCE[driver.stage] * driver.load_per_core:
        return "cut off"
    on_this_machine = driver.host == socket.gethostname()
    if driver.stage != "ended" and on_this_machine and silence > PROCESS_GONE and not _process_exists(driver.process):
        return "cut off"
    return driver.stage


def _process_exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it exists and belongs to another user
        return True
    return True


def count_by_loss(
    cells: Mapping[str, Cell], done: set[str], failed: set[str], running: Sequence[Running]
) -> dict[str, CellCounts]:
    """The numbers of cells of each loss, by the keys of those that are done and of those that have failed."""
    counts = {}
    active = {one.key for one in running}
    for objective in dict.fromkeys(cell.objective for cell in cells.values()):
        keys = {key for key, cell in cells.items() if cell.objective == objective}
        counts[objective] = CellCounts(
            done=len(keys & done),
            failed=len(keys & failed),
            missing=len(keys - done - failed),
            running=len(keys & active),
        )
    return counts


def cells_per_hour(ends: Sequence[datetime], began: datetime, until: datetime) -> float | None:
    """Cells recorded per hour in the last hour of a command until then; None in its first minute."""
    since = max(until - timedelta(hours=1), began)
    hours = (until - since).total_seconds() / 3600
    return None if hours < 1 / 60 else sum(since < one for one in ends) / hours
