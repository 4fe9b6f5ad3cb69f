"""Facts about a machine that runs cells."""

import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a cell finds where it runs."""

    device: Literal["cpu", "cuda"]
    processor: str
    """Name of the GPU, or of the processor where there is none."""
    cores: int
    """Of the whole machine."""
    torch: str
    """Version."""


def host_memory() -> int:
    """The host's memory, bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def processor() -> str:
    """The processor's name, as Linux tells it; elsewhere what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
