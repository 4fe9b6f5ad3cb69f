"""A sweep's address on an object store: sends files of the local folder there, with several tries."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from analysis.errors import RecordsError
from analysis.records.remote import PARALLEL_FILES, open_store, store_problem

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between two tries. The store's own library has already tried for some seconds before it raises an error."""
FINAL = ("NO_SUCH_BUCKET", "ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH")
"""Texts of errors that no further try can cure."""

T = TypeVar("T")


class StoreError(OSError):
    """The store cannot be written or read. The message is one line for the user."""


@dataclass
class ObjectStore:
    """Sends files of a local folder to the sweep's address. Without an address it sends nothing."""

    root: Path
    """The local folder."""
    uri: str | None = None
    lost: str | None = field(default=None, init=False)
    """Why nothing may be written to the address any more, after another driver has taken over the sweep."""
    _sending: threading.Thread | None = field(default=None, init=False, repr=False)

    def push(self, *paths: Path, once: bool = False) -> None:
        """Send files, or all files below folders, under their local names. Missing ones are skipped.

        Each file arrives complete or not at all. Its local modification time becomes that of the object.

        Args:
            paths: files and folders.
            once: try once instead of several times.

        Raises:
            StoreError: a file could not be sent, or another driver has taken over the sweep.
        """
        if self.uri is None:
            return
        files = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
        files = [file for file in files if file.is_file() and not file.name.startswith(".")]
        if len(files) == 1:
            self._push(files[0], once)
        elif files:
            with ThreadPoolExecutor(min(PARALLEL_FILES, len(files)), "push") as threads:
                list(threads.map(lambda file: self._push(file, once), files))

    def push_soon(self, path: Path) -> None:
        """Send a file that is rewritten often, in a thread. It is skipped if the store is slow or fails."""
        if self.uri is not None and (self._sending is None or not self._sending.is_alive()):
            self._sending = threading.Thread(target=self._push_once, args=(path,), name="push", daemon=True)
            self._sending.start()

    def write(self, name: str, content: bytes, *, once: bool = False) -> None:
        """Write an object.

        Raises:
            StoreError: as for `push`.
        """

        def send() -> None:
            # The object exists only after the stream is closed, even if this process is killed before.
            with self._store.open_output_stream(f"{self._path}/{name}") as stream:
                stream.write(content)

        def send_in_thread() -> None:
            # In the main thread an exception by a signal would close the stream, and create an incomplete object.
            with ThreadPoolExecutor(1, "write") as thread:
                thread.submit(send).result()

        self._retry(send_in_thread, f"{self.uri}/{name} cannot be written", once)

    def read(self, name: str, *, once: bool = False) -> bytes | None:
        """Read an object; returns None if there is none.

        Raises:
            StoreError: the store did not answer, after several tries.
        """

        def get() -> bytes | None:
            try:
                with self._store.open_input_stream(f"{self._path}/{name}") as stream:
                    return stream.read()
            except FileNotFoundError:
                return None

        return self._retry(get, f"{self.uri}/{name} cannot be read", once)

    def remove(self, name: str, *, once: bool = False) -> None:
        """Remove an object, or all objects below a folder's name, if there are any.

        Raises:
            StoreError: as for `push`.
        """

        def delete() -> None:
            from pyarrow.fs import FileType

            path = f"{self._path}/{name}"
            kind = self._store.get_file_info(path).type
            if kind == FileType.Directory:
                self._store.delete_dir(path)
            elif kind == FileType.File:
                self._store.delete_file(path)

        self._retry(delete, f"{self.uri}/{name} cannot be removed", once)

    def names(self, folder: str) -> list[str]:
        """The sorted names of all objects below a folder's name, such as `checkpoints/key/probe-3.ckpt`.

        Raises:
            StoreError: as for `read`.
        """

        def listed() -> list[str]:
            from pyarrow.fs import FileSelector, FileType

            found = self._store.get_file_info(
                FileSelector(f"{self._path}/{folder}", recursive=True, allow_not_found=True)
            )
            return sorted(one.path.removeprefix(f"{self._path}/") for one in found if one.type == FileType.File)

        return self._retry(listed, f"{self.uri}/{folder} cannot be read")

    def modified(self, name: str) -> datetime | None:
        """When an object was written, by the store's clock; None if there is no such object.

        Raises:
            StoreError: as for `read`.
        """
        info = self._retry(lambda: self._info(name), f"{self.uri}/{name} cannot be read")
        return info.mtime.astimezone(UTC) if info.mtime else None

    def has(self, name: str) -> bool:
        """Whether there is an object of this name; False if the store does not answer the only try."""
        from pyarrow.fs import FileType

        try:
            return bool(self._info(name).type == FileType.File)
        except OSError:
            return False

    @cached_property
    def _opened(self) -> "tuple[FileSystem, str]":
        assert self.uri is not None
        try:
            return open_store(self.uri)
        except RecordsError as error:
            raise StoreError(str(error)) from error

    @property
    def _store(self) -> "FileSystem":
        return self._opened[0]

    @property
    def _path(self) -> str:
        return self._opened[1]

    def _info(self, name: str) -> "FileInfo":
        return self._store.get_file_info(f"{self._path}/{name}")

    def _push(self, path: Path, once: bool) -> None:
        name = path.relative_to(self.root).as_posix()
        self.write(name, path.read_bytes(), once=once)
        info = self._retry(lambda: self._info(name), f"{self.uri}/{name} cannot be read", once)
        if info.mtime_ns is not None:  # so that a later fetch does not read it again
            os.utime(path, ns=(info.mtime_ns, info.mtime_ns))

    def _push_once(self, path: Path) -> None:
        with suppress(Exception):  # Arrow raises errors of its own while the process ends
            self.write(path.relative_to(self.root).as_posix(), path.read_bytes(), once=True)

    def wait(self, seconds: float) -> None:
        """Wait up to `seconds` for the file that a thread sends."""
        if self._sending is not None:
            self._sending.join(seconds)

    def _retry(self, what: Callable[[], T], failure: str, once: bool = False) -> T:
        """Call `what` until it succeeds, with `PAUSES` between the tries; only once with `once`.

        Raises:
            StoreError: every try failed, or another driver has taken over the sweep.
        """
        for pause in (*(() if once else PAUSES), None):
            if self.lost:
                raise StoreError(self.lost)
            try:
                return what()
            except OSError as error:
                if pause is None or isinstance(error, StoreError) or any(sign in str(error) for sign in FINAL):
                    raise StoreError(f"{failure}: {store_problem(error)}") from error
                time.sleep(pause)
        raise AssertionError("the last try returns or raises")
