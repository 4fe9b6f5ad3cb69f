"""Removes what a killed driver has left in a sweep's folder."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from sweep.storage.run_dir import STOP, RunDir

UNFINISHED = (".part", ".tmp")
"""Suffixes of incomplete files. Their names also begin with a dot."""
FOREIGN = ("logs", "mlartifacts")
"""Folders whose files belong to Ray and MLflow."""


def remove_leftovers(run_dir: RunDir, recorded: Mapping[str, str], *, before: float) -> int:
    """Remove unfinished files, checkpoints of recorded cells and the request to stop, in the folder and at the address.

    Call it under the folder's lock.

    Args:
        run_dir: the sweep's folder.
        recorded: key -> status of the cells that have a record.
        before: seconds since the epoch; younger files are kept, because another process may be writing them.

    Returns:
        The number of removed unfinished files.

    Raises:
        StoreError: the address does not answer.
    """
    remove_requests(run_dir.root)
    if run_dir.uri:
        run_dir.store.remove(STOP)
        for key in run_dir.cells_with_checkpoints() & recorded.keys():
            run_dir.remove_checkpoints(key)
        for folder in run_dir.root.glob(".fetch-*.tmp"):  # a driver was killed during a download
            shutil.rmtree(folder, ignore_errors=True)
    for key in recorded:
        if run_dir.cell_checkpoints(key).is_dir():
            run_dir.remove_checkpoints(key)
    count = 0
    for path in _unfinished(run_dir.root):
        with suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()
                count += 1
    with suppress(OSError):  # it is not empty, or does not exist
        run_dir.checkpoints.rmdir()
    return count


def remove_requests(root: Path) -> None:
    """Remove the requests to stop, which killed drivers have left; those that share a folder have one each."""
    for path in root.glob(f"{STOP}*"):
        path.unlink(missing_ok=True)


def _unfinished(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        if Path(folder) == root:
            folders[:] = [name for name in folders if name not in FOREIGN]
        yield from (Path(folder, name) for name in names if name.startswith(".") and name.endswith(UNFINISHED))
