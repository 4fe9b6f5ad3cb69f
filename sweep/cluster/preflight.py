"""Checks of `sweep.run` on a cluster, before any cell runs: can the machines run the cells of this sweep?"""

import os
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from datasets.errors import InputError
from sweep.cluster.checks import CHECKS, check_data, check_out
from sweep.cluster.machine import Machine, split_answers
from sweep.cluster.machine_report import ReportRequest, report_machine, try_object_store
from sweep.cluster.nodes import call_on_each, list_machines


def check_machines(out: Path | str, files: Sequence[Path]) -> list[str]:
    """Check that the cluster's machines can run cells.

    Args:
        out: the sweep's folder, which exists, or its address.
        files: the files that workers open.

    Returns:
        Lines to print: the machines, those that do not answer, and those that do not see the sweep's folder.

    Raises:
        InputError: a machine has other code or libraries, does not see a file, or cannot write to the address.
    """
    machines = [machine for machine in list_machines() if machine.runs_cells]
    paths = [str(file) for file in files]
    with _marker(out) as markers:
        request = ReportRequest(paths=(*markers, *paths))
        reports, silent = split_answers(call_on_each(report_machine, request, among=machines))
    with_this = {"this machine": report_machine(ReportRequest()), **reports}
    findings = chain(*(check(with_this) for check in CHECKS), check_data(reports, paths))
    if isinstance(out, str):
        answering = [machine for machine in machines if machine.name not in silent]
        findings = chain(findings, _check_object_store(out, answering))
    for finding in findings:
        if finding.refusal:
            raise InputError(finding.refusal)
    lines = [_summary(machines)]
    lines += [f"machine {name} does not answer ({reason}); cells run on the others" for name, reason in silent.items()]
    if blind := [name for name, report in reports.items() if set(markers) & set(report.unreadable)]:
        lines.append(
            f"--out {out} is not visible to {len(blind)} of {len(machines)} machines ({', '.join(blind)}): their "
            "checkpoints stay with them, so a cell that moves starts again from the beginning, and Ctrl-C waits for "
            "running cells to end; use a shared disk or --out s3://BUCKET/NAME"
        )
    return lines


@contextmanager
def _marker(out: Path | str) -> Iterator[tuple[str, ...]]:
    """A file that shows whether machines share the sweep's folder; none at an address."""
    if isinstance(out, str):
        yield ()
        return
    with tempfile.NamedTemporaryFile(dir=out, prefix=".seen-", suffix=".part") as file:
        os.chmod(file.name, 0o644)  # workers may belong to another user
        yield (file.name,)


def _check_object_store(uri: str, machines: Sequence[Machine]) -> Iterator:
    answers = call_on_each(try_object_store, uri, f".seen-{uuid.uuid4().hex[:8]}", among=machines)
    yield from check_out(uri, split_answers(answers)[0], {})


def _summary(machines: Sequence[Machine]) -> str:
    """One line about the machines that run cells."""
    counts = {"cores": sum(machine.cores for machine in machines), "GPUs": sum(machine.gpus for machine in machines)}
    resources = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
    names = ", ".join(machine.name for machine in machines)
    return f"cluster: {resources} on {names}; machines that join later run cells too"
