"""`progress.json` in a sweep's folder: its driver, the cells that run, the machines, and the machine time used so far.

Records say what is done, this file what is being done. Nothing depends on it: a sweep runs without it, and then counts
machine time anew.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from datasets.errors import InputError, one_line
from datasets.files import write_text_atomically
from sweep.cluster.machine import Machine

MOST_BYTES = 10_000_000  # of a progress.json: a thousand machines take 100 kB

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Stage = Literal["starting", "running", "ended"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Driver(_Model):
    """The process that runs the sweep, or ran it last."""

    host: str
    process: Annotated[int, Field(gt=0, lt=2**31)]
    command: str
    """The command line."""
    began: AwareDatetime
    updated: AwareDatetime
    """When it last wrote the file."""
    stage: Stage
    """Starting: it reads the data and measures the machine; ended: no cell runs any more."""


class Running(_Model):
    """A cell that runs."""

    key: str
    cell: str
    """Its coordinates, as text."""
    objective: str
    since: AwareDatetime


class MachineEntry(_Model):
    """A machine of the sweep, and whether it is still there."""

    name: str
    cpus: Amount
    gpus: Amount
    gpu: str | None = None
    """The GPUs' name."""
    alive: bool = True

    @classmethod
    def of(cls, machine: Machine) -> Self:
        """The entry of a machine that is up."""
        return cls(name=machine.name, cpus=machine.cores, gpus=machine.gpus, gpu=machine.accelerator or None)


class Used(_Model):
    """Machine time while cells ran, summed over the commands of a folder; idle cores of a machine count too."""

    seconds: Amount = 0.0
    """Wall time in which at least one cell ran."""
    node_seconds: Amount = 0.0
    core_seconds: Amount = 0.0
    gpu_seconds: Amount = 0.0
    cells: Annotated[int, Field(ge=0)] = 0
    """Cells recorded in that time."""

    def plus(self, seconds: float, nodes: tuple[MachineEntry, ...], cells: int = 0) -> "Used":
        """With `seconds` more on these machines, in which `cells` were recorded."""
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
    """Cells that ran at the same time in this command, at most."""
    nodes: tuple[MachineEntry, ...]
    used: Used

    def text(self) -> str:
        """The file's content."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"


def write_progress(path: Path, progress: Progress) -> None:
    """Replace the file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_text_atomically(path, progress.text())


def read_progress(path: Path) -> Progress | None:
    """Read the file; None where there is none.

    Raises:
        InputError: it is damaged, or not ours.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path} has {path.stat().st_size:,} bytes and is no progress of a sweep: {_REMEDY}")
        return Progress.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        where = one_line(".".join(map(str, first["loc"])), most=60)
        reason = one_line(f"{where}: {first['msg']}" if where else first["msg"], most=150)
        raise InputError(f"{path} is damaged or of another version ({reason}): {_REMEDY}") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error})") from error


_REMEDY = "delete it, the sweep's records stay and machine time is counted anew"


def now() -> datetime:
    """The time, with its time zone."""
    return datetime.now().astimezone()
