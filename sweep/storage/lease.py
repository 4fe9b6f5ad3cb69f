"""A lease allows one driver at a time at an address: an object names the driver, and expires unless it is renewed."""

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
from sweep.storage.object_store import ObjectStore, StoreError

log = logging.getLogger(__name__)

NAME = ".driver"
"""The object that names the driver."""
RENEWED = 20.0
"""Seconds between two renewals."""
STALE = 90.0
"""Seconds without a renewal, by the store's clock, after which the lease has expired."""
SETTLED = 2.0
"""Seconds after which a driver reads its claim back. If two drivers claim at the same time, the later one wins."""


@contextmanager
def leased(store: ObjectStore) -> Iterator[str | None]:
    """Hold the lease on the store's address. Call it under the local folder's lock.

    `store.lost` gets a reason if another driver takes over because this one could not renew its lease.

    Yields:
        The previous driver if it was killed; otherwise, and without an address, None.

    Raises:
        InputError: another driver holds the lease; the message names it.
        StoreError: the store cannot be read or written.
    """
    if store.uri is None:
        yield None
        return
    token = secrets.token_hex(8)
    token_file = store.root / ".token"
    killed = _claim(store, token_file, token)
    ended = threading.Event()
    # A daemon thread: it may wait for a store that does not answer, and must not delay the end of the process.
    thread = threading.Thread(target=_renew, args=(store, token, ended), name="lease", daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join(RENEWED / 4)
        store.wait(RENEWED / 4)
        with suppress(OSError):
            if _token(store.read(NAME, once=True)) == token:
                store.remove(NAME, once=True)
            token_file.unlink(missing_ok=True)


def _claim(store: ObjectStore, token_file: Path, token: str) -> str | None:
    """Claim the address; returns the previous driver if it was killed."""
    began = time.monotonic()
    claim = store.read(NAME)
    killed = None
    if claim is not None:
        killed = _driver(claim)
        # A driver that used this folder is dead, because its lock is free. Other drivers are judged by the clock.
        if _token(claim) != _previous_token(token_file) and (age := _age(store, token)) < STALE:
            raise InputError(
                f"--out {store.uri} is in use by another sweep ({killed}): wait for it, stop it, or choose another "
                f"--out; if it was killed, its lease expires in {STALE - age:.0f} s"
            )
    token_file.write_text(token)
    store.write(NAME, _this_process(token))
    # A slow claim may replace that of a driver which has read its own claim back. That driver notices at its renewal.
    time.sleep(SETTLED if time.monotonic() - began < SETTLED / 2 else RENEWED + SETTLED)
    if _token(claim := store.read(NAME)) != token:
        raise InputError(
            f"--out {store.uri} is in use by another sweep ({_driver(claim)}), which started at the same time: wait "
            "for it, stop it, or choose another --out"
        )
    return killed


def _age(store: ObjectStore, token: str) -> float:
    """Seconds since the claim was renewed, by the store's clock, because the clocks of machines may differ."""
    probe = f"{NAME}-{token}"
    store.write(probe, b"")
    now, renewed = store.modified(probe), store.modified(NAME)
    store.remove(probe)
    return (now - renewed).total_seconds() if now and renewed else STALE


def _renew(store: ObjectStore, token: str, ended: threading.Event) -> None:
    while not ended.wait(RENEWED):
        try:
            claim = store.read(NAME)
            if _token(claim) != token:
                reason = f"another sweep has taken it ({_driver(claim)})" if claim else "another process has removed it"
                store.lost = f"the lease on {store.uri} is lost: {reason}"
                log.error("%s", store.lost)
                return
            store.write(NAME, _this_process(token))
        except StoreError as error:  # the store may answer again before the lease expires
            log.warning("the lease on %s could not be renewed: %s", store.uri, error)


def _this_process(token: str) -> bytes:
    now = datetime.now().astimezone()
    return f"{socket.gethostname()}, process {os.getpid()}, seen {now:%Y-%m-%d %H:%M:%S %z}\n{token}\n".encode()


def _driver(claim: bytes | None) -> str:
    lines = (claim or b"").decode(errors="replace").splitlines()
    return " ".join(lines[0].split())[:200] if lines else "unknown"


def _token(claim: bytes | None) -> str | None:
    lines = (claim or b"").decode(errors="replace").splitlines()
    return lines[1] if len(lines) > 1 else None


def _previous_token(token_file: Path) -> str | None:
    """The token of the last driver that was killed on this machine."""
    with suppress(OSError):
        return token_file.read_text(errors="replace")
    return None
