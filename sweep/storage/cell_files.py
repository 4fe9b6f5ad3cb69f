"""What a cell leaves on the disk while it runs, and where: known to the driver and to its workers."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from analysis.records.remote import working_copy
from sweep.storage.object_store import Store

Kept = Literal["encoders"]
"""What can be kept of a cell that is recorded."""
STOP = "checkpoints/stop"
"""While this is there, in the folder or at the address, cells write a checkpoint and stop."""


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """Names in a sweep's folder that workers use; on a cluster they are seen by all machines or by one."""

    root: Path | str
    """The sweep's folder, absolute: a worker runs in a folder of its own. Or its address: each machine has a folder of
    its own then, whose files are sent there."""
    every: float = 60.0
    """Seconds between two checkpoints of a cell."""
    alive: float = 5.0
    """Seconds between two signs of life."""
    keep: tuple[Kept, ...] = ()
    """What is kept of a cell that is recorded."""

    @property
    def local(self) -> Path:
        """The folder on this machine."""
        return working_copy(self.root) if isinstance(self.root, str) else self.root

    @property
    def store(self) -> Store:
        """What sends files of that folder to the address; made anew each time."""
        return Store(self.local, self.root if isinstance(self.root, str) else None)

    @property
    def remote(self) -> bool:
        """Whether there is an address."""
        return isinstance(self.root, str)

    @property
    def checkpoints(self) -> Path:
        """Folder of all checkpoints."""
        return self.local / "checkpoints"

    @property
    def stop(self) -> Path:
        """The file of `STOP`."""
        return self.local / STOP

    def of(self, key: str) -> Path:
        """Folder of one cell's checkpoints."""
        return self.checkpoints / key

    def encoder(self, key: str) -> Path | None:
        """Where one cell's encoder is kept; None where none is."""
        return self.local / "encoders" / f"{key}.safetensors" if "encoders" in self.keep else None

    def forget(self, key: str) -> None:
        """The cell is recorded: its checkpoints go. What cannot be removed goes when the next command tidies."""
        shutil.rmtree(self.of(key), ignore_errors=True)
        if self.remote:
            with suppress(OSError):
                self.store.remove(f"checkpoints/{key}", once=True)

    def tidy(self) -> None:
        """Remove the folder of all checkpoints when nothing is in it."""
        try:
            self.checkpoints.rmdir()
        except OSError:  # something is in it, or it is not there
            return

    def begun(self) -> set[str]:
        """Keys of the cells that have a checkpoint.

        Raises:
            StoreError: there is an address, and it did not answer.
        """
        if self.remote:
            found = [name.split("/") for name in self.store.names("checkpoints") if name.endswith(".ckpt")]
            return {parts[1] for parts in found if len(parts) == 3}
        return {path.parent.name for path in self.checkpoints.glob("*/*.ckpt")}
