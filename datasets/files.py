"""Writes files atomically, and caches what is slow to compute."""

import errno
import os
import sys
import threading
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path


def write_atomically(path: Path, *data: bytes | memoryview) -> None:
    """Write a file so that readers see all of it or none, and so that it survives a power failure.

    A temporary file in the same folder, which must exist, is synced to the disk and then renamed. Its name begins with
    a dot and ends in `.part`; a killed process leaves it behind.

    Raises:
        OSError: the file cannot be written; an earlier one is unchanged.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        with part.open("wb") as file:
            file.writelines(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    with suppress(OSError):  # some network mounts cannot sync a folder
        sync(path.parent)


def write_text_atomically(path: Path, text: str) -> None:
    """`write_atomically` for text, in UTF-8.

    Raises:
        OSError: the file cannot be written; an earlier one is unchanged.
    """
    write_atomically(path, text.encode())


def sync(path: Path) -> None:
    """Flush the content of a file, or the names in a folder, to the disk.

    Raises:
        OSError: it cannot be opened or synced.
    """
    if path.is_dir() and not hasattr(os, "O_DIRECTORY"):
        return  # Windows cannot open a folder
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def temporary_folder() -> Path:
    """A folder for temporary files of this user on this machine. It need not exist: see `own_folder`."""
    # The folder that TMPDIR names on macOS is too long for the sockets of Ray.
    place = os.environ.get("TMPDIR") if sys.platform == "linux" else None
    return Path(place or "/tmp", f"noisy-pairs-{os.getuid()}")


def own_folder(folder: Path) -> Path:
    """Create a folder that only this user can read, among those of other users.

    Raises:
        OSError: it cannot be created, or another user has created it.
    """
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if folder.lstat().st_uid != os.getuid():
        raise PermissionError(errno.EACCES, "the folder belongs to another user", str(folder))
    return folder


def cache_folder() -> Path:
    """The user's cache for this project by the XDG specification. It need not exist, and may be deleted.

    A user without a home, as in some containers, has it among the temporary files.

    Raises:
        OSError: there is no home, and the temporary folder belongs to another user.
    """
    if not (place := os.environ.get("XDG_CACHE_HOME")):
        try:
            place = str(Path.home() / ".cache")
        except RuntimeError:  # HOME is not set, and the user has no entry in the system
            place = str(own_folder(temporary_folder()) / "cache")
    return Path(place) / "noisy-pairs"


def cache_write(name: str, content: bytes) -> str:
    """Write `content` to the cache.

    Returns:
        Why it could not be written, such as a read-only or full home; empty text if it was.
    """
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / name, blake2b(content).digest() + content)
    except OSError as error:
        return " ".join(str(error).split())
    return ""


def cache_read(name: str) -> bytes | None:
    """The content that `cache_write` wrote; None if it is absent or damaged."""
    try:
        data = (cache_folder() / name).read_bytes()
    except OSError:
        return None
    size = blake2b().digest_size
    return data[size:] if blake2b(data[size:]).digest() == data[:size] else None
