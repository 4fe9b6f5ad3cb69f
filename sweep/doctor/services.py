"""Checks of what runs beside a sweep: the MLflow server, and open ports of this machine."""

import os
import sys
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterable
from http.client import HTTPException
from pathlib import Path

from sweep.cluster.checks import Finding

PORTS = {5000: "MLflow", 8265: "Ray's dashboard", 6379: "Ray", 10001: "Ray's clients"}
BETWEEN_NODES = (6379,)
"""Ports that the machines of a cluster must reach."""


def check_mlflow(uri: str | None) -> Iterable[Finding]:
    """MLflow answers, where a server is named."""
    if not uri:
        yield Finding("ok", "mlflow", "MLFLOW_TRACKING_URI is not set: a database in --out is used")
    elif not uri.startswith(("http://", "https://")):
        yield Finding("ok", "mlflow", "MLFLOW_TRACKING_URI names a database, not a server")
    else:
        server = f"{uri.split('://')[0]}://{uri.split('://')[1].rsplit('@', 1)[-1]}"
        try:
            with urllib.request.urlopen(_request(uri, f"{server.rstrip('/')}/health"), timeout=10) as response:
                text = response.read(100).decode(errors="replace").strip()
        except (OSError, ValueError, HTTPException) as error:
            yield Finding(
                "FAIL",
                "mlflow",
                f"{server} does not answer ({error}): start `python -m sweep.mlflow_server`, or unset "
                "MLFLOW_TRACKING_URI",
            )
            return
        if text == "OK":
            yield Finding("ok", "mlflow", f"{server} answers")
        else:
            yield Finding("FAIL", "mlflow", f"something else than MLflow answers at {server}: mend MLFLOW_TRACKING_URI")


def _request(uri: str, url: str) -> urllib.request.Request:
    """A request to a URL, with the user name and password that `uri` may hold."""
    request = urllib.request.Request(url)
    user, at, _ = uri.split("://", 1)[1].rpartition("@")
    if at:
        secret = b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {secret}")  # not sent on to where a redirect leads
    return request


def check_ports(listening: Iterable[tuple[int, bool]]) -> Iterable[Finding]:
    """No port of ours is open to other machines but those that a cluster needs.

    Args:
        listening: (port, whether other machines can reach it), as from `listening_ports`.
    """
    open_to_others: dict[int, bool] = {}
    for port, beyond in listening:
        open_to_others[port] = open_to_others.get(port, False) or beyond
    for port, what in PORTS.items():
        if port not in open_to_others:
            continue
        if not open_to_others[port]:
            yield Finding("ok", "ports", f"{port} ({what}, by its number) is taken, on this machine alone")
        elif port in BETWEEN_NODES:
            yield Finding(
                "ok", "ports", f"{port} ({what}) listens to other machines, as nodes need: no firewall may open it"
            )
        else:
            yield Finding(
                "WARN",
                "ports",
                f"{port} ({what}, by its number) listens beyond this machine, and asks for no password: let it listen "
                "on 127.0.0.1, and come by ssh -L or `ray attach -p`",
            )
    if not any(port in open_to_others for port in PORTS):
        yield Finding("ok", "ports", f"{', '.join(map(str, PORTS))} are free")


def listening_ports(read: Callable[[str], str] = lambda name: Path(name).read_text()) -> list[tuple[int, bool]]:
    """List the TCP sockets that listen on this machine, as Linux reports them; none elsewhere.

    Args:
        read: gives the text of a file of /proc; for tests.

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
            words = line.split()
            if len(words) > 3 and words[3] == "0A":
                address, port = words[1].split(":")
                sockets.add((int(port, 16), not _is_loopback(address)))
    return sorted(sockets)


def _is_loopback(address: str) -> bool:
    """Whether an address as Linux prints it, in words of four bytes in the machine's order, is 127.x.x.x or ::1."""
    words = [bytes.fromhex(address[at : at + 8]) for at in range(0, len(address), 8)]
    plain = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    mapped = plain[12:] if plain.startswith(bytes(10) + b"\xff\xff") else plain
    return mapped == bytes(15) + b"\x01" or (len(mapped) == 4 and mapped[0] == 127)


def tracking_uri() -> str | None:
    """The value of MLFLOW_TRACKING_URI."""
    return os.environ.get("MLFLOW_TRACKING_URI")
