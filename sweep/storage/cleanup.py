"""What a killed driver has left in a sweep's folder, taken away by the next one."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from sweep.storage.cell_files import STOP, Keeping

DRAFTS = (".part", ".tmp")
"""How names of files end that are not whole yet; they begin with a dot, too."""
FOREIGN = ("logs", "mlartifacts")
"""Folders that Ray and MLflow fill."""


def tidy(keeping: Keeping, recorded: Mapping[str, str], *, before: float) -> int:
    """Remove drafts of files, checkpoints of recorded cells and a request to stop; call it under the folder's lock.

    Of a sweep at an address, both here and there.

    Args:
        keeping: names the places.
        recorded: key -> status of the cells that have a record.
        before: seconds since the epoch; a draft that is younger is left, for somebody may be writing it.

    Returns:
        How many drafts there were.

    Raises:
        StoreError: the address does not answer.
    """
    keeping.stop.unlink(missing_ok=True)
    if keeping.remote:
        keeping.store.remove(STOP)
        for key in keeping.begun() & recorded.keys():
            keeping.forget(key)
        for place in keeping.local.glob(".fetch-*.tmp"):  # a driver was killed while it read what lies there
            shutil.rmtree(place, ignore_errors=True)
    for key in recorded:
        if keeping.of(key).is_dir():
            keeping.forget(key)
    count = 0
    for path in _drafts(keeping.local):
        with suppress(OSError):
            if path.stat().st_mtime < before:
                path.unlink()
                count += 1
    keeping.tidy()
    return count


def _drafts(root: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(root):
        if Path(place) == root:
            folders[:] = [name for name in folders if name not in FOREIGN]
        yield from (Path(place, name) for name in names if name.startswith(".") and name.endswith(DRAFTS))
