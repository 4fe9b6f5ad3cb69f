"""Checks of machines: they turn the machines' reports into findings, each with a remedy.

`python -m sweep.doctor` prints all findings. `sweep.run` refuses a cluster with the first finding that has a refusal.
"""

import json
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sweep.cluster.machine_report import MachineReport

GB = 1e9
MOST_CLOCK_OFFSET = 2.0
"""Seconds that clocks may differ by. Records and progress files contain times of several machines."""

Level = Literal["ok", "WARN", "FAIL"]
Reports = Mapping[str, MachineReport]
"""Machine -> its report. The first machine is the reference for the others."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's output."""

    level: Level
    about: str
    text: str
    refusal: str = ""
    """The message with which `sweep.run` refuses the cluster; empty if it runs in spite of the finding."""

    def __str__(self) -> str:
        return f"{self.level:<5} {self.about:<11} {self.text}"


def check_python(reports: Reports) -> Iterable[Finding]:
    """Python has a supported version, the same on all machines."""
    for name, report in reports.items():
        if not (3, 11) <= tuple(map(int, report.python.split(".")[:2])) <= (3, 13):
            yield Finding("FAIL", "python", f"{report.python} on {name}: install Python 3.11 to 3.13")
    versions = {name: report.python for name, report in reports.items()}
    yield _same_everywhere("python", versions, "install the same version on all machines")


def check_code(reports: Reports) -> Iterable[Finding]:
    """Our version and commit are the same on all machines. A copy of the code on a node has no commit."""
    commits = {
        name: f"{report.project}, commit {report.commit[:7]}{report.commit[40:]}"
        for name, report in reports.items()
        if report.commit != "unknown"
    }
    if commits:
        yield _same_everywhere("code", commits, "check out the same commit on all machines")
    else:
        project = next(iter(reports.values())).project
        yield Finding("ok", "code", f"{project}, commit unknown (no git repository)")
    for name, commit in commits.items():
        if commit.endswith("+changes"):
            yield Finding("WARN", "code", f"uncommitted changes on {name}: records will say so; commit them first")


def check_libraries(reports: Reports) -> Iterable[Finding]:
    """Libraries that affect results have the same versions on all machines."""
    reference = next(iter(reports.values())).libraries
    refusals = [
        f"machine {name} of the cluster has other libraries, {json.dumps(report.libraries)} instead of "
        f"{json.dumps(reference)}: install the versions of constraints.txt on all machines"
        for name, report in reports.items()
        if report.libraries != reference
    ]
    refusal = refusals[0] if refusals else ""
    remedy = "run `pip install -c constraints.txt -e .` on every machine"
    for library in reference:
        versions = {name: report.libraries.get(library, "absent") for name, report in reports.items()}
        if lacking := [name for name, version in versions.items() if version == "absent"]:
            yield Finding("FAIL", library, f"not installed on {', '.join(lacking)}: {remedy}", refusal)
        else:
            yield _same_everywhere(library, versions, remedy, refusal)


def check_datasets_package(reports: Reports) -> Iterable[Finding]:
    """`import datasets` imports our package, not Hugging Face's."""
    wrong = {name: report.datasets for name, report in reports.items() if report.datasets != report.ours}
    for name, folder in wrong.items():
        yield Finding(
            "FAIL",
            "datasets",
            f"{name} imports another package of this name, from {folder}: uninstall it there",
            f"machine {name} of the cluster imports another package named 'datasets', from {Path(folder).parent}: "
            "uninstall it there (Hugging Face's has that name)",
        )
    if not wrong:
        yield Finding("ok", "datasets", "our package is imported")


def check_memory(reports: Reports) -> Iterable[Finding]:
    """A machine has enough memory for a cell."""
    for name, report in reports.items():
        text = f"{report.cores} x {report.processor}, {report.memory / GB:.0f} GB of memory on {name}"
        text += f" ({report.limits})" if report.limits else ""
        if report.memory < 2 * GB:
            yield Finding("WARN", "machine", f"{text}: a cell may need more than 2 GB")
        else:
            yield Finding("ok", "machine", text)


def check_disks(reports: Reports) -> Iterable[Finding]:
    """The disks have free space."""
    for name, report in reports.items():
        for purpose, (folder, free) in report.disks.items():
            level: Level = "FAIL" if free < 0.5 * GB else "WARN" if free < 5 * GB else "ok"
            remedy = "" if level == "ok" else ": free some space, or choose another folder"
            yield Finding(level, "disk", f"{free / GB:.1f} GB free for {purpose} ({folder}) on {name}{remedy}")


CHECKS = (check_python, check_code, check_libraries, check_datasets_package, check_memory, check_disks)
"""The checks that need nothing but the reports."""


def check_gpus(reports: Reports, expected: Mapping[str, int]) -> Iterable[Finding]:
    """torch can use the GPUs that Ray counts.

    Args:
        reports: of the machines.
        expected: machine -> number of GPUs according to Ray.
    """
    for name, report in reports.items():
        if report.gpu_fault:
            yield Finding(
                "FAIL", "gpus", f"torch fails on {name} ({report.gpu_fault}): repair the driver or the installation"
            )
        elif len(report.gpus) < expected.get(name, 0):
            yield Finding(
                "FAIL",
                "gpus",
                f"torch can use {len(report.gpus)} of the {expected[name]} GPUs that Ray counts on {name}: repair the "
                "driver, or install torch with CUDA",
            )
        elif report.gpus:
            gpus = ", ".join(f"{kind} with {size / GB:.0f} GB" for kind, size in report.gpus)
            yield Finding("ok", "gpus", f"{gpus} on {name}")
        else:
            yield Finding("ok", "gpus", f"none on {name}: cells run on its cores")


def check_data(reports: Reports, paths: Sequence[str]) -> Iterable[Finding]:
    """The data can be read on every machine.

    Args:
        reports: of the machines.
        paths: the data. Other unreadable paths in the reports are ignored.
    """
    unreadable = [(name, path) for name, report in reports.items() for path in report.unreadable if path in paths]
    for name, path in unreadable:
        yield Finding(
            "FAIL",
            "data",
            f"{path} cannot be read on {name}: copy it there, or use a shared disk",
            f"machine {name} of the cluster does not see {path}: put it on a disk that all machines share, or copy it "
            "to the same path on each machine",
        )
    if paths and not unreadable:
        yield Finding("ok", "data", f"{', '.join(paths)} can be read" + _on_all(reports))


def check_out(out: str, faults: Mapping[str, str], unseen: Mapping[str, Sequence[str]]) -> Iterable[Finding]:
    """Every machine can write to --out and sees the files of the others there.

    Args:
        out: --out, a folder or a URI.
        faults: machine -> why it cannot write there; empty text if it can.
        unseen: machine -> the machines whose files it does not see; empty if this was not tested.
    """
    failed = {name: fault for name, fault in faults.items() if fault}
    for name, fault in failed.items():
        yield Finding(
            "FAIL",
            "out",
            f"{out} cannot be written on {name} ({fault}): choose another --out",
            f"--out {out}: {len(failed)} of {len(faults)} machines cannot write there or read it ({name}: {fault}): "
            "give them access (a role, or keys in their environment); `python -m sweep.doctor` checks it again",
        )
    for name, others in unseen.items():
        if others and name not in failed:
            yield Finding(
                "WARN",
                "out",
                f"{out} on {name} is another disk than on {', '.join(others)}: a cell that moves starts again from the "
                "beginning; use a shared disk or --out s3://...",
            )
    if not failed and not any(unseen.values()):
        shared = ", on a shared disk" if unseen else ""
        yield Finding("ok", "out", f"{out} can be written" + _on_all(faults) + shared)


def check_clocks(offsets: Mapping[str, float], doubt: float) -> Iterable[Finding]:
    """Clocks agree.

    Args:
        offsets: machine -> seconds by which its clock is ahead of this machine's.
        doubt: uncertainty of the offsets in seconds, half of the time that asking took.
    """
    wrong = {name: offset for name, offset in offsets.items() if abs(offset) > MOST_CLOCK_OFFSET + doubt}
    for name, offset in wrong.items():
        way = "ahead" if offset > 0 else "behind"
        yield Finding("WARN", "clock", f"{abs(offset):.0f} s {way} on {name}: set it by NTP (chrony, timesyncd)")
    if offsets and not wrong:
        yield Finding("ok", "clock", f"all within {max(map(abs, offsets.values())) + doubt:.1f} s of this machine's")


def _same_everywhere(about: str, values: Mapping[str, str], remedy: str, refusal: str = "") -> Finding:
    distinct = set(values.values())
    if len(distinct) == 1:
        return Finding("ok", about, distinct.pop() + _on_all(values))
    listed = "; ".join(f"{value} on {name}" for name, value in values.items())
    return Finding("FAIL", about, f"{listed}: {remedy}", refusal)


def _on_all(machines: Sized) -> str:
    return " on all machines" if len(machines) > 1 else ""
