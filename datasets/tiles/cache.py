"""Finds a valid store, or builds it in one process while others wait."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from datasets.errors import InputError
from datasets.files import sync
from datasets.tiles import build, index
from datasets.tiles.earlier import EarlierStore, open_earlier
from datasets.tiles.index import StoreInfo
from datasets.tiles.request import BuildRequest


def find_or_build(request: BuildRequest) -> StoreInfo:
    """The `store.json` of the store in `request.home`, which is built first if it is absent or invalid.

    Raises:
        ProblemsError: files cannot be used, and may not be skipped.
        InputError: no pair can be used, or too little space is free.
        OSError: the store cannot be written.
    """
    info = _find(request)
    if isinstance(info, str):  # lock only now, so that a finished store can be opened in a read-only folder
        request.home.parent.mkdir(parents=True, exist_ok=True)
        with _lock(request):
            info = _find(request)
            if isinstance(info, str):
                info = _build(request, info)
    return info


def _find(request: BuildRequest) -> StoreInfo | str:
    """The `store.json` of the store, or why the store must be built."""
    info = index.read_info(request.home)
    if isinstance(info, str):
        return info
    if info.signature != request.signature:
        return "its source files or their metadata have changed"
    request.refuse(info.left_out)
    return info


def _build(request: BuildRequest, reason: str) -> StoreInfo:
    """Build the store; `reason` says why an existing one is invalid."""
    home, old = request.home, request.hidden_path("old")
    shutil.rmtree(old, ignore_errors=True)
    again = f" again: {reason}" if home.exists() else ""
    request.log(f"building the store {home} ({len(request.usable):,} image pairs){again}")
    shapes, problems = build.survey(request)
    known = index.read_info(home)
    earlier = EarlierStore() if isinstance(known, str) else open_earlier(home, list(known.files))
    if shapes:  # otherwise keep the files of an interrupted build: perhaps a disk is not mounted
        problems += build.cut_pairs(request, shapes, earlier)
    request.refuse(problems)
    unusable = {problem.pair for problem in problems}
    usable = {name: shape for name, shape in shapes.items() if name not in unusable}
    if not usable:
        first = min((*request.problems, *problems), default=None)
        why = f"the first problem is {first.where}: {first.what}" if first else "there are none"
        raise InputError(f"{request.root}: no image pair can be used; {why}")
    index.write_store_files(request, build.join_pairs(request, usable, earlier), problems)
    if home.exists():
        home.rename(old)
    request.work.rename(home)
    sync(home.parent)
    shutil.rmtree(old, ignore_errors=True)
    info = index.read_info(home)
    if isinstance(info, str):
        raise InputError(f"the store {home} is invalid right after it was built ({info}); check the disk")
    return info


@contextmanager
def _lock(request: BuildRequest) -> Iterator[None]:
    """One build at a time; the system releases the lock of a killed process."""
    lock = FileLock(request.hidden_path("lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        request.log(f"waiting for another process that builds the store {request.home}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
