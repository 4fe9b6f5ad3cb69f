"""Keeps `progress.json` while a sweep runs: from Ray's loop, every few seconds and whenever a cell ends."""

import logging
import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
from ray.tune import Callback

from datasets.errors import InputError
from sweep.cluster.nodes import list_machines
from sweep.monitor import progress
from sweep.monitor.progress import Driver, Node, Progress, Running, Stage, Used
from sweep.tune.recorder import Recorder
from trainables.cell import Cell

log = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between two writes."""
SOON = 1.0
"""Seconds between two writes at least, however fast cells end."""


class Chronicle(Callback):
    """What goes on, written down; inside its context the driver lives. Give it to Tune after the recorder."""

    def __init__(
        self,
        path: Path,
        planned: Mapping[str, str | None],
        look: Callable[[], Mapping[str, Node]],
        *,
        sent: Callable[[Path], None] = lambda path: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Go on from what earlier commands in the folder have used.

        Args:
            path: the file.
            planned: key -> status of each planned cell, None where it is not recorded.
            look: the machines that there are now, by Ray's name.
            sent: takes the file whenever it was written, to send it elsewhere; must not take long.
            clock: for tests.
        """
        self._path, self._states, self._look, self._clock = path, dict(planned), look, clock
        self._sent = sent
        self._began = progress.now()
        self._stage: Stage = "starting"
        self._recorder: Recorder | None = None
        self._running: dict[str, Running] = {}
        self._nodes: dict[str, Node] = {}
        self._fresh = self._most = 0
        self._faulty = False
        self._counted = self._written = clock()
        self.note: str | None = None
        """What is to be said of an earlier file, if anything."""
        try:
            before = progress.read(path)
        except InputError as error:  # nothing depends on it
            before, self.note = None, f"{error}; it is written anew"
        self._used = before.used if before else Used()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune writes its callbacks down for a restore that is never asked for."""
        return {}

    def __enter__(self) -> Self:
        self._see()
        self.write()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """No cell runs any more. Which machines there are is not asked: Ray may be what has failed."""
        if self._stage != "ended":
            self._count()
            self._running.clear()
            self._stage = "ended"
            self.write()

    @property
    def most(self) -> int:
        """Cells that have run at the same time, at most."""
        return self._most

    def expect(self, cells: Iterable[Cell]) -> None:
        """These are planned; those that were not yet are not recorded."""
        for cell in cells:
            self._states.setdefault(cell.key, None)

    def follow(self, recorder: Recorder) -> Self:
        """Cells begin to run; the recorder knows which are recorded."""
        self._recorder, self._stage = recorder, "running"
        self._see()
        self.write()
        return self

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A cell begins, or begins again."""
        self._count()
        cell = Cell(**trial.config["cell"])
        self._running[trial.trial_id] = Running(
            key=cell.key, cell=str(cell), objective=cell.objective, since=progress.now()
        )
        self._most = max(self._most, len(self._running))

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A worker was lost."""
        self._end(trial)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A cell has ended."""
        self._end(trial)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Ray gave a cell up."""
        self._end(trial)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """Once a turn of Ray's loop."""
        if self._clock() - self._written >= EVERY:
            self._see()
            self.write()

    def write(self) -> None:
        """Write the file; a disk that is full or read-only is told to the log once, and stops nothing."""
        self._count()
        self._written = self._clock()
        try:
            progress.write(self._path, self._now(progress.now()).text())
            self._sent(self._path)
            self._faulty = False
        except OSError as error:
            if not self._faulty:
                log.warning("%s cannot be written (%s): the sweep goes on without it", self._path, error)
            self._faulty = True

    def _now(self, updated: datetime) -> Progress:
        states = list(self._states.values())
        return Progress(
            driver=Driver(
                host=socket.gethostname(),
                process=os.getpid(),
                command=shlex.join(["python", "-m", "sweep.run", *sys.argv[1:]]),
                began=self._began,
                updated=updated,
                stage=self._stage,
            ),
            planned=len(states),
            done=states.count("done"),
            failed=states.count("failed"),
            running=tuple(self._running.values()),
            most=self._most,
            nodes=tuple(self._nodes.values()),
            used=self._used,
        )

    def _end(self, trial: Any) -> None:
        self._count()
        ended = self._running.pop(trial.trial_id, None)
        if ended and self._recorder and ended.key in self._recorder.recorded:
            self._states[ended.key] = "failed" if ended.key in self._recorder.failures else "done"
            self._fresh += 1
        if self._clock() - self._written >= SOON:
            self.write()

    def _count(self) -> None:
        """Add the time since the last call, on the machines seen then, if a cell has run."""
        now = self._clock()
        if self._running or self._fresh:
            seconds = now - self._counted if self._running else 0.0
            self._used = self._used.plus(seconds, tuple(self._nodes.values()), self._fresh)
        self._fresh, self._counted = 0, now

    def _see(self) -> None:
        """Look which machines there are; of one that has gone Ray no longer tells what it had."""
        self._count()  # what has passed, has passed on the machines that there were
        there = self._look()
        gone = {name: node.model_copy(update={"alive": False}) for name, node in self._nodes.items()}
        self._nodes = gone | dict(there)


def machines() -> dict[str, Node]:
    """The machines of the running Ray, by its name of them; none where it does not run."""
    if not ray.is_initialized():
        return {}
    return {
        one.id: Node(name=one.name, cpus=one.cores, gpus=one.gpus, gpu=one.accelerator or None)
        for one in list_machines()
    }
