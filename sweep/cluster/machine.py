"""Facts about a machine that runs cells."""

from dataclasses import dataclass


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
