"""The checks of `python -m sweep.doctor`: from what machines say of themselves to findings, each with a remedy."""

import os
import sys
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Literal

from sweep.cluster.probe import Facts

GB = 1e9
CLOCKS = 2.0
"""Seconds that clocks may differ: times in records and of signs of life are by several clocks."""
PORTS = {5000: "MLflow", 8265: "Ray's dashboard", 6379: "Ray", 10001: "Ray's clients"}
BETWEEN_NODES = (6379,)
"""Ports that the machines of a cluster must reach."""

By = Mapping[str, Facts]
"""Machine -> what it says."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's."""

    level: Literal["ok", "WARN", "FAIL"]
    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.level:<5} {self.about:<10} {self.text}"


def python(facts: By) -> Iterable[Finding]:
    """Python is one that we run on, and the same everywhere."""
    for name, fact in facts.items():
        if not (3, 11) <= tuple(map(int, fact.python.split(".")[:2])) <= (3, 13):
            yield Finding("FAIL", "python", f"{fact.python} on {name}: 3.11 to 3.13 is needed")
    yield _same("python", {name: fact.python for name, fact in facts.items()}, "make the environments alike")


def code(facts: By) -> Iterable[Finding]:
    """Our own version and commit are the same everywhere; code that is shipped to a node tells no commit."""
    told = {
        name: f"{fact.project}, commit {fact.commit[:7]}{fact.commit[40:]}"
        for name, fact in facts.items()
        if fact.commit != "unknown"
    }
    if told:
        yield _same("code", told, "bring all machines to one commit")
    else:
        yield Finding("ok", "code", f"{next(iter(facts.values())).project}, of no known commit (no git repository)")
    for name, fact in told.items():
        if fact.endswith("+changes"):
            yield Finding("WARN", "code", f"changed since its commit on {name}: records will say so; commit first")


def libraries(facts: By) -> Iterable[Finding]:
    """Libraries that results depend on are the same everywhere."""
    names = list(next(iter(facts.values())).libraries)
    for library in names:
        told = {name: fact.libraries.get(library, "absent") for name, fact in facts.items()}
        remedy = "install by constraints.txt on every machine (pip install -c constraints.txt -e .)"
        if lacking := [name for name, value in told.items() if value == "absent"]:
            yield Finding("FAIL", library, f"not installed on {', '.join(lacking)}: {remedy}")
        else:
            yield _same(library, told, remedy)


def packages(facts: By) -> Iterable[Finding]:
    """`import datasets` finds ours, not Hugging Face's."""
    wrong = {name: fact.datasets for name, fact in facts.items() if fact.datasets != fact.ours}
    for name, place in wrong.items():
        yield Finding(
            "FAIL", "datasets", f"imported from {place} on {name}, not ours: uninstall the other package there"
        )
    if not wrong:
        yield Finding("ok", "datasets", "ours")


def gpus(facts: By, expected: Mapping[str, int]) -> Iterable[Finding]:
    """torch can use the GPUs that Ray counts.

    Args:
        facts: what machines say.
        expected: machine -> GPUs by Ray.
    """
    for name, fact in facts.items():
        if fact.gpu_fault:
            yield Finding("FAIL", "gpus", f"torch fails on {name} ({fact.gpu_fault}): mend driver or installation")
        elif len(fact.gpus) < expected.get(name, 0):
            yield Finding(
                "FAIL",
                "gpus",
                f"torch can use {len(fact.gpus)} of the {expected[name]} GPUs that Ray counts on {name}: mend the "
                "driver, or install a torch with CUDA",
            )
        elif fact.gpus:
            said = ", ".join(f"{kind} with {size / GB:.0f} GB" for kind, size in fact.gpus)
            yield Finding("ok", "gpus", f"{said} on {name}")
        else:
            yield Finding("ok", "gpus", f"none on {name}: cells run on its cores")


def sizes(facts: By) -> Iterable[Finding]:
    """There is memory for a cell on each core."""
    for name, fact in facts.items():
        text = f"{fact.cores} x {fact.processor}, {fact.memory / GB:.0f} GB of memory on {name}"
        if fact.memory < 2 * GB:
            yield Finding("WARN", "machine", f"{text}: less than 2 GB may not hold a cell")
        else:
            yield Finding("ok", "machine", text)


def disks(facts: By) -> Iterable[Finding]:
    """There is room where files go."""
    for name, fact in facts.items():
        for purpose, (place, free) in fact.disks.items():
            level: Literal["ok", "WARN", "FAIL"] = "FAIL" if free < 0.5 * GB else "WARN" if free < 5 * GB else "ok"
            remedy = "" if level == "ok" else ": free space, or choose another place"
            yield Finding(level, "disk", f"{free / GB:.1f} GB free for {purpose} ({place}) on {name}{remedy}")


def data(facts: By, places: Sequence[str]) -> Iterable[Finding]:
    """The data can be read on every machine."""
    for name, fact in facts.items():
        for place in fact.lacking:
            yield Finding("FAIL", "data", f"{place} cannot be read on {name}: put it there, or on a shared disk")
    if places and not any(fact.lacking for fact in facts.values()):
        yield Finding("ok", "data", f"{', '.join(places)} can be read everywhere")


def shared(where: str, faults: Mapping[str, str], unseen: Mapping[str, Sequence[str]]) -> Iterable[Finding]:
    """Every machine can write to --out, and sees what others have written there.

    Args:
        where: --out.
        faults: machine -> why it cannot write there, or nothing.
        unseen: machine -> the machines whose files it does not see.
    """
    for name, fault in faults.items():
        if fault:
            yield Finding("FAIL", "out", f"{where} cannot be written on {name} ({fault}): choose another --out")
    for name, others in unseen.items():
        if others and not faults.get(name):
            yield Finding(
                "WARN",
                "out",
                f"{where} on {name} is another disk than on {', '.join(others)}: a cell that moves begins anew; "
                "use a shared disk or --out s3://...",
            )
    if not any(faults.values()) and not any(unseen.values()):
        yield Finding("ok", "out", f"{where} can be written everywhere" + (", and is the same" if unseen else ""))


def clocks(offsets: Mapping[str, float], doubt: float) -> Iterable[Finding]:
    """Clocks agree.

    Args:
        offsets: machine -> seconds by which its clock is ahead of this machine's.
        doubt: half the time that asking took, s.
    """
    wrong = {name: offset for name, offset in offsets.items() if abs(offset) > CLOCKS + doubt}
    for name, offset in wrong.items():
        way = "ahead" if offset > 0 else "behind"
        yield Finding("WARN", "clock", f"{abs(offset):.0f} s {way} on {name}: let it be set by NTP (chrony, timesyncd)")
    if offsets and not wrong:
        yield Finding("ok", "clock", f"all within {max(map(abs, offsets.values())) + doubt:.1f} s of this machine's")


def mlflow(uri: str | None) -> Iterable[Finding]:
    """MLflow answers, where a server is named."""
    if not uri:
        yield Finding("ok", "mlflow", "MLFLOW_TRACKING_URI is not set: a database in --out is used")
    elif not uri.startswith(("http://", "https://")):
        yield Finding("ok", "mlflow", "MLFLOW_TRACKING_URI names a database, not a server")
    else:
        where = f"{uri.split('://')[0]}://{uri.split('://')[1].rsplit('@', 1)[-1]}"
        try:
            with urllib.request.urlopen(_asking(uri, f"{where.rstrip('/')}/health"), timeout=10) as answer:
                said = answer.read(100).decode(errors="replace").strip()
        except (OSError, ValueError, HTTPException) as error:
            yield Finding(
                "FAIL",
                "mlflow",
                f"{where} does not answer ({error}): start `python -m sweep.mlflow_server`, or unset "
                "MLFLOW_TRACKING_URI",
            )
            return
        if said == "OK":
            yield Finding("ok", "mlflow", f"{where} answers")
        else:
            yield Finding("FAIL", "mlflow", f"something else than MLflow answers at {where}: mend MLFLOW_TRACKING_URI")


def _asking(uri: str, where: str) -> urllib.request.Request:
    """A request to `where`, with the name and password that `uri` may hold."""
    request = urllib.request.Request(where)
    user, at, _ = uri.split("://", 1)[1].rpartition("@")
    if at:
        secret = b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {secret}")  # not for whom a redirect names
    return request


def ports(listening: Iterable[tuple[int, bool]]) -> Iterable[Finding]:
    """Nothing of ours is open to other machines but what a cluster needs.

    Args:
        listening: (port, whether other machines can reach it), as `listeners` tells.
    """
    found: dict[int, bool] = {}
    for port, beyond in listening:
        found[port] = found.get(port, False) or beyond
    for port, what in PORTS.items():
        if port not in found:
            continue
        if not found[port]:
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
    if not any(port in found for port in PORTS):
        yield Finding("ok", "ports", f"{', '.join(map(str, PORTS))} are free")


def listeners(read: Callable[[str], str] | None = None) -> list[tuple[int, bool]]:
    """(port, whether other machines can reach it) of the TCP sockets that listen here, as Linux tells them; none
    elsewhere. `read` is for tests: the text of a file of /proc."""
    found = []
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = (read or _text)(name).splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if len(words) > 3 and words[3] == "0A":
                address, port = words[1].split(":")
                found.append((int(port, 16), not _loopback(address)))
    return sorted(set(found))


def _text(name: str) -> str:
    return Path(name).read_text()


def _loopback(address: str) -> bool:
    """Whether an address as Linux prints it, in words of four bytes in the machine's order, is 127.x.x.x or ::1."""
    words = [bytes.fromhex(address[at : at + 8]) for at in range(0, len(address), 8)]
    plain = b"".join(word[::-1] if sys.byteorder == "little" else word for word in words)
    mapped = plain[12:] if plain.startswith(bytes(10) + b"\xff\xff") else plain
    return mapped == bytes(15) + b"\x01" or (len(mapped) == 4 and mapped[0] == 127)


def _same(about: str, told: Mapping[str, str], remedy: str) -> Finding:
    values = set(told.values())
    if len(values) == 1:
        return Finding("ok", about, values.pop() + (" everywhere" if len(told) > 1 else ""))
    return Finding("FAIL", about, f"{'; '.join(f'{value} on {name}' for name, value in told.items())}: {remedy}")


def tracking_uri() -> str | None:
    """What MLFLOW_TRACKING_URI says."""
    return os.environ.get("MLFLOW_TRACKING_URI")
