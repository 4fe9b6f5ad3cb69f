"""A lock allows one driver at a time in a sweep's folder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from datasets.errors import InputError
from datasets.files import write_text_atomically
from sweep.storage.run_dir import RunDir, cannot_write


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
    try:
        killed = _driver(run_dir)
        try:
            write_text_atomically(run_dir.driver, _this_process() + "\n")
        except OSError as error:
            raise cannot_write(run_dir.root, error) from error
        yield killed
    finally:
        with suppress(OSError):
            run_dir.driver.unlink(missing_ok=True)
            # Removed while it is locked: a process that has it open notices that the file is gone, and creates another.
            run_dir.lock.unlink(missing_ok=True)
        lock.release()
        for folder in created:
            with suppress(OSError):  # it is not empty
                folder.rmdir()


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
