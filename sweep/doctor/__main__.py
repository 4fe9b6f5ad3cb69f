"""`python -m sweep.doctor`: is all ready for a sweep? A line a check, with what to do where it is not.

Without --address this machine is looked at, with it every machine of the cluster, and how they fit together.
Exit code 0: nothing is wrong; 1: something is (FAIL); 2: a mistake in what was given.
"""

import argparse
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis.cli import exit_with
from analysis.errors import RecordsError
from analysis.records.remote import is_remote, normalized_address
from analysis.text import printable
from datasets.errors import InputError
from sweep.cluster import probe
from sweep.doctor import checks
from sweep.doctor.checks import Finding

HERE = "this machine"


@dataclass(frozen=True, kw_only=True)
class Machines:
    """Whom to ask."""

    each: Callable[..., Mapping[str, Any]]
    """Calls a function on all machines: `each(function, *arguments)` -> machine -> result."""
    gpus: Mapping[str, int] = field(default_factory=dict)
    """Machine -> GPUs, as Ray counts them."""
    others: bool = False
    """Whether there are others than this one."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be used by the sweep."""

    out: str | None = None
    data: tuple[str, ...] = ()

    @property
    def remote(self) -> bool:
        """Whether `out` is a URI."""
        return self.out is not None and "://" in self.out


def examine(machines: Machines, asked: Asked) -> Iterator[Finding]:
    """All checks, one after the other."""
    folders = {"--out": asked.out} if asked.out and not asked.remote else {}
    facts, silent = _answers(machines.each(probe.look, folders, asked.data))
    yield from silent
    if facts:
        for check in (checks.python, checks.code, checks.libraries, checks.packages, checks.sizes, checks.disks):
            yield from check(facts)
        yield from checks.gpus(facts, machines.gpus)
        yield from checks.data(facts, asked.data)
    if asked.out:
        yield from _stored(machines, asked.out) if asked.remote else _shared(machines, asked.out)
    if machines.others:
        yield from _clocks(machines)
    yield from checks.mlflow(checks.tracking_uri())
    yield from checks.ports(checks.listeners())


def _answers(told: Mapping[str, Any]) -> tuple[dict[str, Any], list[Finding]]:
    """What was answered, and a finding for each machine that did not."""
    silent = {name: answer.reason for name, answer in told.items() if type(answer).__name__ == "Unanswered"}
    found = [
        Finding(
            "FAIL", "machine", f"{name} cannot be asked ({why}): look at its Ray log, or take it out of the cluster"
        )
        for name, why in silent.items()
    ]
    return {name: answer for name, answer in told.items() if name not in silent}, found


def _shared(machines: Machines, out: str) -> Iterator[Finding]:
    token = uuid.uuid4().hex[:8]
    try:
        told, _ = _answers(machines.each(probe.touch, out, token))
        files = {file: name for name, (file, fault) in told.items() if not fault}
        seen: dict[str, list[str]] = {}
        if machines.others:
            lacking, _ = _answers(machines.each(probe.unseen, list(files)))
            seen = {name: [files[file] for file in absent] for name, absent in lacking.items()}
        yield from checks.shared(out, {name: fault for name, (_, fault) in told.items()}, seen)
    finally:
        machines.each(probe.sweep_up, out, token)


def _stored(machines: Machines, out: str) -> Iterator[Finding]:
    name = f".doctor-{uuid.uuid4().hex[:8]}"
    faults, _ = _answers(machines.each(probe.touch_remotely, out, name))
    yield from checks.shared(out, faults, {})


def _clocks(machines: Machines) -> Iterator[Finding]:
    machines.each(probe.clock)  # so that processes have started when it counts
    before = time.time()
    told, _ = _answers(machines.each(probe.clock))
    after = time.time()
    middle = (before + after) / 2
    yield from checks.clocks({name: there - middle for name, there in told.items()}, (after - before) / 2)


@contextmanager
def reached(address: str | None) -> Iterator[Machines]:
    """This machine, or those of a cluster.

    Raises:
        InputError: there is no such cluster, or it is of another Ray or Python.
    """
    if address is None:
        yield Machines(each=lambda function, *arguments: {HERE: function(*arguments)})
        return
    from sweep.cluster import join
    from sweep.cluster.nodes import nodes, on_each_node
    from sweep.cluster.session import started
    from trainables.engine import Engine

    with started(Engine(), join.reached(address)):
        yield Machines(
            each=lambda function, *arguments: {HERE: function(*arguments), **on_each_node(function, *arguments)},
            gpus={node.name: node.gpus for node in nodes()},
            others=True,
        )


def _out(given: str | None) -> str | None:
    """The folder's whole path, or the address.

    Raises:
        RecordsError: that is no address.
    """
    if given is None:
        return None
    return normalized_address(given) if is_remote(given) else str(Path(given).resolve())


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the command line; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sweep.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--address", metavar="ADDRESS", help="a running Ray: auto, or HOST:PORT")
    parser.add_argument("--out", metavar="DIR", help="the sweep's --out, a folder or a URI such as s3://bucket/name")
    parser.add_argument("--data-root", nargs="+", default=(), metavar="PATH", help="files and folders that it reads")
    given = parser.parse_args(argv)
    failed = warned = 0
    try:
        asked = Asked(out=_out(given.out), data=tuple(str(Path(place).resolve()) for place in given.data_root))
        with reached(given.address) as machines:
            for finding in examine(machines, asked):
                print(printable(str(finding)).replace("\n", " "), flush=True)
                failed += finding.level == "FAIL"
                warned += finding.level == "WARN"
    except (InputError, RecordsError) as error:
        print(f"sweep.doctor: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"{failed} wrong, {warned} to be looked at" if failed or warned else "all is ready")
    return 1 if failed else 0


if __name__ == "__main__":
    exit_with(main)
