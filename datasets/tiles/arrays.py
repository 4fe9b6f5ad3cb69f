"""Arrays on disk while they are filled: rows are written, read and moved; sealing turns them into .npy files."""

import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

HEADER = 128  # bytes before the first row; NumPy's own header has this length for arrays of any number of rows


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some arrays with equally many rows, each in a file `<name>.npy` of `folder`.

    Rows are written by plain writes: on a full disk these raise OSError, where a memory map kills the process. Threads
    may write different rows at the same time.
    """

    folder: Path
    shapes: Mapping[str, tuple[int, ...]]
    """Shape of a row of each array."""
    dtypes: Mapping[str, str]

    def path(self, name: str) -> Path:
        """Where an array lies."""
        return self.folder / f"{name}.npy"

    def row_bytes(self, name: str) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shapes[name])) * np.dtype(self.dtypes[name]).itemsize

    def bytes_needed(self, number: int) -> int:
        """Bytes that `number` rows of all arrays still need on disk."""
        whole = sum(HEADER + number * self.row_bytes(name) for name in self.shapes)
        files = (self.path(name) for name in self.shapes)
        return max(0, whole - sum(file.stat().st_blocks * 512 for file in files if file.exists()))

    def number(self) -> int:
        """How many rows the files hold."""
        files = {name: self.path(name) for name in self.shapes}
        rooms = [file.stat().st_size - HEADER if file.exists() else 0 for file in files.values()]
        return max(0, *(room // self.row_bytes(name) for room, name in zip(rooms, files, strict=True)))

    def resize(self, number: int) -> None:
        """Extend or truncate all arrays to this many rows."""
        for name in self.shapes:
            self.path(name).touch()
            os.truncate(self.path(name), HEADER + number * self.row_bytes(name))

    def write(self, first: int, blocks: Mapping[str, np.ndarray]) -> None:
        """Write a block of rows of every array."""
        for name in self.shapes:
            self._write(name, first, blocks[name].data.cast("B"))

    def move(self, old: int, new: int, number: int, digest: str) -> bool:
        """Move rows; returns False and moves nothing if their digest differs."""
        blocks = self._read(old, number)
        if self._digest(blocks.values()) != digest:
            return False
        for name, block in blocks.items():
            self._write(name, new, memoryview(block))
        return True

    def holds(self, first: int, number: int, digest: str) -> bool:
        """Whether these rows have this digest."""
        return self._digest(self._read(first, number).values()) == digest

    def digest(self, blocks: Mapping[str, np.ndarray]) -> str:
        """32 hex digits of a block of rows of every array."""
        return self._digest(blocks[name].data.cast("B") for name in self.shapes)

    def seal(self, number: int) -> None:
        """Turn the arrays into .npy files, and sync them to the disk."""
        self.resize(number)
        for name, shape in self.shapes.items():
            start = io.BytesIO()
            kind = np.lib.format.dtype_to_descr(np.dtype(self.dtypes[name]))
            header = {"descr": kind, "fortran_order": False, "shape": (number, *shape)}
            np.lib.format.write_array_header_1_0(start, header)
            if start.tell() != HEADER:
                raise RuntimeError(f"NumPy's header has {start.tell()} bytes, not {HEADER}")
            with open(self.path(name), "r+b") as file:
                file.write(start.getvalue())
                file.flush()
                os.fsync(file.fileno())

    def _write(self, name: str, first: int, data: memoryview) -> None:
        with open(self.path(name), "r+b", buffering=0) as file:
            file.seek(HEADER + first * self.row_bytes(name))
            while data:  # a system call writes less than 2 GiB
                data = data[file.write(data) :]

    def _read(self, first: int, number: int) -> dict[str, bytes]:
        """Rows of every array; fewer bytes where a file ends before."""
        blocks = {}
        for name in self.shapes:
            with open(self.path(name), "rb") as file:
                file.seek(HEADER + first * self.row_bytes(name))
                blocks[name] = file.read(number * self.row_bytes(name))
        return blocks

    @staticmethod
    def _digest(parts: Iterable[bytes | memoryview]) -> str:
        digest = blake2b(digest_size=16)
        for part in parts:
            digest.update(part)
        return digest.hexdigest()
