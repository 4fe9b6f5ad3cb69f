"""Workers of a sweep at an address copy their checkpoints there, and look there for the request to stop."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from datasets.files import write_atomically
from sweep.storage.object_store import ObjectStore
from sweep.storage.run_dir import STOP, RunDir

INTERVAL = 2.0
"""Seconds between two looks for the request to stop at the address."""


class StoreMirror:
    """The copies of one cell's checkpoints at the sweep's address: a `trainables.checkpoints.Mirror`."""

    def __init__(self, store: ObjectStore, folder: Path) -> None:
        """Read and write nothing yet. `folder` is the cell's folder below the store's root."""
        self._store, self._folder = store, folder

    def download(self) -> None:
        """Download the checkpoints that are missing on this machine.

        Raises:
            StoreError: the store did not answer, after several tries.
        """
        for name in self._store.names(self._folder.relative_to(self._store.root).as_posix()):
            path = self._store.root / name
            if path.suffix == ".ckpt" and not path.exists() and (content := self._store.read(name)) is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, content)

    def upload(self, path: Path) -> None:
        """Upload a complete checkpoint with one try: the next one comes soon, and the end of a stage waits for this.

        Raises:
            StoreError: the upload failed.
        """
        self._store.push(path, once=True)

    def delete(self, path: Path) -> None:
        """Remove a checkpoint at the address. If this fails, it is removed when the cell is recorded."""
        with suppress(OSError):
            self._store.remove(path.relative_to(self._store.root).as_posix(), once=True)


class StopFlag:
    """Tells whether cells have been asked to stop. At an address a thread looks, because the store may be slow."""

    def __init__(self, run_dir: RunDir) -> None:
        """Look up nothing yet."""
        self._run_dir = run_dir
        self._thread = ThreadPoolExecutor(1, "stop") if run_dir.uri else None
        self._answer: Future[bool] | None = None
        self._asked_at = time.monotonic()

    def now(self) -> bool:
        """Look, and wait for the answer."""
        return self._run_dir.store.has(STOP) if self._run_dir.uri else self._run_dir.stop.exists()

    def __call__(self) -> bool:
        """The latest known answer."""
        if self._thread is None:
            return self._run_dir.stop.exists()
        if self._answer is not None:
            if not self._answer.done():
                return False
            if self._answer.result():
                return True
        if time.monotonic() - self._asked_at >= INTERVAL:
            self._asked_at = time.monotonic()
            self._answer = self._thread.submit(self._run_dir.store.has, STOP)
        return False

    def close(self) -> None:
        """Stop looking, without waiting for a pending answer."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
