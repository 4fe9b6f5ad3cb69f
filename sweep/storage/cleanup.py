"""Leftovers of a killed driver in a sweep's folder, removed by the next one."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from sweep.storage.run_dir import STOP, RunDir

UNFINISHED = (".part", ".tmp")
"""Endings of files that are not complete yet; their names begin with a dot, too."""
FOREIGN = ("logs", "mlartifacts")
"""Folders that Ray and MLflow fill."""


def remove_leftovers(run_dir: RunDir, recorded: Mapping[str, str], *, before: float) -> int:
    """Remove unfinished files, checkpoints of recorded cells and a request to stop; call it under the folder's lock.

    At an address, both here and there.

    Args:
        run_dir: the sweep's folder.
        recorded: key -> status of the cells that have a record.
        before: seconds since the epoch; a younger file is kept, for somebody may be writing it.

    Returns:
        The number of unfinished files.

    Raises:
        StoreError: the address does not answer.
    """
    run_dir.stop.unlink(missing_ok=True)
    if run_dir.uri:
        run_dir.store.remove(STOP)
        for key in run_dir.cells_with_checkpoints() & recorded.keys():
            run_dir.remove_checkpoints(key)
        for folder in run_dir.root.glob(".fetch-*.tmp"):  # a driver was killed while it downloaded
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
    with suppress(OSError):  # it is not empty, or not there
        run_dir.checkpoints.rmdir()
    return count


def _unfinished(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        if Path(folder) == root:
            folders[:] = [name for name in folders if name not in FOREIGN]
        yield from (Path(folder, name) for name in names if name.startswith(".") and name.endswith(UNFINISHED))
