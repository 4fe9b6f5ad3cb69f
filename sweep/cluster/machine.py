"""A machine of a running Ray, and what it answers when a function is called on it. No Ray is needed here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine, or a part of one that Ray counts as a node."""

    id: str
    """Ray's name of it."""
    name: str
    """Its address, with the beginning of `id` where several have the same."""
    cores: int
    """Cores that cells may use; 0 for a head that runs none."""
    gpus: int = 0
    memory: int
    """Bytes of the host that processes may use."""
    accelerator: str = ""
    """Name of its GPUs; empty where it has none."""
    processor: str = ""
    """Name of its processor; empty where nobody has asked it. Ray does not know it."""

    @property
    def runs_cells(self) -> bool:
        """Whether cells can run there."""
        return self.cores > 0

    @property
    def hardware(self) -> str:
        """Name of what cells compute on: the GPUs, or the processor where there are none."""
        return self.accelerator or self.processor


@dataclass(frozen=True)
class NoAnswer:
    """Stands for the result of a machine that gave none."""

    reason: str


def split_answers(results: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Split results by machine into those that there are, and the reasons why there is none."""
    silent = {name: result.reason for name, result in results.items() if isinstance(result, NoAnswer)}
    return {name: result for name, result in results.items() if name not in silent}, silent
