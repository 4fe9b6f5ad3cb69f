"""Errors of the operating system as one line: which folder, which variable names it, what to do."""

import errno
import os
from pathlib import Path

from datasets.errors import one_line

_REMEDIES = {
    errno.ENOSPC: "free space",
    errno.EDQUOT: "free space",
    errno.EMFILE: "allow more open files (`ulimit -n 65536`)",
    errno.ENFILE: "close other programs, which have too many files open",
    errno.ENOMEM: "free memory",
    errno.EAGAIN: "allow more processes (`ulimit -u`), or end other programs",
}


def explain(error: OSError) -> str:
    """The error as one line, with a remedy. If a variable names the folder, the line says which."""
    problem = one_line(error, most=200) or type(error).__name__
    if error.errno in _REMEDIES:
        return f"{problem}: {_REMEDIES[error.errno]}"
    if isinstance(error.filename, str) and (found := _variable_of(error.filename)):
        name, folder = found
        return f"{problem}: {name} decides on this place (now {folder}): set it to a folder that you can write"
    if error.errno is None:  # raised by a library, which says what is wrong
        return problem
    return f"{problem}: check that the path exists and that you may read and write it"


def _variable_of(path: str) -> tuple[str, str] | None:
    """The environment variable that names the folder of a file, and the folder; None if there is none."""
    temporary, home = os.environ.get("TMPDIR") or "/tmp", os.path.expanduser("~")
    folders = {
        "RAY_TMPDIR": os.environ.get("RAY_TMPDIR") or os.path.join(temporary, "ray"),
        "TMPDIR": temporary,
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or os.path.join(home, ".cache"),
    }
    # Other files in the home folder, such as results, are where the user has put them.
    if Path(path).is_relative_to(home) and Path(path).relative_to(home).as_posix().startswith("."):
        folders["HOME"] = home
    found = [(name, folder) for name, folder in folders.items() if Path(path).is_relative_to(folder)]
    return max(found, key=lambda pair: len(pair[1]), default=None)
