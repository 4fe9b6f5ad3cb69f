"""Checkpoints of one cell: written in the background, completely or not at all, and verified by their digest.

A file is `MAGIC`, the SHA-256 of what follows, and `torch.save` of {identity, stage, step, state}. Nothing is unpickled
before the digest is right, and then nothing but tensors and plain values.
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
"""What a file begins with. Its number is raised when what a state holds changes."""
STAGES = ("pretrain", "pretrained", "probe", "probed")
"""The stages of a cell, in their order."""
KEPT = 2
"""Checkpoints that are kept: if the newest is damaged, the one before is used."""

T = TypeVar("T")


@runtime_checkable
class Mirror(Protocol):
    """A remote copy of a cell's checkpoints. A checkpoint counts as written once it is there too."""

    def download(self) -> None:
        """Bring the remote files into the folder, except those that are in it.

        Raises:
            OSError: the remote place cannot be read.
        """

    def upload(self, path: Path) -> None:
        """Send a complete file of the folder.

        Raises:
            OSError: it could not be sent.
        """

    def delete(self, path: Path) -> None:
        """Delete the remote copy of a file, now or later; never fails."""


class StoppedError(Exception):
    """The cell was asked to stop; its checkpoint is written."""


class UnusableError(Exception):
    """A file is no checkpoint of this cell; says why, in a few words."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """Where a cell was: the stage, the steps done of it, and everything needed to resume."""

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

    Training waits only while its state is copied in memory. If writing fails (a full disk), the user is warned once and
    training continues.
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
        """Nothing is read or written yet.

        Args:
            folder: of this cell alone; made when it is needed. None: nothing is written.
            identity: text that must agree, or a checkpoint is not used: the cell's key, the data, the engine.
            every: seconds between two checkpoints.
            heartbeat: called after every step and every batch of an evaluation; returns whether the cell is to stop.
            notify: takes a line for the user; called in the thread that trains.
            mirror: a remote copy of `folder`, for a machine may be lost.
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
        """After a step: write its state if that is due, in the background.

        Args:
            stage: one of `STAGES`.
            step: how many steps of it are done.
            state: makes the state: tensors (copied here), plain values, dictionaries and lists of them.

        Raises:
            StoppedError: the cell is to stop; this step's checkpoint is written.
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
        if not self.writing:  # else this one is left out
            self._start(stage, step, state())

    def finish_stage(self, stage: str, state: dict[str, Any]) -> None:
        """A stage is done: write its result, in the background."""
        if self._folder is not None:
            self.close()
            self._last = time.monotonic()
            self._start(stage, 0, state)

    def with_heartbeat(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches, with a heartbeat before each: an evaluation may take longer than a stop may wait.

        Raises:
            StoppedError: the cell is to stop; it will resume from the last checkpoint.
        """
        for batch in batches:
            if self._heartbeat():
                self.close()
                raise StoppedError("stopped within an evaluation")
            yield batch

    def load(self) -> Checkpoint | None:
        """The newest whole checkpoint of this cell, if there is one.

        A damaged or foreign file is reported and removed, and the one before is taken. Leftovers of an interrupted
        write are removed. Raises OSError if the mirror cannot be read.
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
                self._notify(f"the cell goes on from the checkpoint before, {path.name}")
            self._kept = [path]
            return found
        if refused:
            self._notify(f"no checkpoint in {self._folder} can be used: the cell is begun anew")
        return None

    def remove(self) -> None:
        """The cell is recorded: its checkpoints are no longer needed."""
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
        """Write one checkpoint and remove those that are older than the one before."""
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
        except (OSError, MemoryError, RuntimeError) as error:  # torch tells a lack of memory as a RuntimeError
            reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
            self._trouble = f"checkpoint {path} cannot be written ({reason}): the cell goes on without it"

    def _notify_trouble(self) -> None:
        """Report the writer's fault, in the training thread and only once: a full disk stays full for a while."""
        if self._trouble and not self._notified:
            self._notified = True
            self._notify(self._trouble)


def newest_first(folder: Path) -> list[Path]:
    """The checkpoints in a folder, by stage and step: a clock that was set back plays no part. Other files are none."""
    found = []
    with suppress(OSError):
        for path in folder.iterdir():
            name = re.fullmatch(r"([a-z]+)-([0-9]{1,12})\.ckpt", path.name)
            if name and name[1] in STAGES:
                found.append((STAGES.index(name[1]), int(name[2]), path))
    return [path for _, _, path in sorted(found, reverse=True)]


def serialize(identity: str, checkpoint: Checkpoint) -> Sequence[bytes | memoryview]:
    """A file's content, in parts."""
    buffer = io.BytesIO()
    torch.save({"identity": identity, **vars(checkpoint)}, buffer)
    payload = buffer.getbuffer()
    return MAGIC, hashlib.sha256(payload).digest(), payload


def read_checkpoint(path: Path, identity: str) -> Checkpoint:
    """The checkpoint in a file.

    Raises:
        UnusableError: it is damaged, was made by another version or belongs to something else.
    """
    try:
        content = memoryview(path.read_bytes())
    except (OSError, MemoryError) as error:
        raise UnusableError(f"it cannot be read ({getattr(error, 'strerror', None) or error})") from error
    start = len(MAGIC) + hashlib.sha256().digest_size
    if len(content) < start or content[: len(MAGIC)] != MAGIC:
        raise UnusableError("it is no checkpoint of this version, or its beginning is damaged")
    if hashlib.sha256(content[start:]).digest() != content[len(MAGIC) : start]:
        raise UnusableError("it is damaged: its digest is not that of its content")
    try:
        found = torch.load(io.BytesIO(content[start:]), map_location="cpu", weights_only=True)
    except Exception as error:  # of whoever made it, with a digest that is right: it may raise anything
        raise UnusableError("it holds something else than tensors and plain values") from error
    kinds = {"identity": str, "stage": str, "step": int, "state": dict}
    if not isinstance(found, dict) or {name: type(value) for name, value in found.items()} != kinds:
        raise UnusableError("it holds no state of a cell")
    if found["identity"] != identity:
        raise UnusableError("it was made with other settings, data, libraries or another engine")
    if path.name != f"{found['stage']}-{found['step']}.ckpt":
        raise UnusableError(f"it is step {found['step']} of {found['stage']} under another name")
    return Checkpoint(stage=found["stage"], step=found["step"], state=found["state"])


def snapshot(value: Any) -> Any:
    """A deep copy whose tensors lie in the host's memory."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {name: snapshot(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(snapshot(one) for one in value)
    return value
