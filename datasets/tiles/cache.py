"""A store is opened where it is right, else built by one process while others wait."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from datasets.errors import InputError
from datasets.files import sync
from datasets.tiles import build, index
from datasets.tiles.index import StoreInfo
from datasets.tiles.request import BuildRequest


def find_or_build(request: BuildRequest) -> StoreInfo:
    """What the store in `request.home` says of itself, after it was built there where it was absent or wrong.

    Raises:
        ProblemsError: there are problems, and they may not be skipped.
        InputError: no pair can be used, or too little space is free.
        OSError: the store cannot be written.
    """
    info = _find(request)
    if isinstance(info, str):  # only now a lock, so that a finished store may lie in a folder that is read-only
        request.home.parent.mkdir(parents=True, exist_ok=True)
        with _lock(request):
            info = _find(request)
            if isinstance(info, str):
                info = _build(request, info)
    return info


def _find(request: BuildRequest) -> StoreInfo | str:
    """What the store says of itself, or why it must be built."""
    info = index.read_info(request.home)
    if isinstance(info, str):
        return info
    if info.signature != request.signature:
        return "the files it was made from, or what is said of them, have changed"
    request.refuse(info.left_out)
    return info


def _build(request: BuildRequest, reason: str) -> StoreInfo:
    """Build the store; `reason` says why one that is there is not right."""
    home, work, old = request.home, request.hidden_path("making"), request.hidden_path("old")
    shutil.rmtree(old, ignore_errors=True)
    again = f", anew since {reason}" if home.exists() else ""
    request.log(f"making the store {home} ({len(request.usable):,} pairs of images){again}")
    shapes, problems = build.survey(request)
    # Without shapes, as when a disk is not mounted, what an earlier build left in `work` stays.
    filled = build.fill(request, work, shapes) if shapes else None
    problems += filled.problems if filled else []
    request.refuse(problems)
    pairs = [pair for pair in request.usable if filled and pair.name in filled.shapes]
    if not filled or not pairs:
        first = min((*request.problems, *problems), default=None)
        why = f"the first problem is {first.where}: {first.what}" if first else "none is there"
        raise InputError(f"{request.root}: no pair of images can be used; {why}")
    index.write_store_files(
        work, request, index.StoreContent(pairs=pairs, notes=filled.close(), dtype=filled.dtype), problems
    )
    if home.exists():
        home.rename(old)
    work.rename(home)
    sync(home.parent)
    (home / filled.journal.path.name).unlink()
    shutil.rmtree(old, ignore_errors=True)
    info = index.read_info(home)
    if isinstance(info, str):
        raise InputError(f"{home} was just made and cannot be trusted: {info}; is the disk sound?")
    return info


@contextmanager
def _lock(request: BuildRequest) -> Iterator[None]:
    """One builder at a time; the system frees the lock of one that was killed."""
    lock = FileLock(request.hidden_path("lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        request.log(f"waiting for another process that makes the store {request.home}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
