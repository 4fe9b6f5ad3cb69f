"""What this process may use of the machine: cores, memory and GPUs, and what limits each of them.

Python knows the affinity of a process, and libraries know the quota of the outermost control group. A queue gives each
job control groups of its own further down, and variables. This module reads all of them.
"""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from datasets.errors import InputError

OPENMP = "OMP_NUM_THREADS"
"""An upper bound on the cores, as for the command `nproc`; `--cores` replaces it."""
RAY_WORKER = "RAY_RAYLET_PID"
"""A variable of Ray's workers. There Ray has set OMP_NUM_THREADS itself, which says nothing about the machine."""


@dataclass(frozen=True)
class Usable:
    """How much may be used of what the machine has."""

    amount: int
    total: int
    reason: str = ""
    """What limits it; empty if all may be used."""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """What a process may use."""

    cores: Usable
    memory: Usable
    """Bytes."""
    gpus: Usable
    """GPUs of NVIDIA, as far as the system lists them; torch may find others."""

    @property
    def limits(self) -> str:
        """What is limited and why: `4 cores of 128: affinity`; empty if the whole machine may be used."""
        counted = (
            (f"{one.amount} {name}{'s' * (one.amount != 1)} of {one.total}", one)
            for name, one in (("core", self.cores), ("GPU", self.gpus))
        )
        memory = f"{self.memory.amount / 1e9:.3g} GB of memory of {self.memory.total / 1e9:.3g}"
        named = (*counted, (memory, self.memory))
        return "; ".join(f"{text}: {one.reason}" for text, one in named if one.reason and one.total)


class Limit(NamedTuple):
    """An upper bound, and where it comes from."""

    amount: int
    reason: str


def allocation(cores: int = 0, *, root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> Allocation:
    """What this process may use.

    Args:
        cores: the user's `--cores`; 0: all that may be used.
        root: the root of the file system; another one for tests.
        environment: the variables.

    Raises:
        InputError: more cores are asked for than may be used.
    """
    total = os.cpu_count() or 1
    most = min([Limit(total, ""), *_core_limits(root, environment)], key=lambda limit: limit.amount)
    if cores > most.amount:
        why = f": {most.reason}" if most.reason else ""
        raise InputError(
            f"--cores {cores}: this process may use {most.amount} of the machine's {total} cores{why}; give at most "
            f"{most.amount}, or ask for more where the command is started"
        )
    wished = [Limit(cores, "--cores")] if cores else list(_omp_bound(environment))
    usable = min([most, *wished], key=lambda limit: limit.amount)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    room = min([Limit(memory, ""), *_memory_limits(root, environment, usable.amount)], key=lambda limit: limit.amount)
    return Allocation(
        cores=Usable(usable.amount, total, usable.reason),
        memory=Usable(room.amount, memory, room.reason),
        gpus=_gpus(root, environment),
    )


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return allocation().cores.amount


def load_per_core() -> float:
    """Programs that want a core of this machine, for each core, over the last minute; at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def _core_limits(root: Path, environment: Mapping[str, str]) -> Iterator[Limit]:
    """Limits that the process cannot exceed, or that a queue has set."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        yield Limit(len(os.sched_getaffinity(0)), "affinity")
    for quota, period in _cpu_quotas(root):
        if quota > 0 and period > 0:  # without a limit, version 1 has -1
            yield Limit(math.ceil(quota / period), "quota of the control group")
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        if count := _number(environment, name):
            yield Limit(count, name)
            return  # without --cpus-per-task a job has what it was given on the node


def _omp_bound(environment: Mapping[str, str]) -> Iterator[Limit]:
    if RAY_WORKER not in environment and (count := _number(environment, OPENMP)):
        yield Limit(count, OPENMP)


def _memory_limits(root: Path, environment: Mapping[str, str], cores: int) -> Iterator[Limit]:
    for file in ("memory.max", "memory.limit_in_bytes"):
        for text in _settings(root, "memory", file):
            if text.isdigit():  # `max` without a limit
                yield Limit(int(text), "limit of the control group")
    if megabytes := _number(environment, "SLURM_MEM_PER_NODE"):
        yield Limit(megabytes * 2**20, "SLURM_MEM_PER_NODE")
    elif megabytes := _number(environment, "SLURM_MEM_PER_CPU"):
        yield Limit(megabytes * 2**20 * (_number(environment, "SLURM_CPUS_ON_NODE") or cores), "SLURM_MEM_PER_CPU")


def _gpus(root: Path, environment: Mapping[str, str]) -> Usable:
    total = len(list(root.glob("proc/driver/nvidia/gpus/*")))
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return Usable(total, total)
    # CUDA ignores what follows an invalid name.
    visible = list(takewhile(lambda name: name not in ("", "-1", "NoDevFiles"), map(str.strip, named.split(","))))
    return Usable(min(len(visible), total), total, "CUDA_VISIBLE_DEVICES" if len(visible) < (total or 1) else "")


def _cpu_quotas(root: Path) -> Iterator[tuple[int, int]]:
    """Microseconds of CPU time, and the period in which they may be used, of each control group with a quota."""
    texts = [
        *(text.split() for text in _settings(root, "cpu", "cpu.max")),
        *zip(
            _settings(root, "cpu", "cpu.cfs_quota_us"),
            _settings(root, "cpu", "cpu.cfs_period_us"),
            strict=False,
        ),
    ]
    for text in texts:
        with suppress(ValueError):  # `max 100000` without a quota
            quota, period = map(int, text)
            yield quota, period


def _settings(root: Path, controller: str, file: str) -> Iterator[str]:
    """The content of a file in each control group that holds this process, from its own to the outermost.

    A group inside a container is named as from outside, and is absent there. Its limits are those of the outermost.
    """
    for mount, group in dict.fromkeys(_groups(root, controller)):
        for place in (group, *group.parents):
            with suppress(OSError):
                yield (mount / place.relative_to("/") / file).read_text().strip()


def _groups(root: Path, controller: str) -> Iterator[tuple[Path, PurePosixPath]]:
    """Where groups of a controller are mounted, and which of them holds this process."""
    mounts = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not on Linux
        return
    for line in lines:  # such as `4:cpu,cpuacct:/slurm/job_7` in version 1, `0::/slurm/job_7` in version 2
        _, names, group = line.split(":", 2)
        if ".." in group:  # above what this process sees
            group = "/"
        if not names:
            yield mounts, PurePosixPath(group)
        elif controller in names.split(","):
            yield (
                next((mounts / name for name in (names, controller) if (mounts / name).is_dir()), mounts),
                (PurePosixPath(group)),
            )


def _number(environment: Mapping[str, str], name: str) -> int:
    """A positive number in a variable, the first of a list; 0 if there is none."""
    first = environment.get(name, "").split(",")[0].strip()
    return int(first) if first.isdecimal() else 0
