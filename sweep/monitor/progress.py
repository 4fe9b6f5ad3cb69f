"""`progress.json` in a sweep's folder: who drives, what runs, on which machines, and what they were used for so far.

Records say what is done; this says what goes on. Nothing depends on it: a sweep goes on without it, and counts anew.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from datasets.errors import InputError, one_line
from sweep.storage.run_dir import replace_text

MOST_BYTES = 10_000_000  # of a progress.json: a thousand machines take 100 kB

Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Stage = Literal["starting", "running", "ended"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Driver(_Part):
    """The process that runs the sweep, or ran it last."""

    host: str
    process: Annotated[int, Field(gt=0, lt=2**31)]
    command: str
    """What was typed."""
    began: AwareDatetime
    updated: AwareDatetime
    """When it was last heard of."""
    stage: Stage
    """Starting: data are read and the machine is measured; ended: no cell runs any more."""


class Running(_Part):
    """A cell that runs."""

    key: str
    cell: str
    """Its coordinates, to be read."""
    objective: str
    since: AwareDatetime


class Node(_Part):
    """A machine, as Ray sees it."""

    name: str
    cpus: Amount
    gpus: Amount
    gpu: str | None = None
    """The GPUs' name."""
    alive: bool = True


class Used(_Part):
    """Machine time while cells ran, summed over the commands of a folder; idle cores of a machine count too."""

    seconds: Amount = 0.0
    """Wall time in which at least one cell ran."""
    node_seconds: Amount = 0.0
    core_seconds: Amount = 0.0
    gpu_seconds: Amount = 0.0
    cells: Annotated[int, Field(ge=0)] = 0
    """Cells recorded in that time."""

    def plus(self, seconds: float, nodes: tuple[Node, ...], cells: int = 0) -> "Used":
        """With `seconds` more on these machines, in which `cells` were recorded."""
        alive = [node for node in nodes if node.alive]
        return Used(
            seconds=self.seconds + seconds,
            node_seconds=self.node_seconds + seconds * len(alive),
            core_seconds=self.core_seconds + seconds * sum(node.cpus for node in alive),
            gpu_seconds=self.gpu_seconds + seconds * sum(node.gpus for node in alive),
            cells=self.cells + cells,
        )


class Progress(_Part):
    """All of it."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    driver: Driver
    planned: Annotated[int, Field(ge=0)]
    done: Annotated[int, Field(ge=0)]
    failed: Annotated[int, Field(ge=0)]
    running: tuple[Running, ...]
    most: Annotated[int, Field(ge=0)]
    """Cells that ran at the same time in this command, at most."""
    nodes: tuple[Node, ...]
    used: Used

    def text(self) -> str:
        """As it is written."""
        return self.model_dump_json(by_alias=True, indent=1) + "\n"


def write(path: Path, text: str) -> None:
    """Put `text` in place of what is there; raises OSError."""
    replace_text(path, text)


def read(path: Path) -> Progress | None:
    """What the file says; None where there is none.

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
    """The time, with its zone."""
    return datetime.now().astimezone()
