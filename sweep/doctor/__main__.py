"""`python -m sweep.doctor`: is everything ready for a sweep? It prints one line per check, with a remedy for problems.

Without --address it checks this machine. With --address it checks every machine of the cluster and compares them.
Exit code 0: no problem; 1: a problem (FAIL); 2: invalid arguments.
"""

import argparse
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.cli import exit_with, local_path, path_or_address
from analysis.errors import RecordsError
from analysis.records.remote import is_remote, normalized_address
from analysis.text import printable
from datasets.errors import InputError
from sweep.cluster import checks, machine_report
from sweep.cluster.checks import Finding
from sweep.cluster.machine import Machine, split_answers
from sweep.cluster.slurm_job import Job
from sweep.doctor import services

HERE = "this machine"


@dataclass(frozen=True, kw_only=True)
class Targets:
    """The machines to check."""

    call: Callable[..., Mapping[str, Any]]
    """`call(function, *arguments)` calls a function on all machines; it returns machine -> result."""
    cluster: tuple[Machine, ...] = ()
    """The machines of the cluster; empty without a cluster."""


def examine(targets: Targets, out: str | None, data: tuple[str, ...] = ()) -> Iterator[Finding]:
    """Run all checks, one after the other.

    Args:
        targets: the machines.
        out: the sweep's --out, an absolute path or a URI.
        data: files and folders that the sweep reads.
    """
    remote = out is not None and is_remote(out)
    request = machine_report.ReportRequest(folders={"--out": out} if out and not remote else {}, paths=data, gpus=True)
    reports, silent = split_answers(targets.call(machine_report.report_machine, request))
    for name, reason in silent.items():
        yield Finding(
            "FAIL", "machine", f"{name} does not answer ({reason}): read its Ray log, or remove it from the cluster"
        )
    if reports:
        for check in checks.CHECKS:
            yield from check(reports)
        yield from checks.check_gpus(reports, {machine.name: machine.gpus for machine in targets.cluster})
        yield from checks.check_data(reports, data)
    if out:
        yield from _examine_store(targets, out) if remote else _examine_folder(targets, out)
    if targets.cluster:
        yield from _examine_clocks(targets)
    yield from services.check_mlflow(services.tracking_uri())
    yield from services.check_ports(services.listening_ports())
    yield from services.check_slurm(Job.of())


def _examine_folder(targets: Targets, out: str) -> Iterator[Finding]:
    """Each machine writes a file into the folder. Then each machine looks for the files of the others."""
    token = uuid.uuid4().hex[:8]
    try:
        written, _ = split_answers(targets.call(machine_report.write_test_file, out, token))
        writers = {file: name for name, (file, fault) in written.items() if not fault}
        unseen: dict[str, list[str]] = {}
        if targets.cluster:
            missing, _ = split_answers(targets.call(machine_report.missing_files, list(writers)))
            unseen = {name: [writers[file] for file in files] for name, files in missing.items()}
        yield from checks.check_out(out, {name: fault for name, (_, fault) in written.items()}, unseen)
    finally:
        targets.call(machine_report.remove_test_files, out, token)


def _examine_store(targets: Targets, out: str) -> Iterator[Finding]:
    faults, _ = split_answers(targets.call(machine_report.try_object_store, out, f".doctor-{uuid.uuid4().hex[:8]}"))
    yield from checks.check_out(out, faults, {})


def _examine_clocks(targets: Targets) -> Iterator[Finding]:
    targets.call(machine_report.clock)  # starts the processes, so that their start is not timed below
    before = time.time()
    times, _ = split_answers(targets.call(machine_report.clock))
    after = time.time()
    middle = (before + after) / 2
    yield from checks.check_clocks({name: moment - middle for name, moment in times.items()}, (after - before) / 2)


@contextmanager
def connected(address: str | None) -> Iterator[Targets]:
    """Context manager that returns this machine or, inside a joined cluster, this machine and those of the cluster.

    Raises:
        InputError: there is no such cluster, or it has another version of Ray or Python.
    """
    if address is None:
        yield Targets(call=lambda function, *arguments: {HERE: function(*arguments)})
        return
    from sweep.cluster.join import resolve_address
    from sweep.cluster.nodes import call_on_each, list_machines
    from sweep.cluster.session import ray_session
    from trainables.engine import Engine

    with ray_session(Engine(), resolve_address(address)):
        yield Targets(
            call=lambda function, *arguments: {HERE: function(*arguments), **call_on_each(function, *arguments)},
            cluster=list_machines(),
        )


def _absolute(out: Path | str | None) -> str | None:
    """The folder's absolute path, or the URI.

    Raises:
        RecordsError: the URI is invalid.
    """
    if out is None:
        return None
    return normalized_address(out) if is_remote(out) else str(Path(out).resolve())


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the command line; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m sweep.doctor", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--address", metavar="ADDRESS", help="a running Ray cluster: auto, or HOST:PORT")
    parser.add_argument(
        "--out",
        type=path_or_address,
        metavar="DIR",
        help="the sweep's --out, a folder or a URI such as s3://bucket/name",
    )
    parser.add_argument(
        "--data-root", type=local_path, nargs="+", default=(), metavar="PATH", help="files and folders of the data"
    )
    options = parser.parse_args(argv)
    failed = warned = 0
    try:
        out, data = _absolute(options.out), tuple(str(path.resolve()) for path in options.data_root)
        with connected(options.address) as targets:
            for finding in examine(targets, out, data):
                print(printable(str(finding)).replace("\n", " "), flush=True)
                failed += finding.level == "FAIL"
                warned += finding.level == "WARN"
    except (InputError, RecordsError) as error:
        print(f"sweep.doctor: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    print(f"{failed} problems, {warned} warnings" if failed or warned else "everything is ready")
    return 1 if failed else 0


if __name__ == "__main__":
    exit_with(main)
