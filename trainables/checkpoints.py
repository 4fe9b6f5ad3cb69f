"""Checkpoints of one cell, written atomically in the background and verified by their digest.

A file consists of `MAGIC`, the SHA-256 of the rest, and `torch.save` of {identity, stage, step, state}. It is unpickled
only if the digest matches, and then only tensors and plain values.
"""

import hashlib
import io
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from datasets.files import write_atomically

MAGIC = b"NPCKPT01"
"""The first bytes of a file. Increase the number when the contents of a state change."""
STAGES = ("pretrain", "pretrained", "probe", "probed")
"""The stages of a cell, in order."""
KEPT = 2
"""Number of checkpoints to keep: if the newest is damaged, the previous one is used."""

T = TypeVar("T")


@runtime_checkable
class Mirror(Protocol):
    """A remote copy of a cell's checkpoints. A checkpoint counts as written once the remote copy exists."""

    def download(self) -> None:
        """Download the remote files that are not in the folder.

        Raises:
            OSError: the remote copy cannot be read.
        """

    def upload(self, path: Path) -> None:
        """Upload a complete file of the folder.

        Raises:
            OSError: the upload failed.
        """

    def delete(self, path: Path) -> None:
        """Delete the remote copy of a file, now or later. Never raises."""


class StoppedError(Exception):
    """The cell was asked to stop, and its checkpoint is written."""


class UnusableError(Exception):
    """A file is not a checkpoint of this cell. The message says why."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A stage, the number of its completed steps, and everything needed to resume."""

    stage: str
    step: int
    state: dict[str, Any]


def never() -> bool:
    """Never stop the cell."""
    return False


def silent(line: str) -> None:
    """Ignore a message."""


class Checkpoints:
    """One cell's checkpoints: `<folder>/<stage>-<step>.ckpt`, written by a background thread.

    Training waits only while its state is copied in memory. If writing fails, as on a full disk, the user is warned
    once and training continues.
    """

    def __init__(
        self,
        folder: Path | None,
        identity: str,
        *,
        every: float = 60.0,
        heartbeat: Callable[[], bool] = never,
        notify: Callable[[str], None] = silent,
        mirror: Mirror | None = None,
    ) -> None:
        """Configure the checkpoints; nothing is read or written yet.

        Args:
            folder: used by this cell only; created when needed. None: no checkpoints are written.
            identity: names the cell's key, data and engine. Checkpoints with another identity are not used.
            every: seconds between two checkpoints.
            heartbeat: called after every step and every batch of an evaluation; returns whether the cell must stop.
            notify: receives a message for the user, in the training thread.
            mirror: a remote copy of `folder`, which survives the machine.
        """
        self._folder, self._identity, self._every = folder, identity, every
        self._heartbeat, self._notify, self._mirror = heartbeat, notify, mirror
        self._last = time.monotonic()
        self._writer: threading.Thread | None = None
        self._kept: list[Path] = []
        self._trouble: str | None = None
        self._notified = False

    @property
    def writing(self) -> bool:
        """Whether a checkpoint is being written."""
        return self._writer is not None and self._writer.is_alive()

    def after_step(self, stage: str, step: int, state: Callable[[], dict[str, Any]]) -> None:
        """After a step: write its state in the background if a checkpoint is due.

        Args:
            stage: one of `STAGES`.
            step: number of completed steps.
            state: returns the state: tensors (copied here), plain values, and dictionaries and lists of them.

        Raises:
            StoppedError: the cell must stop; the checkpoint of this step is written.
        """
        if self._heartbeat():
            self.close()
            self._write(stage, step, state())
            self._notify_trouble()
            raise StoppedError(f"stopped after step {step} of {stage}")
        self._notify_trouble()
        if self._folder is None or time.monotonic() - self._last < self._every:
            return
        self._last = time.monotonic()
        if not self.writing:  # otherwise skip this one
            self._start(stage, step, state())

    def finish_stage(self, stage: str, state: dict[str, Any]) -> None:
        """Write the result of a stage in the background."""
        if self._folder is not None:
            self.close()
            self._last = time.monotonic()
            self._start(stage, 0, state)

    def with_heartbeat(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches, with a heartbeat before each, so that a cell can stop during a long evaluation.

        Raises:
            StoppedError: the cell must stop; it will resume from the last checkpoint.
        """
        for batch in batches:
            if self._heartbeat():
                self.close()
                raise StoppedError("stopped within an evaluation")
            yield batch

    def load(self) -> Checkpoint | None:
        """The newest valid checkpoint of this cell, if there is one.

        A damaged or foreign file is reported and removed, and the previous one is used. Leftovers of an interrupted
        write are removed.

        Raises:
            OSError: the mirror cannot be read.
        """
        if self._folder is None:
            return None
        with suppress(OSError):
            for draft in self._folder.glob(".*.part"):
                draft.unlink()
        if self._mirror:
            self._mirror.download()
        refused = False
        for path in newest_first(self._folder):
            try:
                found = read_checkpoint(path, self._identity)
            except UnusableError as error:
                refused = True
                self._notify(f"checkpoint {path} is not used: {error}")
                with suppress(OSError):
                    path.unlink()
                if self._mirror:
                    self._mirror.delete(path)
                continue
            if refused:
                self._notify(f"the cell resumes from the previous checkpoint, {path.name}")
            self._kept = [path]
            return found
        if refused:
            self._notify(f"no checkpoint in {self._folder} can be used: the cell starts from the beginning")
        return None

    def remove(self) -> None:
        """Delete all checkpoints, once the cell is recorded."""
        self.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        """Wait until the last checkpoint is written."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        self._notify_trouble()

    def _start(self, stage: str, step: int, state: dict[str, Any]) -> None:
        held = snapshot(state)
        self._writer = threading.Thread(target=self._write, args=(stage, step, held), name="checkpoint")
        self._writer.start()

    def _write(self, stage: str, step: int, state: dict[str, Any]) -> None:
        """Write one checkpoint and remove all but the last `KEPT`."""
        if self._folder is None:
            return
        path = self._folder / f"{stage}-{step}.ckpt"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, *serialize(self._identity, Checkpoint(stage=stage, step=step, state=state)))
            if self._mirror:
                self._mirror.upload(path)
            self._kept = [*(kept for kept in self._kept if kept != path), path][-KEPT:]
            for old in newest_first(self._folder):
                if old not in self._kept:
                    old.unlink()
                    if self._mirror:
                        self._mirror.delete(old)
        except (OSError, MemoryError, RuntimeError) as error:  # torch raises RuntimeError if memory is short
            reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
            self._trouble = f"checkpoint {path} cannot be written ({reason}): the cell continues without it"

    def _notify_trouble(self) -> None:
        """Report a failed write, in the training thread and only once, since a full disk fails every time."""
        if self._trouble and not self._notified:
            self._notified = True
            self._notify(self._trouble)


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints in a folder, ordered by stage and step (not by time, since clocks change)."""
    found = []
    with suppress(OSError):
        for path in folder.iterdir():
            name = re.fullmatch(r"([a-z]+)-([0-9]{1,12})\.ckpt", path.name)
            if name and name[1] in STAGES:
                found.append((STAGES.index(name[1]), int(name[2]), path))
    return [path for _, _, path in sorted(found, reverse=True)]


def serialize(identity: str, checkpoint: Checkpoint) -> Sequence[bytes | memoryview]:
    """The contents of a file, in parts."""
    buffer = io.BytesIO()
    torch.save({"identity": identity, **vars(checkpoint)}, buffer)
    payload = buffer.getbuffer()
    return MAGIC, hashlib.sha256(payload).digest(), payload


def read_checkpoint(path: Path, identity: str) -> Checkpoint:
    """The checkpoint in a file.

    Raises:
        UnusableError: it is damaged, or was written by another version or for another cell.
    """
    try:
        content = memoryview(path.read_bytes())
    except (OSError, MemoryError) as error:
        raise UnusableError(f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error
    start = len(MAGIC) + hashlib.sha256().digest_size
    if len(content) < start or content[: len(MAGIC)] != MAGIC:
        raise UnusableError("it was written by another version, or its first bytes are damaged")
    if hashlib.sha256(content[start:]).digest() != content[len(MAGIC) : start]:
        raise UnusableError("it is damaged: its digest does not match its contents")
    try:
        found = torch.load(io.BytesIO(content[start:]), map_location="cpu", weights_only=True)
    except Exception as error:  # its author made the digest match, so anything may be raised
        raise UnusableError("it contains something other than tensors and plain values") from error
    kinds = {"identity": str, "stage": str, "step": int, "state": dict}
    if not isinstance(found, dict) or {name: type(value) for name, value in found.items()} != kinds:
        raise UnusableError("it does not contain the state of a cell")
    if found["identity"] != identity:
        raise UnusableError("it was written with other settings, data, libraries or another engine")
    if path.name != f"{found['stage']}-{found['step']}.ckpt":
        raise UnusableError(f"it is step {found['step']} of {found['stage']} under another name")
    return Checkpoint(stage=found["stage"], step=found["step"], state=found["state"])


def snapshot(value: Any) -> Any:
    """A deep copy with all tensors on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: snapshot(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(snapshot(one) for one in value)
    return value
