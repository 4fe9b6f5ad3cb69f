"""One driver at a time in a sweep's folder."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from datasets.errors import InputError
from sweep.storage.run_dir import Folder, cannot_write, replace_text


@contextmanager
def alone(folder: Folder) -> Iterator[str | None]:
    """This process is the only driver in the folder inside, which is made; what stays empty is taken away again.

    The system frees the lock of a process that is gone, however it went; what that process has said of itself is then
    still there.

    Yields:
        The driver before this one, where it did not end by itself; None otherwise.

    Raises:
        InputError: another driver is there (says which), or the folder cannot be written.
    """
    made = _made(folder.root)
    lock = FileLock(folder.lock)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        who = _said(folder) or "which has only just begun"
        raise InputError(
            f"--out {folder.name} is in use by another sweep ({who}): wait for it, stop it, or choose another --out"
        ) from None
    except OSError as error:
        raise cannot_write(folder.root, error) from error
    try:
        before = _said(folder)
        try:
            replace_text(folder.driver, _myself() + "\n")
        except OSError as error:
            raise cannot_write(folder.root, error) from error
        yield before
    finally:
        with suppress(OSError):
            folder.driver.unlink(missing_ok=True)
            # While it is held: who has opened it meanwhile finds that it has no name any more, and makes a new one.
            folder.lock.unlink(missing_ok=True)
        lock.release()
        for place in made:
            with suppress(OSError):  # something is in it
                place.rmdir()


def _made(root: Path) -> list[Path]:
    """Make the folder; the folders that were made for it, the innermost first."""
    absent = [place for place in (root, *root.parents) if not place.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(root, error) from error
    return absent


def _said(folder: Folder) -> str | None:
    try:
        return " ".join(folder.driver.read_text(errors="replace").split())[:200] or None
    except OSError:
        return None


def _myself() -> str:
    return f"{socket.gethostname()}, process {os.getpid()}, since {datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}"
