"""Checkpoints of a sweep at an address: what its workers have beside a machine's own folder."""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from sweep.storage.cell_files import STOP, Keeping
from sweep.storage.object_store import Store
from trainables.checkpoints import write_whole

LOOK = 2.0
"""Seconds between two looks for the request to stop at an address."""


class StoreMirror:
    """One cell's checkpoints at the sweep's address: a `trainables.checkpoints.Mirror`."""

    def __init__(self, store: Store, folder: Path) -> None:
        """`folder`, below the store's root, is the cell's; nothing is read or written yet."""
        self._store, self._folder = store, folder

    def download(self) -> None:
        """Bring the checkpoints that are not here.

        Raises:
            StoreError: the store did not answer, after several tries.
        """
        for name in self._store.names(self._folder.relative_to(self._store.root).as_posix()):
            path = self._store.root / name
            if path.suffix == ".ckpt" and not path.exists() and (content := self._store.read(name)) is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, [content])

    def upload(self, path: Path) -> None:
        """Send one that is whole. Once: the next one comes soon, and the end of a stage waits for this one.

        Raises:
            StoreError: it could not be sent.
        """
        self._store.push(path, once=True)

    def delete(self, path: Path) -> None:
        """Remove one there too; what cannot be removed goes with the others when the cell is recorded."""
        with suppress(OSError):
            self._store.remove(path.relative_to(self._store.root).as_posix(), once=True)


class StopSeen:
    """Whether cells are to stop: looked for in a thread where there is an address, for the answer may take a while."""

    def __init__(self, keeping: Keeping) -> None:
        """Nothing is looked for yet."""
        self._keeping, self._store = keeping, keeping.store
        self._thread = ThreadPoolExecutor(1, "stop") if keeping.remote else None
        self._look: Future[bool] | None = None
        self._looked = time.monotonic()

    def now(self) -> bool:
        """The answer, waited for."""
        return self._store.has(STOP) if self._keeping.remote else self._keeping.stop.exists()

    def __call__(self) -> bool:
        """The answer; of an address, that of the last look that is over."""
        if self._thread is None:
            return self._keeping.stop.exists()
        if self._look is not None:
            if not self._look.done():
                return False
            if self._look.result():
                return True
        if time.monotonic() - self._looked >= LOOK:
            self._looked = time.monotonic()
            self._look = self._thread.submit(self._store.has, STOP)
        return False

    def close(self) -> None:
        """Look no more; a look that is under way is not waited for."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
