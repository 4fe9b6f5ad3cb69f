"""Checks of the MLflow server and of open ports on this machine."""

import math
import os
import shutil
import sys
import time
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterable
from http.client import HTTPException
from pathlib import Path

from analysis.text import describe_error, without_secrets
from sweep.cluster.checks import Finding
from sweep.cluster.slurm_job import Job, state
from sweep.tracking.connection import OTHER_DATABASE, is_server

PORTS = {5000: "MLflow", 8265: "Ray's dashboard", 6379: "Ray", 10001: "Ray's clients"}
BETWEEN_NODES = (6379,)
"""Ports that the machines of a cluster use among each other."""
SHORT_JOB = 600.0
"""Seconds that a Slurm job should have left: the start alone may take minutes."""


def check_mlflow(uri: str | None) -> Iterable[Finding]:
    """The MLflow server answers, if MLFLOW_TRACKING_URI names one."""
    if not uri:
        yield Finding("ok", "mlflow", "MLFLOW_TRACKING_URI is not set: the sweep uses a database in --out")
    elif not is_server(uri):
        try:
            from mlflow.store.db.utils import create_sqlalchemy_engine  # here: MLflow takes seconds to import

            create_sqlalchemy_engine(uri)  # it connects later
        except Exception as error:  # no address of a database, or its driver is missing: errors of many kinds
            yield Finding(
                "FAIL", "mlflow", f"{without_secrets(uri)} cannot be used ({describe_error(error)}): {OTHER_DATABASE}"
            )
        else:
            yield Finding("ok", "mlflow", "MLFLOW_TRACKING_URI names a database, not a server")
    else:
        server = without_secrets(uri)
        try:
            with urllib.request.urlopen(_request(uri, f"{server.rstrip('/')}/health"), timeout=10) as response:
                answer = response.read(100).decode(errors="replace").strip()
        except (OSError, ValueError, HTTPException) as error:
            yield Finding(
                "FAIL",
                "mlflow",
                f"{server} does not answer ({describe_error(error)}): start a server (docs/cluster.md says how), "
                "or unset MLFLOW_TRACKING_URI",
            )
            return
        if answer == "OK":
            yield Finding("ok", "mlflow", f"{server} answers")
        else:
            yield Finding("FAIL", "mlflow", f"{server} is no MLflow server: correct MLFLOW_TRACKING_URI")


def _request(uri: str, url: str) -> urllib.request.Request:
    """A request to a URL, with the user name and password that `uri` may contain."""
    request = urllib.request.Request(url)
    user, at, _ = uri.split("://", 1)[1].rpartition("@")
    if at:
        secret = b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {secret}")  # a redirect does not get it
    return request


def check_slurm(job: Job | None) -> Iterable[Finding]:
    """The Slurm job of this process, if it is in one, has time left, and Slurm answers."""
    if job is None:
        if shutil.which("sbatch"):
            yield Finding("ok", "slurm", "this is no Slurm job; `python -m sweep.slurm` writes scripts for sbatch")
        return
    known, left = state(job.id), job.ends - time.time()
    text = f"job {job.id} on {job.nodes or 'unknown nodes'}"
    if not known:
        yield Finding("WARN", "slurm", f"{text}: squeue does not answer, so a script cannot tell a cancelled job")
    elif left < SHORT_JOB:
        yield Finding("WARN", "slurm", f"{text}: {known}, only {left / 60:.0f} minutes left; ask for more with --time")
    else:
        limit = "no time limit" if left == math.inf else f"{left / 3600:.1f} hours left"
        yield Finding("ok", "slurm", f"{text}: {known}, {limit}")


def check_ports(listening: Iterable[tuple[int, bool]]) -> Iterable[Finding]:
    """Other machines can reach no port of ours, except those that a cluster needs.

    Args:
        listening: (port, whether other machines can reach it), from `listening_ports`.
    """
    open_to_others: dict[int, bool] = {}
    for port, reachable in listening:
        open_to_others[port] = open_to_others.get(port, False) or reachable
    for port, service in PORTS.items():
        if port not in open_to_others:
            continue
        if not open_to_others[port]:
            yield Finding("ok", "ports", f"{port} (the port of {service}) is in use; only this machine can reach it")
        elif port in BETWEEN_NODES:
            yield Finding(
                "ok",
                "ports",
                f"{port} ({service}) is open to other machines, as nodes need it: keep it behind a firewall",
            )
        else:
            yield Finding(
                "WARN",
                "ports",
                f"{port} (the port of {service}) is open to other machines without a password: let it listen on "
                "127.0.0.1, and use a tunnel (`ssh -L`, or `ray attach -p`)",
            )
    if not any(port in open_to_others for port in PORTS):
        yield Finding("ok", "ports", f"{', '.join(map(str, PORTS))} are free")


def listening_ports(read: Callable[[str], str] = lambda name: Path(name).read_text()) -> list[tuple[int, bool]]:
    """List the TCP ports that listen on this machine; none on systems other than Linux.

    Args:
        read: reads a file of /proc; for tests.

    Returns:
        (port, whether other machines can reach it), sorted.
    """
    sockets = set()
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = read(name).splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            columns = line.split()
            if len(columns) > 3 and columns[3] == "0A":  # the state "listen"
                address, port = columns[1].split(":")
                sockets.add((int(port, 16), not _is_loopback(address)))
    return sorted(sockets)


def _is_loopback(address: str) -> bool:
    """Whether an address is 127.x.x.x or ::1. Linux prints it in groups of four bytes, in the machine's byte order."""
    groups = [bytes.fromhex(address[at : at + 8]) for at in range(0, len(address), 8)]
    plain = b"".join(group[::-1] if sys.byteorder == "little" else group for group in groups)
    mapped = plain[12:] if plain.startswith(bytes(10) + b"\xff\xff") else plain
    return mapped == bytes(15) + b"\x01" or (len(mapped) == 4 and mapped[0] == 127)


def tracking_uri() -> str | None:
    """The value of MLFLOW_TRACKING_URI."""
    return os.environ.get("MLFLOW_TRACKING_URI")
