"""Facts about a machine that runs cells."""

import platform
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What cells find where they run."""

    processor: str
    """Name of the GPU, or of the processor where there is none."""
    cores: int
    gpus: int = 0
    memory: int
    """Bytes of the host that processes may use."""
    torch: str
    """Version."""
    node: str = ""
    """Ray's name of it."""


def processor() -> str:
    """The processor's name, as Linux tells it; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
