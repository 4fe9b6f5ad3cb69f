"""`progress.json` in a sweep's folder: the driver, the running cells, the machines, and the machine time used so far.

Records tell which cells are done, this file which cells run. Nothing depends on it: a sweep runs without it, and then
counts its machine time from zero.
"""

import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from datasets.errors import InputError, one_line
from datasets.files import write_text_atomically
from sweep.cluster.machine import Machine
from sweep.cluster.slurm_job import Job
from sweep.storage.run_dir import RunDir

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Stage = Literal["starting", "running", "ended"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class SlurmJob(_Model):
    """The Slurm job of a driver."""

    id: str
    nodes: str
    """In Slurm's notation."""
    ends: AwareDatetime | None = None
    """When it will be ended; None if it has no end."""

    @classmethod
    def here(cls) -> Self | None:
        """The job of this process; None outside of one."""
        if (job := Job.of()) is None:
            return None
        ends = datetime.fromtimestamp(job.ends).astimezone() if job.ends < math.inf else None
        return cls(id=job.id, nodes=job.nodes, ends=ends)


def typed_command(run_dir: RunDir) -> list[str]:
    """Module and arguments of this process's command; after a call from Python, of the command that continues it."""
    module = sys.modules["__main__"].__spec__
    if module and module.name.startswith("sweep."):
        return [module.name, *sys.argv[1:]]
    return ["sweep.run", "--config", str(run_dir.config)]


class Driver(_Model):
    """The process that runs the sweep, or that ran it last."""

    host: str
    process: Annotated[int, Field(gt=0, lt=2**31)]
    command: str
    """The command line."""
    began: AwareDatetime
    updated: AwareDatetime
    """When the driver last wrote the file."""
    stage: Stage
    """`starting` while the driver reads the data and measures the machine; `ended` once no cell runs any more."""
    load_per_core: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    """Programs for each core of the driver's machine when it wrote the file; absent in older files."""
    job: SlurmJob | None = None


class Running(_Model):
    """A running cell."""

    key: str
    cell: str
    """The coordinates, as text."""
    objective: str
    since: AwareDatetime


class MachineEntry(_Model):
    """A machine of the sweep, and whether it is still up."""

    name: str
    cpus: Amount
    gpus: Amount
    gpu: str | None = None
    """Name of the GPUs."""
    alive: bool = True

    @classmethod
    def of(cls, machine: Machine) -> Self:
        """The entry of a machine that is up."""
        return cls(name=machine.name, cpus=machine.cores, gpus=machine.gpus, gpu=machine.accelerator or None)


class Used(_Model):
    """Machine time while cells ran, summed over all commands in a folder. Idle cores of a machine count too."""

    seconds: Amount = 0.0
    """Wall time during which at least one cell ran."""
    node_seconds: Amount = 0.0
    core_seconds: Amount = 0.0
    gpu_seconds: Amount = 0.0
    cells: Annotated[int, Field(ge=0)] = 0
    """Cells recorded during that time."""

    def plus(self, seconds: float, nodes: tuple[MachineEntry, ...], cells: int = 0) -> "Used":
        """Add `seconds` on these machines, during which `cells` were recorded."""
        alive = [node for node in nodes if node.alive]
        return Used(
            seconds=self.seconds + seconds,
            node_seconds=self.node_seconds + seconds * len(alive),
            core_seconds=self.core_seconds + seconds * sum(node.cpus for node in alive),
            gpu_seconds=self.gpu_seconds + seconds * sum(node.gpus for node in alive),
            cells=self.cells + cells,
        )


class Progress(_Model):
    """The whole file."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    driver: Driver
    planned: Annotated[int, Field(ge=0)]
    done: Annotated[int, Field(ge=0)]
    failed: Annotated[int, Field(ge=0)]
    running: tuple[Running, ...]
    most: Annotated[int, Field(ge=0)]
    """The largest number of cells that ran at the same time in this command."""
    nodes: tuple[MachineEntry, ...]
    used: Used

    def text(self) -> str:
        """The file's content."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"


def write_progress(path: Path, progress: Progress) -> None:
    """Replace the file atomically.

    Raises:
        OSError: it cannot be written.
    """
    write_text_atomically(path, progress.text())


def read_progress(path: Path) -> Progress | None:
    """Read the file; returns None if there is none.

    Raises:
        InputError: the file is damaged, or of another version.
    """
    try:
        return Progress.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        field = one_line(".".join(map(str, first["loc"])), most=60)
        reason = one_line(f"{field}: {first['msg']}" if field else first["msg"], most=150)
        raise InputError(f"{path} is damaged or of another version ({reason}): {_REMEDY}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from error


def joined(several: Sequence[Progress]) -> Progress:
    """The progress of drivers that share a folder, as one: that of the latest, with the sums over all."""
    latest = max(several, key=lambda one: (one.driver.stage != "ended", one.driver.updated))
    active = [one for one in several if one.driver.stage != "ended"] or [latest]
    used = [one.used for one in several]
    return latest.model_copy(
        update={
            "driver": latest.driver.model_copy(update={"began": min(one.driver.began for one in active)}),
            "running": tuple(cell for one in active for cell in one.running),
            "most": sum(one.most for one in active),
            "nodes": tuple(node for one in active for node in one.nodes),
            "used": Used(**{name: sum(getattr(one, name) for one in used) for name in Used.model_fields}),
        }
    )


def add_shared_progress(run_dir: RunDir, *paths: Path) -> None:
    """Add the files of drivers that shared a folder to its `progress.json`, as far as they can be read.

    Args:
        run_dir: the folder, in which no other driver does the same.
        paths: the files; without any, all of them.
    """
    whole = RunDir(run_dir.root).progress
    with suppress(InputError, OSError):
        several = [one for path in (whole, *(paths or run_dir.shared_progress)) if (one := read_progress(path))]
        if several and (paths or run_dir.shared_progress):
            write_progress(whole, joined([ended(one) for one in several]))
    for path in paths or run_dir.shared_progress:
        path.unlink(missing_ok=True)


def ended(progress: Progress) -> Progress:
    """The progress of a driver that is there no longer."""
    driver = progress.driver.model_copy(update={"stage": "ended"})
    return progress.model_copy(update={"driver": driver, "running": ()})


_REMEDY = "delete it; records are not affected, and machine time is counted from zero"


def now() -> datetime:
    """The current time, with its time zone."""
    return datetime.now().astimezone()
