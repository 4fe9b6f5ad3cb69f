"""Files that are either whole or not there: Parquet, and the atomic write that all of `analysis` uses."""

import errno
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import RecordsError
from analysis.text import describe_error

MOST_ROWS = 10_000_000  # that are read; a few bytes can claim any number
MOST_BYTES = 2**31


def write(path: Path, table: pa.Table) -> Path:
    """Write `table` to `path`, whole or not at all: see `atomic_write`."""
    with atomic_write(path) as file:
        pq.write_table(table, file, write_page_checksum=True)
    return path


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces `path` when the block ends; at no moment is a part of it visible.

    A crash leaves at most a dot-file that readers pass over. `OSError` (disk full, read-only) propagates.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, since a rename is atomic only within one file system; not ending in
    # .parquet, so that no glob finds it.
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with open(draft, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)


def write_bytes(path: Path, content: bytes) -> Path:
    """Write a file that a user named, atomically where that is possible.

    A device, a pipe or a link such as /dev/stdout is written to, not replaced. `OSError` propagates.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.write_bytes(content)
    else:
        with atomic_write(path) as file:
            file.write(content)
    return path


def read(path: Path, *, columns: Sequence[str] | None = None, remedy: str) -> pa.Table:
    """The file's table, or those of `columns` it has.

    A file that is cut off or no Parquet raises `RecordsError`, which ends with `remedy`; one that the system
    will not hand out raises its `OSError`.
    """
    # Read by Python first: pyarrow raises OSError for a damaged file too, which has another remedy.
    data = path.read_bytes()
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        _check_size(file.metadata)
        table = file.read(columns=None if columns is None else list(columns))
        table.validate(full=True)
        return table
    except Exception as error:  # pyarrow raises many kinds on damaged data, some from Thrift and some from Python
        raise RecordsError(f"{path} cannot be read ({describe_error(error)}): {remedy}") from error


def _check_size(metadata: pq.FileMetaData) -> None:
    """Refuse what would take much memory, as the file itself says."""
    size = sum(metadata.row_group(group).total_byte_size for group in range(metadata.num_row_groups))
    if not 0 <= metadata.num_rows <= MOST_ROWS or not 0 <= size <= MOST_BYTES:
        raise ValueError(f"{metadata.num_rows:,} rows of {size:,} bytes, more than a sweep writes")


def files(folder: Path) -> list[Path]:
    """The Parquet files below `folder`, sorted, hidden ones passed over; [] where it is absent.

    Raises `PermissionError` for a folder that may not be looked into.
    """
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))  # a glob would find nothing there
    paths = (path for path in folder.rglob("*.parquet") if path.is_file())
    return sorted(path for path in paths if not _hidden(path.relative_to(folder)))


def _hidden(path: Path) -> bool:
    # The names that pandas and pyarrow pass over too.
    return any(part.startswith((".", "_")) for part in path.parts)


def _sync_folder(folder: Path) -> None:
    # The file's own fsync does not make its name durable. Windows cannot open a folder.
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
