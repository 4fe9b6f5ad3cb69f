"""Reads the cells of a Parquet file in batches, never the whole file, from this machine or from an object store."""

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from datasets.errors import InputError, describe_error, refuse_pointer

BATCH = 2**24
"""Bytes of a batch, about; one row may have more."""
KEPT = 4
"""Batches that are kept, because threads that read pairs in order ask for their cells nearly in order."""
_BUFFER = 2**20  # bytes read ahead in each column

Stamp = tuple[int, int]
"""Size and time (ns) of a file, which tell that it has changed."""


@dataclass(frozen=True)
class TableFile:
    """A Parquet file, here or at an address."""

    system: fs.FileSystem
    path: str
    """In the file system."""
    name: str
    """Relative to the folder that the user has named, for messages and names of pairs."""
    stamp: Stamp

    def open(self) -> pq.ParquetFile:
        """The open file, of which nothing but the end is read.

        Raises:
            InputError: it cannot be read, is no Parquet file, or is cut off. The message does not name it.
        """
        with telling_damage():
            stream = self.system.open_input_file(self.path)
            refuse_pointer(stream.read(64))
            # Without buffers of our own size, pyarrow would read a whole row group, which may be the whole file.
            return pq.ParquetFile(
                stream,
                pre_buffer=False,
                buffer_size=_BUFFER,
                page_checksum_verification=True,
            )


@contextmanager
def telling_damage() -> Iterator[None]:
    """Context manager: whatever pyarrow raises becomes an `InputError` that does not name the file."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or describe_error(error)})") from error
    except Exception as error:  # pyarrow raises errors of many kinds for damaged data
        raise InputError(f"is not a valid Parquet file, or is cut off ({describe_error(error)})") from error


def batches(file: pq.ParquetFile, columns: Sequence[str], row: int = 0) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches in order, each with the number of its first row (from 0), from the row group on that has `row`."""
    groups = [file.metadata.row_group(group) for group in range(file.metadata.num_row_groups)]
    starts = [0, *accumulate(group.num_rows for group in groups)]
    first = max(0, bisect_right(starts, row) - 1)
    at = starts[first]
    per_row = sum(group.total_byte_size for group in groups) / max(1, starts[-1])
    rows = max(1, int(BATCH / max(1.0, per_row)))
    stream = file.iter_batches(
        batch_size=rows, row_groups=range(first, len(groups)), columns=list(columns), use_threads=False
    )
    for batch in stream:
        yield at, batch
        at += batch.num_rows


class Window:
    """The last batches of all files together, so that many files take no more memory than one. Threads share it."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.batches = deque[tuple[str, int, pa.RecordBatch]](maxlen=KEPT)
        """Each with its file and the number of its first row."""


class Cells:
    """The cells of some columns of a file. Threads may share it. Cells in order are fast, others are slow."""

    def __init__(self, file: TableFile, columns: Sequence[str], window: Window) -> None:
        self._file, self._columns, self._window = file, columns, window
        self._opened: pq.ParquetFile | None = None
        self._starts: list[int] = []
        self._stream: Iterator[tuple[int, pa.RecordBatch]] = iter(())
        self._next = -1

    def read(self, row: int, column: str) -> Any:
        """The value of a cell as an object of Python; `row` counts from 0.

        Raises:
            InputError: the file has changed since it was listed, or is damaged. The message does not name it.
        """
        with self._window.lock, telling_damage():
            first, batch = self._batch_of(row)
            return batch.column(column)[row - first].as_py()

    def _batch_of(self, row: int) -> tuple[int, pa.RecordBatch]:
        for path, first, batch in self._window.batches:
            if path == self._file.path and first <= row < first + batch.num_rows:
                return first, batch
        if self._opened is None:
            self._opened = self._open()
        here, there = (bisect_right(self._starts, place) for place in (max(0, self._next), row))
        if row < self._next or here < there or self._next < 0:
            self._stream, self._next = batches(self._opened, self._columns, row), 0
        for first, batch in self._stream:
            self._next = first + batch.num_rows
            if row < self._next:
                self._window.batches.append((self._file.path, first, batch))
                if self._next >= self._starts[-1]:
                    self._close()
                return first, batch
        raise InputError("has changed since it was listed; start again")

    def _open(self) -> pq.ParquetFile:
        (info,) = self._file.system.get_file_info([self._file.path])
        if (info.size, info.mtime_ns) != self._file.stamp:
            raise InputError("has changed since it was listed; start again")
        opened = self._file.open()
        counts = (opened.metadata.row_group(group).num_rows for group in range(opened.metadata.num_row_groups))
        self._starts = [0, *accumulate(counts)]
        return opened

    def _close(self) -> None:
        """Close a file that has been read to its end: there may be more files than a process can have open."""
        if self._opened:
            self._opened.close(force=True)
        self._opened, self._stream, self._next = None, iter(()), -1


# --- where the files are

_ADDRESS = re.compile(r"/?(s3|gs):/+(.*)")


def is_pattern(path: Path) -> bool:
    """Whether the last part of a path is a pattern, such as `*.png`, and no name."""
    return re.search(r"[*?\[]", path.name) is not None and not path.exists()


def address_of(path: Path) -> str:
    """The address on an object store that a path was made of, as `s3://bucket/name`; else empty."""
    found = _ADDRESS.fullmatch(path.as_posix())  # pathlib leaves one slash of two
    return f"{found[1]}://{found[2]}" if found else ""


def open_address(address: str) -> tuple[fs.FileSystem, str]:
    """The file system of an address, and the path in it."""
    # By default Google's library retries for 15 minutes.
    return fs.FileSystem.from_uri(address + ("?retry_limit_seconds=60" if address.startswith("gs:") else ""))


def table_files(root: Path) -> list[TableFile]:
    """The Parquet files that a path means, sorted by name: a file, all below a folder, a pattern, or an address.

    Hidden files, such as those that macOS adds to archives, are none.

    Raises:
        InputError: there are none, or the address cannot be read.
    """
    address = address_of(root)
    if address:
        try:
            system, place = open_address(address)
            found = _below(system, place)
        except (OSError, pa.ArrowException) as error:
            raise InputError(
                f"{address} cannot be read ({describe_error(error)}): check the address, the keys in the environment "
                "(AWS_ACCESS_KEY_ID or a profile), and AWS_ENDPOINT_URL if it is not Amazon's"
            ) from error
    elif is_pattern(root):
        system, place = fs.LocalFileSystem(), str(root.parent.absolute())
        paths = [str(path.absolute()) for path in root.parent.glob(root.name) if not path.name.startswith(".")]
        found = [info for path in paths for info in _below(system, path)]
    else:
        system, place = fs.LocalFileSystem(), str(root.absolute())
        found = _below(system, place)
    if not found:
        raise InputError(f"{address or root}: no .parquet file; name one, a folder of them, or a pattern in quotes")
    files = [TableFile(system, info.path, _relative(info.path, place), (info.size, info.mtime_ns)) for info in found]
    return sorted(files, key=lambda file: file.name)


def _below(system: fs.FileSystem, place: str) -> list[fs.FileInfo]:
    info = system.get_file_info(place)
    if info.type == fs.FileType.File:
        return [info]
    inside = system.get_file_info(fs.FileSelector(place, recursive=True, allow_not_found=True))
    return [
        one
        for one in inside
        if one.type == fs.FileType.File
        and one.path.lower().endswith(".parquet")
        and not any(part.startswith(".") for part in one.path[len(place) :].strip("/").split("/"))
    ]


def _relative(path: str, place: str) -> str:
    return path[len(place) :].strip("/") or path.rpartition("/")[2]
