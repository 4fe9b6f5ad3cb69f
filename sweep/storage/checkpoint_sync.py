"""Workers of a sweep at an address: their checkpoints are copied there, and they look there for the request to stop."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from datasets.files import write_atomically
from sweep.storage.object_store import ObjectStore
from sweep.storage.run_dir import STOP, RunDir

INTERVAL = 2.0
"""Seconds between two looks at the address for the request to stop."""


class StoreMirror:
    """The copies of one cell's checkpoints at the sweep's address: a `trainables.checkpoints.Mirror`."""

    def __init__(self, store: ObjectStore, folder: Path) -> None:
        """Nothing is read or written yet. `folder`, below the store's root, is the cell's."""
        self._store, self._folder = store, folder

    def download(self) -> None:
        """Download the checkpoints that are missing here.

        Raises:
            StoreError: the store did not answer, after several tries.
        """
        for name in self._store.names(self._folder.relative_to(self._store.root).as_posix()):
            path = self._store.root / name
            if path.suffix == ".ckpt" and not path.exists() and (content := self._store.read(name)) is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content)

    def upload(self, path: Path) -> None:
        """Upload a complete checkpoint. Tried once: the next one comes soon, and the end of a stage waits for it.

        Raises:
            StoreError: it could not be sent.
        """
        self._store.push(path, once=True)

    def delete(self, path: Path) -> None:
        """Remove a checkpoint there too. If that fails, it is removed with the others when the cell is recorded."""
        with suppress(OSError):
            self._store.remove(path.relative_to(self._store.root).as_posix(), once=True)


class StopFlag:
    """Whether cells have been asked to stop. At an address a thread looks, since the answer may take a while."""

    def __init__(self, run_dir: RunDir) -> None:
        """Nothing is looked up yet."""
        self._run_dir = run_dir
        self._thread = ThreadPoolExecutor(1, "stop") if run_dir.uri else None
        self._answer: Future[bool] | None = None
        self._asked = time.monotonic()

    def now(self) -> bool:
        """The answer, waited for."""
        return self._run_dir.store.has(STOP) if self._run_dir.uri else self._run_dir.stop.exists()

    def __call__(self) -> bool:
        """The answer; at an address the latest that has arrived."""
        if self._thread is None:
            return self._run_dir.stop.exists()
        if self._answer is not None:
            if not self._answer.done():
                return False
            if self._answer.result():
                return True
        if time.monotonic() - self._asked >= INTERVAL:
            self._asked = time.monotonic()
            self._answer = self._thread.submit(self._run_dir.store.has, STOP)
        return False

    def close(self) -> None:
        """Stop looking, without waiting for an answer that is under way."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
