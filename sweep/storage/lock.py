"""A lock allows one driver at a time in a sweep's folder, or several that agreed to share it (`--shard auto`)."""

import os
import socket
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from datasets.errors import InputError
from datasets.files import write_text_atomically
from sweep.storage.claims import Claims, living, remove_claims
from sweep.storage.cleanup import remove_requests
from sweep.storage.run_dir import RunDir, cannot_write

SHARING = "several, with --shard auto"
"""The name of killed drivers that shared a folder."""
LONGEST_TURN = 1800.0
"""Seconds that a driver waits for its turn, while another one measures the engine or writes the results."""


@contextmanager
def locked(run_dir: RunDir) -> Iterator[str | None]:
    """Create the folder and lock it for this process. A folder that stays empty is removed again.

    The system releases the lock when the process ends, even if it is killed. A killed driver leaves its name behind.

    Yields:
        The previous driver if it was killed; None otherwise.

    Raises:
        InputError: another driver holds the lock (the message names it), or the folder cannot be written.
    """
    created = _create(run_dir.root)
    lock = FileLock(run_dir.lock)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        owner = _driver(run_dir) or "just started"
        raise InputError(
            f"--out {run_dir.name} is in use by another sweep ({owner}): wait for it, stop it, or choose another --out"
        ) from None
    except OSError as error:
        raise cannot_write(run_dir.root, error) from error
    others: Collection[str] = ()
    try:
        if others := living(run_dir.root):
            raise InputError(
                f"--out {run_dir.name} is in use by {_named(others)} with --shard auto: wait, stop {_them(others)}, "
                "add --shard auto to take a part of the cells, or choose another --out"
            )
        killed = _driver(run_dir) or (SHARING if remove_claims(run_dir.root) else None)
        try:
            write_text_atomically(run_dir.driver, _this_process() + "\n")
        except OSError as error:
            raise cannot_write(run_dir.root, error) from error
        yield killed
    finally:
        with suppress(OSError):
            if not others:
                run_dir.driver.unlink(missing_ok=True)
                _remove_lock(run_dir)
        lock.release()
        _remove_empty(created)


@contextmanager
def shared(run_dir: RunDir, grid: str, clean: Callable[[str | None], None]) -> Iterator[RunDir]:
    """Create the folder and share it with other drivers, each of which takes cells that nobody has.

    Args:
        run_dir: the folder.
        grid: a fingerprint of the cells of the sweep.
        clean: is called if no other driver is there, with the previous driver if that was killed.

    Yields:
        The folder with this driver's claims.

    Raises:
        InputError: a driver has the folder to itself or runs other cells, or the folder cannot be written.
    """
    created = _create(run_dir.root)
    claims = Claims(run_dir.root, grid)
    try:
        with turn(run_dir, LONGEST_TURN):
            killed = _driver(run_dir)
            others = claims.others
            strange = [name for name, other in others.items() if other != grid]
            if strange:
                raise InputError(
                    f"--out {run_dir.name} is in use by {_named(strange)} with other cells or another recipe: all "
                    "commands with --shard auto need the same arguments; correct them, or choose another --out"
                )
            try:
                if not others and remove_claims(run_dir.root):
                    killed = killed or SHARING
                run_dir.driver.unlink(missing_ok=True)
                claims.enter()
            except OSError as error:
                raise cannot_write(run_dir.root, error) from error
            if not others:
                clean(killed)
        yield replace(run_dir, claims=claims, shard=claims.name)
    finally:
        claims.leave()
        with suppress(InputError), turn(run_dir, 1.0):  # otherwise the next command does this
            if not living(run_dir.root):
                remove_claims(run_dir.root)
                remove_requests(run_dir.root)
                with suppress(OSError):
                    _remove_lock(run_dir)
                    run_dir.checkpoints.rmdir()  # fails if there are checkpoints
        _remove_empty(created)


def alone(run_dir: RunDir) -> AbstractContextManager[None]:
    """Context manager in which no other driver of the folder does the same. Without other drivers it does nothing."""
    return turn(run_dir, LONGEST_TURN) if run_dir.claims else nullcontext()


@contextmanager
def turn(run_dir: RunDir, seconds: float) -> Iterator[None]:
    """Hold the lock for a short time, which the drivers that share a folder do in turn.

    Args:
        run_dir: the folder.
        seconds: the most seconds to wait for it.

    Raises:
        InputError: a driver has the folder to itself, or another one does not end its turn.
    """
    lock, due, told = FileLock(run_dir.lock), time.monotonic() + seconds, False
    while not lock.is_locked:
        try:
            lock.acquire(timeout=max(0.0, min(0.5, due - time.monotonic())), poll_interval=0.1)
        except Timeout:
            owner = _driver(run_dir)
            if owner is None and time.monotonic() < due:
                if not told:
                    print("waiting for another command in this folder, which has its turn", flush=True)
                told = True
                continue
            raise InputError(
                f"--out {run_dir.name} is in use by another sweep ({owner or 'which writes its results'}), and that "
                "one does not share it: wait for it, stop it, or choose another --out"
            ) from None
        except OSError as error:
            raise cannot_write(run_dir.root, error) from error
    try:
        yield
    finally:
        lock.release()


def _remove_lock(run_dir: RunDir) -> None:
    # While it is locked: a process that has it open notices that the file is gone, and creates another.
    run_dir.lock.unlink(missing_ok=True)


def _remove_empty(folders: Collection[Path]) -> None:
    for folder in folders:
        with suppress(OSError):  # it is not empty
            folder.rmdir()


def _named(drivers: Collection[str]) -> str:
    """Drivers in words."""
    first = ", ".join(sorted(drivers)[:3])
    more = f" and {len(drivers) - 3} more" if len(drivers) > 3 else ""
    return f"{'another command' if len(drivers) == 1 else f'{len(drivers)} commands'} ({first}{more})"


def _them(drivers: Collection[str]) -> str:
    return "it" if len(drivers) == 1 else "them"


def _create(root: Path) -> list[Path]:
    """Create the folder; returns the created folders, the innermost first."""
    absent = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(root, error) from error
    return absent


def _driver(run_dir: RunDir) -> str | None:
    try:
        return " ".join(run_dir.driver.read_text(errors="replace").split())[:200] or None
    except OSError:
        return None


def _this_process() -> str:
    return f"{socket.gethostname()}, process {os.getpid()}, since {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}"
