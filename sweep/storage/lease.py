"""One driver at a time at an address: an object says who it is, and lapses if it is not renewed."""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from datasets.errors import InputError
from sweep.storage.object_store import Store, StoreError

log = logging.getLogger(__name__)

NAME = ".driver"
RENEWED = 20.0
"""Seconds between two renewals."""
STALE = 90.0
"""Seconds without one, by the store's clock, after which a driver counts as gone."""
SETTLED = 2.0
"""Seconds after which a claim is read back: of two drivers that have claimed at once, the last one has it."""


@contextmanager
def leased(store: Store) -> Iterator[str | None]:
    """This process is the only driver at the store's address inside; call it under the local folder's lock.

    Where another driver takes the sweep over (this one could not renew its claim for too long), `store.lost` says so.

    Yields:
        The driver before this one, where it did not end by itself; None otherwise, and where the store has no address.

    Raises:
        InputError: another driver is there (says which).
        StoreError: the store cannot be read or written.
    """
    if store.uri is None:
        yield None
        return
    token = secrets.token_hex(8)
    mine = store.root / ".token"
    before = _claimed(store, mine, token)
    over = threading.Event()
    # A daemon: it may be waiting for a store that does not answer, and must not hold up the end of the process.
    thread = threading.Thread(target=_renew, args=(store, token, over), name="lease", daemon=True)
    thread.start()
    try:
        yield before
    finally:
        over.set()
        thread.join(RENEWED / 4)
        store.settle(RENEWED / 4)
        with suppress(OSError):
            if _token(store.read(NAME, once=True)) == token:
                store.remove(NAME, once=True)
            mine.unlink(missing_ok=True)


def _claimed(store: Store, mine: Path, token: str) -> str | None:
    """Claim the address; who had it before and is gone."""
    asked = time.monotonic()
    found = store.read(NAME)
    before = None
    if found is not None:
        before = _who(found)
        # One that drove from this very folder is gone, for its lock is free; of others only the clock tells.
        if _token(found) != _kept(mine) and (age := _age(store, token)) < STALE:
            raise InputError(
                f"--out {store.uri} is in use by another sweep ({before}): wait for it, stop it, or choose another "
                f"--out; if it was cut off, its claim lapses in {STALE - age:.0f} s"
            )
    mine.write_text(token)
    store.write(NAME, _myself(token))
    # One that came late may have replaced another's who has read his back already: he finds that out when he renews it.
    time.sleep(SETTLED if time.monotonic() - asked < SETTLED / 2 else RENEWED + SETTLED)
    if _token(there := store.read(NAME)) != token:
        raise InputError(
            f"--out {store.uri} is in use by another sweep ({_who(there)}), which began at the same time: wait for it, "
            "stop it, or choose another --out"
        )
    return before


def _age(store: Store, token: str) -> float:
    """Seconds since the claim that is there was renewed, by the store's clock: those of machines may differ."""
    probe = f"{NAME}-{token}"
    store.write(probe, b"")
    now, then = store.written(probe), store.written(NAME)
    store.remove(probe)
    return (now - then).total_seconds() if now and then else STALE


def _renew(store: Store, token: str, over: threading.Event) -> None:
    while not over.wait(RENEWED):
        try:
            there = store.read(NAME)
            if _token(there) != token:
                who = f"is driven by another sweep now ({_who(there)})" if there else "was freed by somebody else"
                store.lost = f"{store.uri} {who}: this one has lost it"
                log.error("%s", store.lost)
                return
            store.write(NAME, _myself(token))
        except StoreError as error:  # it may answer again before the claim has lapsed, or nobody else may want it
            log.warning("the claim to %s could not be renewed: %s", store.uri, error)


def _myself(token: str) -> bytes:
    now = datetime.now().astimezone()
    return f"{socket.gethostname()}, process {os.getpid()}, seen {now:%Y-%m-%d %H:%M:%S %z}\n{token}\n".encode()


def _who(found: bytes | None) -> str:
    lines = (found or b"").decode(errors="replace").splitlines()
    return " ".join(lines[0].split())[:200] if lines else "which says nothing of itself"


def _token(found: bytes | None) -> str | None:
    lines = (found or b"").decode(errors="replace").splitlines()
    return lines[1] if len(lines) > 1 else None


def _kept(mine: Path) -> str | None:
    """The token of the last driver here that did not end by itself."""
    with suppress(OSError):
        return mine.read_text(errors="replace")
    return None
