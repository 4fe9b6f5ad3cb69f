"""Sweeps on an object store, `s3://bucket/name`. They are read from a copy on this machine, updated before each use.

Credentials come from the environment: AWS_ACCESS_KEY_ID, AWS_PROFILE or the role of the machine. AWS_ENDPOINT_URL names
a server other than Amazon's.
"""

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock

from analysis.errors import RecordsError
from analysis.text import describe_error, one_line

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

SCHEMES = ("s3", "gs")
FOLDERS = ("records", "curves", "predictions", "figures")
"""The folders of a sweep that are copied. Checkpoints and encoders are too large; logs stay with the driver."""
ENCODERS = "encoders"
"""The folder that only a probe of kept encoders copies, too."""
FILES = (
    "summary.parquet",
    "sweep.yaml",
    "data.txt",
    "weights.txt",
    "progress.json",
    "plan.json",
    "tables.txt",
    "report.html",
)
PARALLEL_FILES = 16
"""Files read or written in parallel, since each mostly waits for the network."""
SETTLED_AFTER = 3 * 10**9
"""A file younger than this (ns) is read again, because some stores record whole seconds only."""
DIGEST_DIGITS = 8
"""Digits of the digest that distinguishes addresses with the same last part."""

STORE_PROBLEMS = (
    (("NO_SUCH_BUCKET",), "there is no such bucket: create it, or correct the address"),
    (
        ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "INVALID_CLIENT_TOKEN_ID", "SIGNATURE_DOES_NOT_MATCH", "FORBIDDEN"),
        "access is denied: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile with access",
    ),
    (
        ("NETWORK_CONNECTION", "onnect to server", "resolve host"),
        "the server does not answer: check that it runs and that AWS_ENDPOINT_URL, if set, is its address",
    ),
)
"""Parts of the SDK's long messages, and the message for the user."""


def is_remote(where: str | PathLike[str]) -> bool:
    """Whether this is an address (valid or not) rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://|(s3|gs):", os.fspath(where)) is not None


def normalized_address(where: str | PathLike[str]) -> str:
    """The address without a trailing slash.

    Raises `RecordsError` for an unknown scheme, a missing bucket or name, or invalid characters.
    """
    uri = os.fspath(where)
    example = "write it as in s3://bucket/name"
    scheme, slashes, rest = uri.partition("://")
    if "@" in uri or "?" in uri:  # the message does not repeat it, because it may be a secret
        kind = one_line(uri.partition(":")[0], most=40)
        raise RecordsError(f"{kind}://...: put keys and options into the environment, not the address: {example}")
    if not slashes:
        raise RecordsError(f"{one_line(uri, most=200)}: two slashes come after the colon: {example}")
    if scheme not in SCHEMES:
        raise RecordsError(
            f"{one_line(uri, most=200)}: {one_line(scheme, most=40)}:// is not supported, use one of "
            f"{', '.join(f'{one}://' for one in SCHEMES)} or the path of a folder"
        )
    bucket, _, name = rest.rstrip("/").partition("/")
    if not bucket or not name:
        raise RecordsError(f"{uri}: it names no {'folder in the bucket' if bucket else 'bucket'}: {example}")
    # Otherwise it could contain keys and passwords, which would be written to sweep.yaml.
    if not re.fullmatch(r"[A-Za-z0-9._-]+", bucket) or not re.fullmatch(r"[A-Za-z0-9._=+~/-]+", name):
        raise RecordsError(f"{one_line(uri, most=200)}: use only letters, digits and . _ - = + ~ /: {example}")
    if {"", ".", ".."} & set(name.split("/")):
        raise RecordsError(f"{uri}: an empty part, . or .. is not a folder there: {example}")
    return uri.rstrip("/")


def working_copy(uri: str, use: Literal["sweeps", "read"] = "sweeps") -> Path:
    """The path of the copy of `uri` in the user's cache.

    The driver of a running sweep has its own copy (`sweeps`); readers share another one (`read`).
    """
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute()
    except RuntimeError as error:  # HOME is not set, and the user has no entry in the system
        raise RecordsError(f"{uri}: its copy on this machine has no place: set HOME or XDG_CACHE_HOME") from error
    digest = hashlib.sha256(uri.encode()).hexdigest()[:DIGEST_DIGITS]
    return cache / "noisy-pairs" / use / f"{uri.rsplit('/', 1)[1]}-{digest}"


def local_copy(where: str | PathLike[str]) -> Path:
    """The path of a folder or file of a sweep; for an address, that of its updated copy.

    Raises `RecordsError` as `fetch`, and if there are no records at an address.
    """
    if not is_remote(where):
        return Path(where)
    uri = normalized_address(where)
    copy = fetch(uri)
    if copy.is_dir() and not (copy / "summary.parquet").exists() and not any((copy / "records").rglob("*.parquet")):
        raise RecordsError(f"no records at {uri}: run a sweep with --out {uri}, or correct the address")
    return copy


def default_folder(where: str | PathLike[str]) -> Path:
    """The default output folder: that of the sweep; for an address, a folder with its name in the current one."""
    if is_remote(where):
        return Path(normalized_address(where).rsplit("/", 1)[1].removesuffix(".parquet"))
    path = Path(where)
    return path if path.is_dir() else path.parent


def open_store(uri: str) -> "tuple[FileSystem, str]":
    """The file system of an address, and the path in it.

    Raises `RecordsError` if the store cannot be used.
    """
    import pyarrow as pa  # here, because it starts threads and most sweeps are in local folders
    from pyarrow.fs import FileSystem

    try:
        # By default Google's library retries for 15 minutes.
        return FileSystem.from_uri(uri + ("?retry_limit_seconds=60" if uri.startswith("gs:") else ""))
    except (OSError, pa.ArrowException) as error:
        raise RecordsError(f"{uri} cannot be used: {store_problem(error)}") from error


def store_problem(error: Exception) -> str:
    """The error of a store in one line, with a remedy if one is known."""
    text = str(error)
    known = (meaning for signs, meaning in STORE_PROBLEMS if any(sign in text for sign in signs))
    return next(known, None) or describe_error(error)


def fetch(uri: str, into: Path | None = None, *, folders: Sequence[str] = FOLDERS) -> Path:
    """Update the copy of `uri` and return its path.

    It reads only files that differ in size or time, and replaces files only after all have been read. It deletes files
    of `folders` and `FILES` that are no longer in the store. If the address is that of a file, it reads only that file.

    Raises:
        RecordsError: the store or the bucket does not exist or may not be read.
        OSError: the copy cannot be written.
    """
    store, root = open_store(uri)
    try:
        stored = _list_store(store, root, folders)
        if stored is None:  # a file
            return _fetch_file(store, root, into or working_copy(uri, "read"))
        copy = into or working_copy(uri, "read")
        with _exclusively(copy):
            _download(store, root, stored, copy)
            for path in _copied_files(copy, folders):
                if path.relative_to(copy).as_posix() not in stored:
                    path.unlink(missing_ok=True)
    except _StoreError as error:
        raise RecordsError(f"{uri} cannot be read: {error}") from error
    return copy


def _fetch_file(store: "FileSystem", path: str, into: Path) -> Path:
    """Copy one file, and the sweep.yaml in its folder, which holds the confidence level."""
    from pyarrow.fs import FileType

    folder, name = path.rsplit("/", 1)
    try:
        infos = {one: store.get_file_info(f"{folder}/{one}") for one in (name, "sweep.yaml")}
    except OSError as error:
        raise _StoreError(store_problem(error)) from error
    stored = {one: info for one, info in infos.items() if info.type == FileType.File}
    with _exclusively(into):
        _download(store, folder, stored, into)
        if "sweep.yaml" not in stored:
            (into / "sweep.yaml").unlink(missing_ok=True)
    return into / name


@contextmanager
def _exclusively(copy: Path) -> Iterator[None]:
    """Hold the lock of a copy, which one process at a time updates."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(copy.with_name(f".{copy.name}.lock")):
        yield


class _StoreError(Exception):
    """The error of a store in one line. In this module, an `OSError` concerns the local disk."""


def _list_store(store: "FileSystem", root: str, folders: Sequence[str]) -> "dict[str, FileInfo] | None":
    """The files below `root`: name -> size and time; None if `root` itself is a file."""
    from pyarrow.fs import FileSelector, FileType

    try:
        if store.get_file_info(root).type == FileType.File:
            return None
        top = store.get_file_info(FileSelector(root, allow_not_found=True))
        if not top and store.get_file_info(root.split("/", 1)[0]).type == FileType.NotFound:
            raise _StoreError("there is no such bucket: create it, or correct the address")
        infos = [info for info in top if info.base_name in FILES]
        for info in top:
            if info.base_name in folders:
                infos += store.get_file_info(FileSelector(info.path, recursive=True, allow_not_found=True))
    except OSError as error:
        raise _StoreError(store_problem(error)) from error
    # A name that begins with a dot is a draft of another tool; one with .. would be outside the copy.
    names = {info.path.removeprefix(root + "/"): info for info in infos if info.type == FileType.File}
    return {name: info for name, info in names.items() if not any(part.startswith(".") for part in name.split("/"))}


def _download(store: "FileSystem", root: str, stored: "Mapping[str, FileInfo]", copy: Path) -> None:
    """Read the files that differ. None is replaced unless all could be read."""
    copy.mkdir(parents=True, exist_ok=True)
    stale = [name for name, info in stored.items() if not _is_current(copy / name, info)]
    if not stale:
        return
    with tempfile.TemporaryDirectory(prefix=".fetch-", suffix=".tmp", dir=copy) as drafts:

        def download(number: int) -> Path | None:
            try:
                with store.open_input_stream(f"{root}/{stale[number]}") as stream:
                    content = stream.read()
            except FileNotFoundError:  # deleted since the listing
                return None
            except OSError as error:
                raise _StoreError(store_problem(error)) from error
            draft = Path(drafts, str(number))
            draft.write_bytes(content)
            os.utime(draft, ns=(stored[stale[number]].mtime_ns,) * 2)
            return draft

        with ThreadPoolExecutor(PARALLEL_FILES, "fetch") as threads:
            drafts_by_name = dict(zip(stale, threads.map(download, range(len(stale))), strict=True))
        for name, draft in drafts_by_name.items():
            if draft is not None:
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(draft, copy / name)


def _is_current(path: Path, info: "FileInfo") -> bool:
    try:
        local = path.stat()
    except OSError:
        return False
    # Such a young file may have been written twice in one second.
    young = abs(time.time_ns() - info.mtime_ns) < SETTLED_AFTER
    return not young and (local.st_size, local.st_mtime_ns) == (info.size, info.mtime_ns)


def _copied_files(copy: Path, folders: Sequence[str]) -> list[Path]:
    """The files of a copy that come from the store."""
    below = [path for name in folders for path in (copy / name).rglob("*")]
    return [path for path in (*below, *(copy / name for name in FILES)) if path.is_file()]
