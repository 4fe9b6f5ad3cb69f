"""Several drivers in one folder (`--shard auto`): which of them are there, and which of them has which cell.

Drivers and cells have a lease each, a file in `.shards`. Its owner renews it; if it dies, another driver takes it. The
files are created exclusively, which is atomic on shared file systems too.
"""

import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from filelock import LeaseCompromise, SoftFileLease, Timeout

RENEWED = 20.0
"""Seconds between two renewals."""
STALE = 90.0
"""Seconds without a renewal after which an owner on another machine counts as dead. On its own machine it is noticed at
once. A client of NFS may see a renewal 60 s late."""


class Claims:
    """One of several drivers in a folder, and the cells that it has."""

    def __init__(self, root: Path, grid: str) -> None:
        """Take nothing yet.

        Args:
            root: the folder.
            grid: a fingerprint of the cells of the sweep, without dots. All drivers in the folder must have the same.
        """
        self._folder, self.grid = _folder(root), grid
        self.name = re.sub(r"[^\w-]", "-", f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}")
        """Of this driver, for the names of its files."""
        self._own = _lease(self._folder / "drivers" / f"{self.name}.{grid}", self._lose)
        self.lost = False
        """Whether the others no longer take this driver for alive, because it was suspended for long."""
        self._cells: dict[str, SoftFileLease] = {}

    def enter(self) -> None:
        """Be there from now on.

        Raises:
            OSError: the folder cannot be written.
        """
        for name in ("drivers", "cells"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self._own.acquire(blocking=False)

    def leave(self) -> None:
        """Give all cells back, and be there no longer."""
        for lease in (*self._cells.values(), self._own):
            with suppress(OSError):
                lease.release()

    def take(self, key: str) -> bool:
        """Take a cell; False if another driver has it. A cell of a dead driver may need a second try."""
        lease = self._cells.setdefault(key, _lease(self._folder / "cells" / key))
        if lease.is_locked:
            return _held(lease)
        with suppress(Timeout):
            lease.acquire(blocking=False)
        return lease.is_locked

    def owns(self, key: str) -> bool:
        """Whether this driver has a cell, and nobody has taken it away after a suspension."""
        return key in self._cells and _held(self._cells[key]) and _held(self._own)

    def give_back(self, key: str) -> None:
        """Another driver may take the cell."""
        if lease := self._cells.pop(key, None):
            with suppress(OSError):
                lease.release()

    def renewals(self, keys: Iterable[str]) -> dict[str, float | None]:
        """Key -> when its owner last renewed the lease; None if nobody has it."""
        return {key: _modified(self._folder / "cells" / key) for key in keys}

    @property
    def shown(self) -> str:
        """A fingerprint of the records whose results a driver has shown; empty if none has."""
        with suppress(OSError):
            return (self._folder / "shown").read_text()
        return ""

    @shown.setter
    def shown(self, records: str) -> None:
        with suppress(OSError):
            (self._folder / "shown").write_text(records)

    def _lose(self, compromise: LeaseCompromise) -> None:
        self.lost = True

    @property
    def others(self) -> dict[str, str]:
        """Name -> grid of the other drivers that are alive."""
        return {name: grid for name, grid in living(self._folder.parent).items() if name != self.name}


def living(root: Path) -> dict[str, str]:
    """Name -> grid of the drivers in a folder that are alive. The leases of dead ones are removed."""
    drivers = _folder(root) / "drivers"
    try:
        paths = sorted(path for path in drivers.iterdir() if not path.name.startswith("."))
        now = _now(drivers)
    except OSError:  # there are none
        return {}
    found = {}
    for path in paths:
        seen = _modified(path)
        if seen is None:  # it has just ended
            continue
        lease = _lease(path)
        for _ in range(2):  # the first try removes the lease of a dead process of this machine
            with suppress(Timeout, OSError):
                lease.acquire(blocking=False)
        if lease.is_locked:
            lease.release()
        elif now - seen > STALE:
            lease.force_break()
        else:
            name, _, grid = path.name.rpartition(".")
            found[name] = grid
    return found


def remove_claims(root: Path) -> bool:
    """Remove all leases of a folder without a living driver; returns whether there were any."""
    there = _folder(root).exists()
    shutil.rmtree(_folder(root), ignore_errors=True)
    return there


def _folder(root: Path) -> Path:
    return root / ".shards"


def _lease(path: Path, lose: Callable[[LeaseCompromise], None] | None = None) -> SoftFileLease:
    return SoftFileLease(path, lease_duration=STALE, heartbeat_interval=RENEWED, on_compromise=lose, thread_local=False)


def _held(lease: SoftFileLease) -> bool:
    """Whether the file still names the owner of this lease."""
    owner = lease.owner
    return owner is not None and lease.is_locked and owner.token == lease.token


def _modified(path: Path) -> float | None:
    """When a file was written, by the clock of its file system; None without one."""
    try:
        with path.open("rb") as file:  # a client of NFS asks the server again when it opens a file
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return None


def _now(folder: Path) -> float:
    """The time by the clock of the file system."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".now-", suffix=".tmp") as file:
        return os.fstat(file.fileno()).st_mtime
