"""Where a sweep stands, from what lies in its folder: read while it runs, on any machine, without a lock."""

import math
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import fmean, pstdev
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from analysis.errors import RecordsError
from analysis.records import parquet
from analysis.text import failure_reason
from datasets.errors import InputError
from sweep.config.grid import COST
from sweep.config.yaml_io import from_yaml
from sweep.monitor import progress
from sweep.monitor.progress import Progress, Running
from sweep.storage.run_dir import Folder
from trainables.cell import Cell

QUIET = {"starting": 1800.0, "running": 120.0, "ended": math.inf}
"""Seconds without a sign of life after which a driver counts as cut off. It writes every 10 s while cells run, and
while it starts just once: reading the data and measuring the machine take minutes."""
GONE = 20.0
"""Seconds after which a process of this machine that is no more counts as cut off already."""
GUESS = 0.5
"""Relative deviation of a loss's seconds where fewer than two of its cells are recorded."""

State = Literal["unknown", "starting", "running", "ended", "cut off"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a record tells here."""

    key: str
    status: Literal["done", "failed"]
    seconds: float | None
    started: str
    error: str | None

    @property
    def ended(self) -> datetime | None:
        """When the cell ended; None where the record does not tell."""
        try:
            began = datetime.fromisoformat(self.started)
            return began + timedelta(seconds=self.seconds) if began.tzinfo and self.seconds is not None else None
        except (ValueError, OverflowError):
            return None


@dataclass(frozen=True, kw_only=True)
class Count:
    """Cells of one loss. Those that run are missing still, or failed and run again."""

    done: int
    failed: int
    missing: int
    running: int


@dataclass(frozen=True, kw_only=True)
class Left:
    """How long the cells take that are not done yet."""

    seconds: float
    low: float
    high: float
    """Two standard deviations either side, of cells of one loss among each other and of their mean."""
    at_once: int
    """Cells at the same time that this supposes."""
    cells: int
    """Recorded cells it rests on."""
    guessed: tuple[str, ...]
    """Losses of which none is recorded: their seconds are in a usual proportion to the others'."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a sweep stands."""

    preset: str
    state: State
    heard: float | None
    """Seconds since the driver was last heard of."""
    progress: Progress | None
    losses: Mapping[str, Count]
    last_hour: float | None
    """Cells recorded an hour, in the command's last hour; None before there is a minute to go by."""
    overall: float | None
    """Cells recorded an hour, over all time in which cells ran."""
    left: Left | None
    failures: Mapping[str, str]
    """Cell -> why it is recorded as failed."""
    unreadable: tuple[Path, ...]
    """Records that cannot be read; their cells count as missing, and run again."""
    beyond: int
    """Records of cells that `sweep.yaml` does not ask for."""

    def total(self, name: Literal["done", "failed", "missing", "running"]) -> int:
        """Over all losses."""
        return sum(getattr(count, name) for count in self.losses.values())

    @property
    def planned(self) -> int:
        """Cells of the grid."""
        return self.total("done") + self.total("failed") + self.total("missing")


def standing(root: Path, now: datetime) -> Standing:
    """Where the sweep in this folder stands.

    Raises:
        InputError: it is no sweep's folder, or its `sweep.yaml` or `progress.json` is damaged.
    """
    folder = Folder(root)
    if not folder.config.exists():
        there = "there is no sweep.yaml in it" if root.is_dir() else "there is no such folder"
        raise InputError(f"{root}: {there}; name the --out of a sweep")
    sweep = from_yaml(folder.config)
    cells = {cell.key: cell for cell in sweep.cells()}
    told = progress.read(folder.progress)
    rows, unreadable = read_rows(root)
    planned = [row for row in rows if row.key in cells]
    state = _state(told, now)
    running = told.running if told and state == "running" else ()
    done = {row.key for row in planned if row.status == "done"}
    failed = {row.key: row for row in planned if row.status == "failed"}
    left = [cell for key, cell in cells.items() if key not in done and key not in failed]
    return Standing(
        preset=sweep.preset,
        state=state,
        heard=(now - told.driver.updated).total_seconds() if told else None,
        progress=told,
        losses=_by_loss(cells, done, set(failed), running),
        last_hour=_last_hour(rows, told, now) if told else None,
        overall=3600 * told.used.cells / told.used.seconds if told and told.used.seconds >= 60 else None,
        left=time_left(left, [(cells[row.key].objective, row) for row in planned], running, told, now),
        failures={str(cells[key]): failure_reason(row.error or "") for key, row in failed.items()},
        unreadable=tuple(unreadable),
        beyond=len(rows) - len(planned),
    )


_ROWS = TypeAdapter(list[Row])
_COLUMNS = tuple(Row.__dataclass_fields__)


def read_rows(root: Path) -> tuple[list[Row], list[Path]]:
    """What the records of a folder tell here, and the files that cannot be read."""
    rows: list[Row] = []
    unreadable = []
    for path in parquet.files(root / "records"):
        try:
            rows += _ROWS.validate_python(parquet.read(path, columns=_COLUMNS, remedy="").to_pylist())
        except FileNotFoundError:  # taken away since it was listed
            continue
        except (RecordsError, ValidationError):
            unreadable.append(path)
    return rows, unreadable


def _state(told: Progress | None, now: datetime) -> State:
    if told is None:
        return "unknown"
    quiet = (now - told.driver.updated).total_seconds()
    here = told.driver.host == socket.gethostname()
    if quiet > QUIET[told.driver.stage]:
        return "cut off"
    if told.driver.stage != "ended" and here and quiet > GONE and not _lives(told.driver.process):
        return "cut off"
    return told.driver.stage


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        return True
    return True


def _by_loss(
    cells: Mapping[str, Cell], done: set[str], failed: set[str], running: Sequence[Running]
) -> dict[str, Count]:
    found = {}
    active = {one.key for one in running}
    for objective in dict.fromkeys(cell.objective for cell in cells.values()):
        keys = {key for key, cell in cells.items() if cell.objective == objective}
        found[objective] = Count(
            done=len(keys & done),
            failed=len(keys & failed),
            missing=len(keys - done - failed),
            running=len(keys & active),
        )
    return found


def _last_hour(rows: Sequence[Row], told: Progress, now: datetime) -> float | None:
    """Cells an hour in the last hour of the command, whether it is going on or has ended."""
    until = min(now, told.driver.updated)
    since = max(until - timedelta(hours=1), told.driver.began)
    hours = (until - since).total_seconds() / 3600
    if hours < 1 / 60:
        return None
    # A record's end is its beginning and its seconds; that of a cell which was cut off in between is late.
    return sum(row.ended is not None and since < row.ended for row in rows) / hours


def time_left(
    cells: Sequence[Cell],
    recorded: Sequence[tuple[str, Row]],
    running: Sequence[Running],
    told: Progress | None,
    now: datetime,
) -> Left | None:
    """How long `cells` take, by the seconds of recorded ones of the same loss.

    Args:
        cells: those that have no record.
        recorded: (loss, record) of those that have.
        running: those that run; what they have done already is taken off.
        told: tells how many run at the same time.
        now: the time.

    Returns:
        None where nothing is left, or nothing is recorded to go by.
    """
    seconds: dict[str, list[float]] = {}
    for objective, row in recorded:
        if row.status == "done" and row.seconds is not None and 0 < row.seconds < math.inf:
            seconds.setdefault(objective, []).append(row.seconds)
    if not cells or not seconds:
        return None
    unit = fmean(fmean(found) / COST.get(name, 1.0) for name, found in seconds.items())
    wanted = {cell.objective: [one for one in cells if one.objective == cell.objective] for cell in cells}
    total = variance = longest = 0.0
    ages = {one.key: (now - one.since).total_seconds() for one in running}
    for name, ones in wanted.items():
        found = seconds.get(name, [])
        mean = fmean(found) if found else unit * COST.get(name, 1.0)
        spread = pstdev(found) if len(found) > 1 else GUESS * mean
        total += sum(max(0.0, mean - max(0.0, ages.get(one.key, 0.0))) for one in ones)
        variance += len(ones) * spread**2 + (len(ones) * spread) ** 2 / max(1, len(found))
        longest = max(longest, mean)
    at_once = max(1, len(running) or (told.most if told else 0))
    # However many run at once, the last one takes its time, unless it has begun already.
    least = 0.0 if all(cell.key in ages for cell in cells) else longest
    middle, margin = max(total / at_once, least), 2 * math.sqrt(variance) / at_once
    return Left(
        seconds=middle,
        low=max(0.0, middle - margin),
        high=middle + margin,
        at_once=at_once,
        cells=sum(map(len, seconds.values())),
        guessed=tuple(name for name in wanted if name not in seconds),
    )
