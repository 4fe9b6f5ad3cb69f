"""What a cell leaves on the disk while it runs, and where: known to the driver and to its workers."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Kept = Literal["encoders"]
"""What can be kept of a cell that is recorded."""


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """Names in a sweep's folder that workers use; on a cluster they are seen by all machines or by one."""

    root: Path
    """The sweep's folder, absolute: a worker runs in a folder of its own."""
    every: float = 60.0
    """Seconds between two checkpoints of a cell."""
    alive: float = 5.0
    """Seconds between two signs of life."""
    keep: tuple[Kept, ...] = ()
    """What is kept of a cell that is recorded."""

    @property
    def checkpoints(self) -> Path:
        """Folder of all checkpoints."""
        return self.root / "checkpoints"

    @property
    def stop(self) -> Path:
        """While this file is there, cells write a checkpoint and stop."""
        return self.checkpoints / "stop"

    def of(self, key: str) -> Path:
        """Folder of one cell's checkpoints."""
        return self.checkpoints / key

    def encoder(self, key: str) -> Path | None:
        """Where one cell's encoder is kept; None where none is."""
        return self.root / "encoders" / f"{key}.safetensors" if "encoders" in self.keep else None

    def forget(self, key: str) -> None:
        """The cell is recorded: its checkpoints go."""
        shutil.rmtree(self.of(key), ignore_errors=True)

    def tidy(self) -> None:
        """Remove the folder of all checkpoints when nothing is in it."""
        try:
            self.checkpoints.rmdir()
        except OSError:  # something is in it, or it is not there
            return

    def begun(self) -> set[str]:
        """Keys of the cells that have a checkpoint."""
        return {path.parent.name for path in self.checkpoints.glob("*/*.ckpt")}
