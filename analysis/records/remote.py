"""Sweeps on an object store, `s3://bucket/name`: read by way of a copy on this machine, which is brought up to date.

Who may read there is what the environment says (AWS_ACCESS_KEY_ID, AWS_PROFILE, a machine's role; AWS_ENDPOINT_URL for
another server than Amazon's).
"""

import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock

from analysis.errors import RecordsError
from analysis.text import one_line

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

SCHEMES = ("s3", "gs")
FOLDERS = ("records", "curves", "predictions", "figures")
"""Folders of a sweep that are copied; checkpoints and encoders are large, and logs are the driver's own."""
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
"""Files that are read or written at the same time: each waits for the network."""
SETTLED_AFTER = 3 * 10**9
"""Nanoseconds in which a file that was just written is read again."""
DIGEST_DIGITS = 8
"""Digits of a digest that tell two addresses of the same last part from each other."""

STORE_PROBLEMS = (
    (("NO_SUCH_BUCKET",), "there is no such bucket: make it, or correct the address"),
    (
        ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "INVALID_CLIENT_TOKEN_ID", "SIGNATURE_DOES_NOT_MATCH", "FORBIDDEN"),
        "access is denied: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile that may use it",
    ),
    (
        ("NETWORK_CONNECTION", "onnect to server", "resolve host"),
        "the server does not answer: see that it runs and that AWS_ENDPOINT_URL, if set, is its address",
    ),
)
"""What the SDK's long messages come to, by signs in them."""


def is_remote(where: str | PathLike[str]) -> bool:
    """Whether this is an address, well-formed or not, rather than a path on this machine."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://|(s3|gs):", os.fspath(where)) is not None


def path_or_address(text: str) -> Path | str:
    """A type for `add_argument`: an address stays as it is, since a `Path` would drop one of its slashes."""
    return text if is_remote(text) else Path(text)


def normalized_address(where: str | PathLike[str]) -> str:
    """The address without a slash at its end.

    Raises `RecordsError` for an unknown scheme, no bucket, no name in it, or letters that an address cannot have.
    """
    uri = os.fspath(where)
    example = "write it as in s3://bucket/name"
    scheme, slashes, rest = uri.partition("://")
    if not slashes:
        raise RecordsError(f"{one_line(uri, most=200)}: two slashes come after the colon: {example}")
    if scheme not in SCHEMES:
        raise RecordsError(
            f"{one_line(uri, most=200)}: {one_line(scheme, most=40)}:// is not known, use one of "
            f"{', '.join(f'{one}://' for one in SCHEMES)} or the path of a folder"
        )
    if "@" in rest or "?" in rest:  # not repeated: it may be a secret
        raise RecordsError(f"{scheme}://...: an address holds no keys and no options, the environment does: {example}")
    bucket, _, name = rest.rstrip("/").partition("/")
    if not bucket or not name:
        raise RecordsError(f"{uri}: it names no {'folder in the bucket' if bucket else 'bucket'}: {example}")
    # Else keys and passwords would come with it, and end in sweep.yaml.
    if not re.fullmatch(r"[A-Za-z0-9._-]+", bucket) or not re.fullmatch(r"[A-Za-z0-9._=+~/-]+", name):
        raise RecordsError(f"{one_line(uri, most=200)}: use letters, digits and . _ - = + ~ / alone: {example}")
    if {"", ".", ".."} & set(name.split("/")):
        raise RecordsError(f"{uri}: an empty part, . and .. name no folder there: {example}")
    return uri.rstrip("/")


def working_copy(uri: str, use: Literal["sweeps", "read"] = "sweeps") -> Path:
    """Where this machine's copy of what lies at `uri` is: in the user's cache.

    That of a running sweep is its driver's alone; what only reads has one of its own beside it.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute()
    digest = hashlib.sha256(uri.encode()).hexdigest()[:DIGEST_DIGITS]
    return cache / "noisy-pairs" / use / f"{uri.rsplit('/', 1)[1]}-{digest}"


def local_copy(where: str | PathLike[str]) -> Path:
    """The path of a sweep's folder or file on this machine; of an address, that of a copy which is up to date.

    Raises `RecordsError` as `fetch`, and where there are no records at an address.
    """
    if not is_remote(where):
        return Path(where)
    uri = normalized_address(where)
    copy = fetch(uri)
    if copy.is_dir() and not (copy / "summary.parquet").exists() and not any((copy / "records").rglob("*.parquet")):
        raise RecordsError(f"no records at {uri}: run a sweep with --out {uri}, or correct the address")
    return copy


def default_folder(where: str | PathLike[str]) -> Path:
    """The folder in which what is made of a sweep goes unless said otherwise: its own; of an address, one of that name
    in the current folder."""
    if is_remote(where):
        return Path(normalized_address(where).rsplit("/", 1)[1].removesuffix(".parquet"))
    path = Path(where)
    return path if path.is_dir() else path.parent


def open_store(uri: str) -> "tuple[FileSystem, str]":
    """The store and the path in it.

    Raises `RecordsError` where the store cannot be used at all.
    """
    import pyarrow as pa  # here: it starts threads, and most sweeps lie in a folder
    from pyarrow.fs import FileSystem

    try:
        # Google's library would try for a quarter of an hour.
        return FileSystem.from_uri(uri + ("?retry_limit_seconds=60" if uri.startswith("gs:") else ""))
    except (OSError, pa.ArrowException) as error:
        raise RecordsError(f"{uri} cannot be used: {store_problem(error)}") from error


def store_problem(error: Exception) -> str:
    """What a store's error says, in a line."""
    text = str(error)
    known = (meaning for signs, meaning in STORE_PROBLEMS if any(sign in text for sign in signs))
    return next(known, None) or one_line(text, most=200) or type(error).__name__


def fetch(uri: str, into: Path | None = None) -> Path:
    """Bring the copy of what lies at `uri` up to date and return its path.

    Only what differs in size or time is read. All of it is read before anything is replaced; what is gone there goes
    here, among the names of `FOLDERS` and `FILES`. Of the address of one file, that file alone is read.

    Raises `RecordsError` where the store or the bucket is not there or may not be read; `OSError` when the copy cannot
    be written.
    """
    store, root = open_store(uri)
    try:
        there = _list_store(store, root)
        if there is None:  # a file
            return _fetch_file(store, root, into or working_copy(uri, "read"))
        copy = into or working_copy(uri, "read")
        with _exclusively(copy):
            _download(store, root, there, copy)
            for path in _copied_files(copy):
                if path.relative_to(copy).as_posix() not in there:
                    path.unlink(missing_ok=True)
    except _StoreError as error:
        raise RecordsError(f"{uri} cannot be read: {error}") from error
    return copy


def _fetch_file(store: "FileSystem", path: str, into: Path) -> Path:
    """Bring one file, and the sweep.yaml beside it: that says at which level intervals are."""
    from pyarrow.fs import FileType

    folder, name = path.rsplit("/", 1)
    try:
        found = {one: store.get_file_info(f"{folder}/{one}") for one in (name, "sweep.yaml")}
    except OSError as error:
        raise _StoreError(store_problem(error)) from error
    there = {one: info for one, info in found.items() if info.type == FileType.File}
    with _exclusively(into):
        _download(store, folder, there, into)
        if "sweep.yaml" not in there:
            (into / "sweep.yaml").unlink(missing_ok=True)
    return into / name


@contextmanager
def _exclusively(copy: Path) -> Iterator[None]:
    """Nobody else brings this copy up to date inside."""
    copy.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(copy.with_name(f".{copy.name}.lock")):
        yield


class _StoreError(Exception):
    """What the store said, in a line; an `OSError` is the disk's here."""


def _list_store(store: "FileSystem", root: str) -> "dict[str, FileInfo] | None":
    """Name -> what the store says of it; None where there is a file of the name itself."""
    from pyarrow.fs import FileSelector, FileType

    try:
        if store.get_file_info(root).type == FileType.File:
            return None
        top = store.get_file_info(FileSelector(root, allow_not_found=True))
        if not top and store.get_file_info(root.split("/", 1)[0]).type == FileType.NotFound:
            raise _StoreError("there is no such bucket: make it, or correct the address")
        found = [info for info in top if info.base_name in FILES]
        for info in top:
            if info.base_name in FOLDERS:
                found += store.get_file_info(FileSelector(info.path, recursive=True, allow_not_found=True))
    except OSError as error:
        raise _StoreError(store_problem(error)) from error
    # A name with a dot in front is a draft of somebody else's tool; one with .. would leave the copy.
    names = {info.path.removeprefix(root + "/"): info for info in found if info.type == FileType.File}
    return {name: info for name, info in names.items() if not any(part.startswith(".") for part in name.split("/"))}


def _download(store: "FileSystem", root: str, there: "Mapping[str, FileInfo]", copy: Path) -> None:
    """Read what differs, all of it or nothing."""
    copy.mkdir(parents=True, exist_ok=True)
    stale = [name for name, info in there.items() if not _is_current(copy / name, info)]
    if not stale:
        return
    with tempfile.TemporaryDirectory(prefix=".fetch-", suffix=".tmp", dir=copy) as drafts:

        def read(number: int) -> Path | None:
            try:
                with store.open_input_stream(f"{root}/{stale[number]}") as stream:
                    content = stream.read()
            except FileNotFoundError:  # taken away meanwhile
                return None
            except OSError as error:
                raise _StoreError(store_problem(error)) from error
            draft = Path(drafts, str(number))
            draft.write_bytes(content)
            os.utime(draft, ns=(there[stale[number]].mtime_ns,) * 2)
            return draft

        with ThreadPoolExecutor(PARALLEL_FILES, "fetch") as threads:
            found = dict(zip(stale, threads.map(read, range(len(stale))), strict=True))
        for name, draft in found.items():
            if draft is not None:
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(draft, copy / name)


def _is_current(path: Path, info: "FileInfo") -> bool:
    try:
        here = path.stat()
    except OSError:
        return False
    # A store may count whole seconds: what is so young may have been written twice in one.
    young = abs(time.time_ns() - info.mtime_ns) < SETTLED_AFTER
    return not young and (here.st_size, here.st_mtime_ns) == (info.size, info.mtime_ns)


def _copied_files(copy: Path) -> list[Path]:
    """The files of a copy that came from the store."""
    below = [path for name in FOLDERS for path in (copy / name).rglob("*")]
    return [path for path in (*below, *(copy / name for name in FILES)) if path.is_file()]
