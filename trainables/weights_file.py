"""A file of weights in a recipe: its path and the digest of its content. No torch here."""

import hashlib
import re
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator

from datasets.errors import InputError
from datasets.settings import local_path

NO_WEIGHTS = "none"
"""In place of a file: random weights."""

_WITH_DIGEST = re.compile(r"(.+) ([0-9a-f]{16})", re.DOTALL)


def file_digest(path: Path) -> str:
    """Hash of a file's contents, 16 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=8)).hexdigest()


def _with_digest(given: object) -> object:
    """The absolute path and the digest of its content. Raises `ValueError` if the file cannot be read."""
    if not isinstance(given, str) or given == NO_WEIGHTS or _WITH_DIGEST.fullmatch(given):
        return given
    path = local_path(given).absolute()
    if not path.is_file():
        raise ValueError("no such file")
    try:
        return f"{path} {file_digest(path)}"
    except OSError as error:
        raise ValueError(f"cannot be read ({error.strerror or error})") from error


WeightsFile = Annotated[str, BeforeValidator(_with_digest)]
"""`none`; or the path of a file, which becomes `PATH DIGEST`. A text of that form is taken as it is, so that settings
can be read where the file is absent."""


def digest_of(weights: str) -> str:
    """The digest in a `WeightsFile`; `none` without a file."""
    return weights.rpartition(" ")[2]


def weights_path(weights: str) -> Path | None:
    """The path in a `WeightsFile`; None without a file."""
    return Path(weights.rpartition(" ")[0]) if weights != NO_WEIGHTS else None


def checked_path(weights: str) -> Path | None:
    """As `weights_path`, of a file whose content is still the one that the recipe means.

    Raises:
        InputError: the file is missing or has other content.
    """
    path = weights_path(weights)
    if path is None:
        return None
    try:
        found = file_digest(path)
    except OSError as error:
        raise InputError(f"--encoder.weights {path}: cannot be read ({error.strerror or error})") from error
    if found != digest_of(weights):
        raise InputError(
            f"--encoder.weights {path}: has changed: its digest is {found}, not {digest_of(weights)}; restore the "
            f"file, or give --encoder.weights {path} for a new recipe"
        )
    return path
