"""Parquet files, and the atomic write that all of `analysis` uses: a file is complete or absent."""

import errno
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from analysis.errors import RecordsError
from analysis.text import describe_error


def write(path: Path, table: pa.Table) -> Path:
    """Write `table` to `path` atomically: see `atomic_write`."""
    with atomic_write(path) as file:
        pq.write_table(table, file, write_page_checksum=True)
    return path


def write_frame(path: Path, frame: pd.DataFrame, types: pa.Schema | None = None) -> Path:
    """Write a data frame to `path` atomically, with columns of these types and without what pandas would add."""
    table = pa.Table.from_pandas(frame, schema=types, preserve_index=False)
    return write(path, table.replace_schema_metadata(None))


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which replaces `path` when the block ends. An incomplete file is never visible.

    A crash leaves at most a dot-file that readers ignore. `OSError` (disk full, read-only) propagates.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because a rename is atomic only within one file system. The name does not end in .parquet, so
    # that no glob finds it.
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
    """Write a file that the user named, atomically if possible.

    A device, a pipe or a link such as /dev/stdout is written to, not replaced. `OSError` propagates.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.write_bytes(content)
    else:
        with atomic_write(path) as file:
            file.write(content)
    return path


def read(path: Path, *, columns: Sequence[str] | None = None, remedy: str) -> pa.Table:
    """The table of a file, or those of its `columns` that exist.

    Raises:
        RecordsError: the file is damaged or not Parquet; the message ends with `remedy`.
        OSError: the system cannot read the file.
    """
    # Python reads the file, because pyarrow raises OSError also for a damaged one, which needs another remedy.
    data = path.read_bytes()
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        # One thread: a folder has thousands of small files, for which starting threads takes longer than reading.
        table = file.read(columns=None if columns is None else list(columns), use_threads=False)
        table.validate(full=True)
        return table
    except Exception as error:  # pyarrow raises many types for damaged data
        raise RecordsError(f"{path} cannot be read ({describe_error(error)}): {remedy}") from error


def files(folder: Path) -> list[Path]:
    """The Parquet files below `folder`, sorted, without hidden ones; [] if the folder does not exist.

    Raises `PermissionError` for a folder that may not be read.
    """
    if folder.is_dir() and not os.access(folder, os.R_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))  # a glob would find nothing
    found: list[Path] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        found += [Path(place, name) for name in names if name.endswith(".parquet") and not _hidden(name)]
    return sorted(path for path in found if path.is_file())


def _hidden(name: str) -> bool:
    # As pandas and pyarrow.
    return name.startswith((".", "_"))


def _sync_folder(folder: Path) -> None:
    # Syncing the file does not make its name durable. Windows cannot open a folder.
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
