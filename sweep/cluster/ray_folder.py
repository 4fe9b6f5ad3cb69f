"""Where a Ray that is started on this machine keeps its files, its shared data and its token.

This module does not import Ray.
"""

import errno
import os
import secrets
import shutil
import sys
from pathlib import Path

from datasets.errors import InputError
from datasets.files import own_folder, temporary_folder, write_text_atomically
from sweep.storage.system_errors import explain

MOST_BYTES = 107 if sys.platform == "linux" else 103
"""The longest name of a socket."""
SOCKET = "/session_2026-11-30_12-00-00_000000_1234567/sockets/plasma_store"
"""What Ray appends to its folder to name its longest socket: the time, and the number of the process."""
SHARED = Path("/dev/shm")
ENOUGH = 2**30
"""Bytes that suffice for shared data: the data set once, and reports."""


def ray_folder(asked: Path | None) -> Path:
    """The folder for Ray's sockets, logs and spilled data, which need not exist yet.

    Args:
        asked: the user's `--temp-dir`. None: `ray` in `RAY_TMPDIR`, or in a temporary folder that belongs to this user
            alone. In Ray's own default, /tmp/ray, other users may replace files, and their Ray may be the latest.

    Raises:
        InputError: the names of its sockets would be too long.
    """
    if asked:
        folder, origin = asked, "--temp-dir"
    elif place := os.environ.get("RAY_TMPDIR"):
        folder, origin = Path(place, "ray"), "RAY_TMPDIR"
    else:
        folder, origin = temporary_folder() / "ray", "TMPDIR"
    folder = folder.absolute()
    most = MOST_BYTES - len(SOCKET)
    if len(os.fsencode(folder)) > most:
        raise InputError(
            f"{origin}: {folder} is too long for the names of Ray's sockets there: give --temp-dir a folder on this "
            f"machine whose name has at most {most} bytes, such as /tmp/me"
        )
    return folder


def create_ray_folder(folder: Path) -> None:
    """Create the folder.

    Raises:
        InputError: it cannot be written, or belongs to another user.
    """
    try:
        if folder.parent == temporary_folder():
            own_folder(folder.parent)
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
    except OSError as error:
        raise InputError(
            f"Ray cannot start: {explain(error)} (its files go to {folder}; --temp-dir names another, short folder)"
        ) from error


def shared_memory(wanted: int, folder: Path) -> tuple[int, str]:
    """How many bytes Ray reserves for shared data, and a line to print if they are not in memory.

    Args:
        wanted: what Ray would reserve.
        folder: where Ray puts shared data that do not fit into /dev/shm.
    """
    if not SHARED.is_dir():  # not on Linux
        return wanted, ""
    free = shutil.disk_usage(SHARED).free
    if free >= min(wanted, ENOUGH):
        return min(wanted, int(0.95 * free)), ""
    return wanted, (
        f"{SHARED} has {free / 1e9:.2g} GB free: Ray keeps shared data in {folder} instead, which is slower (a "
        "container gets more with --shm-size=2g)"
    )


def token_variables() -> dict[str, str]:
    """The variable with the token by which Ray's processes know each other; empty if Ray finds it by itself.

    Ray keeps the token in the user's home. Where that is read-only, full or absent, the token is in the environment.
    """
    if os.environ.get("RAY_AUTH_MODE", "token") != "token":
        return {}
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return {}
    token = secrets.token_hex(32)
    try:
        file = Path.home() / ".ray" / "auth_token"
        if not (file.is_file() and file.stat().st_size):  # Ray leaves an empty file on a full disk
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text_atomically(file, token)
            file.chmod(0o600)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return {"RAY_AUTH_TOKEN": token}
    return {}
