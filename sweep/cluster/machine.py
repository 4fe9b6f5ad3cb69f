"""A machine of a running Ray, and its answer to a function call. This module does not import Ray."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from datasets.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A node of Ray: a machine, or a part of one."""

    id: str
    """Ray's name of the node."""
    name: str
    """The address, with the beginning of `id` if several nodes have the same address."""
    cores: int
    """Cores that cells may use; 0 for a head that runs no cells."""
    gpus: int = 0
    memory: int
    """Bytes of host memory that processes may use."""
    accelerator: str = ""
    """Name of the GPUs; empty without GPUs."""
    processor: str = ""
    """Name of the processor; empty while unknown. Ray does not know it."""
    bf16: bool = False
    """Whether the processor has instructions for bf16."""

    @property
    def runs_cells(self) -> bool:
        """Whether cells can run there."""
        return self.cores > 0

    @property
    def hardware(self) -> str:
        """Name of the GPUs, or of the processor if there are none."""
        return self.accelerator or self.processor


@dataclass(frozen=True)
class NoAnswer:
    """Stands for the result of a machine that did not answer."""

    reason: str


def split_answers(results: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Split results by machine into the results, and the reasons of the machines that did not answer."""
    silent = {name: result.reason for name, result in results.items() if isinstance(result, NoAnswer)}
    return {name: result for name, result in results.items() if name not in silent}, silent


def check_threads(threads: int, cores: int, name: str) -> None:
    """Check that a cell of so many threads fits on a machine.

    Raises:
        InputError: it needs more than the machine's cores.
    """
    if threads > cores:
        count = f"{cores} core" + "s" * (cores != 1)
        raise InputError(f"--threads {threads}: a cell cannot use more than the {count} of {name}")
