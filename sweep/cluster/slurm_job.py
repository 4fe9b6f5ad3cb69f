"""The Slurm job that this process belongs to: its name, nodes and time, from Slurm's variables and commands."""

import math
import os
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from datasets.errors import InputError

NOTICE = 120.0
"""Seconds before the end of a job at which the scripts of `sweep.slurm` have SIGTERM sent: the sweep ends then."""
PATIENCE = 20.0
"""Seconds to wait for an answer of Slurm's commands. A busy controller takes its time."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A Slurm job, or one task of an array."""

    id: str
    """As Slurm's commands take it: 123, or 123_4 in an array."""
    nodes: str = ""
    """In Slurm's notation, such as node[1-4]."""
    ends: float = math.inf
    """When it will be ended, seconds since the epoch."""

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> "Job | None":
        """The job of this process; None outside of one."""
        if not (number := environment.get("SLURM_JOB_ID")):
            return None
        array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
        name = (
            f"{array}_{task}" if array and task else number
        )  # the number of an array is also that of one of its tasks
        return cls(id=name, nodes=environment.get("SLURM_JOB_NODELIST", ""), ends=_end(environment, name))


def seconds_left(asked: str, environment: Mapping[str, str] = os.environ) -> float:
    """The seconds that a command has, by `--time-left`; infinite if its job has no end.

    Raises:
        InputError: it is no number of minutes, or `auto` outside of a Slurm job.
    """
    if asked == "auto":
        job = Job.of(environment)
        if job is None:
            raise InputError("--time-left auto: this is no Slurm job (SLURM_JOB_ID is not set): give minutes")
        return max(0.0, job.ends - NOTICE - time.time())
    with suppress(ValueError):
        minutes = float(asked)
        if 0 < minutes < math.inf:
            return 60 * minutes
    raise InputError(f"--time-left {asked}: give minutes above 0, or auto in a Slurm job")


def state(job: str) -> str:
    """A job's state, such as RUNNING; empty if Slurm cannot be asked here, or no longer knows the job."""
    return ask("squeue", "--noheader", "--jobs", job, "--format", "%T").partition("\n")[0]


def ask(*command: str) -> str:
    """What a command of Slurm prints; empty text if it is absent, fails or does not answer."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()


def _end(environment: Mapping[str, str], job: str) -> float:
    """When a job will be ended: newer versions of Slurm tell in a variable, others when asked."""
    with suppress(ValueError):
        return float(environment.get("SLURM_JOB_END_TIME", ""))
    with suppress(ValueError):
        return datetime.fromisoformat(ask("squeue", "--noheader", "--jobs", job, "--format", "%e")).timestamp()
    return math.inf
