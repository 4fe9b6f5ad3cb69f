"""Writes `progress.json` while a sweep runs: every few seconds, and whenever a cell ends."""

import logging
import os
import shlex
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Self

from datasets.allocation import load_per_core
from datasets.errors import InputError
from sweep.monitor import progress
from sweep.monitor.progress import Driver, MachineEntry, Progress, Stage, Used
from sweep.storage.run_dir import RunDir
from sweep.tune.recorder import Recorder
from sweep.tune.running import CellListener, RunningCell, RunningCells
from trainables.cell import Cell

log = logging.getLogger(__name__)

INTERVAL = 10.0
"""Seconds between two writes."""
LEAST = 1.0
"""The least seconds between two writes, however fast cells end."""


class ProgressWriter(CellListener):
    """Tells that the driver is alive, as a context manager. It must follow the recorder in the tracker's listeners."""

    def __init__(
        self,
        run_dir: RunDir,
        planned: Mapping[str, str | None],
        machines: Callable[[], Mapping[str, MachineEntry]],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Continue from the machine time that earlier commands in the folder have used.

        Args:
            run_dir: the sweep's folder.
            planned: key -> status of each planned cell; None if it is not recorded.
            machines: returns Ray's name of each machine that is up -> the machine.
            clock: for tests.
        """
        self._run_dir, self._states, self._machines, self._clock = run_dir, dict(planned), machines, clock
        self._began, self._job = progress.now(), progress.SlurmJob.here()
        self._stage: Stage = "starting"
        self._recorder: Recorder | None = None
        self._running: Mapping[str, RunningCell] = {}
        self._nodes: dict[str, MachineEntry] = {}
        self._new = 0
        self._busy = False
        self._written = self._counted = clock()
        self._unwritable = False
        self.most = 0
        """The largest number of cells that ran at the same time."""
        self.warning = ""
        """A warning about a damaged earlier file; empty without one."""
        try:
            before = progress.read_progress(run_dir.progress)
        except InputError as error:  # nothing depends on the file
            before, self.warning = None, f"{error}; this command writes a new one"
        self._used = before.used if before else Used()

    def __enter__(self) -> Self:
        self._look()
        self.write()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """No cell runs any more. The machines are not listed again, because Ray may have failed."""
        if self._stage != "ended":
            self._count()
            self._running, self._busy = {}, False
            self._stage = "ended"
            self.write()

    def expect(self, cells: Iterable[Cell]) -> None:
        """Add planned cells."""
        for cell in cells:
            self._states.setdefault(cell.key, None)

    def follow(self, tracker: RunningCells, recorder: Recorder) -> Self:
        """Cells start to run: the tracker knows the running ones, the recorder the recorded ones."""
        self._running, self._recorder, self._stage = tracker.running, recorder, "running"
        self._look()
        self.write()
        return self

    def cell_started(self, cell: Cell) -> None:
        """Count the machine time until now."""
        self._count()
        self.most = max(self.most, len(self._running))

    def cell_ended(self, cell: Cell) -> None:
        """Count the cell if it was recorded, and write."""
        if self._recorder and cell.key in self._recorder.recorded:
            self._states[cell.key] = "failed" if cell.key in self._recorder.failures else "done"
            self._new += 1
        self._count()
        if self._clock() - self._written >= LEAST:
            self.write()

    def step_ended(self) -> None:
        """Write every `INTERVAL` seconds."""
        if self._clock() - self._written >= INTERVAL:
            self._look()
            self.write()

    def write(self) -> None:
        """Write the file. A full or read-only disk is logged once and stops nothing."""
        self._count()
        self._written = self._clock()
        try:
            progress.write_progress(self._run_dir.progress, self._content(progress.now()))
            self._run_dir.send_soon(self._run_dir.progress)
            self._unwritable = False
        except OSError as error:
            if not self._unwritable:
                log.warning("%s cannot be written (%s): the sweep continues without it", self._run_dir.progress, error)
            self._unwritable = True

    def _content(self, updated: datetime) -> Progress:
        states = list(self._states.values())
        return Progress(
            driver=Driver(
                host=socket.gethostname(),
                process=os.getpid(),
                command=shlex.join(["python", "-m", *progress.typed_command(self._run_dir)]),
                began=self._began,
                updated=updated,
                stage=self._stage,
                load_per_core=round(load_per_core(), 2),
                job=self._job,
            ),
            planned=len(states),
            done=states.count("done"),
            failed=states.count("failed"),
            running=tuple(one.entry for one in self._running.values()),
            most=self.most,
            nodes=tuple(self._nodes.values()),
            used=self._used,
        )

    def _count(self) -> None:
        """Add the time since the last call, on the machines of that time, if a cell was running."""
        now = self._clock()
        if self._busy or self._new:
            seconds = now - self._counted if self._busy else 0.0
            self._used = self._used.plus(seconds, tuple(self._nodes.values()), self._new)
        self._new, self._counted, self._busy = 0, now, bool(self._running)

    def _look(self) -> None:
        """List the machines. Lost machines stay in the list, because Ray no longer knows their hardware."""
        self._count()  # the time until now was spent on the machines of the last look
        lost = {name: node.model_copy(update={"alive": False}) for name, node in self._nodes.items()}
        self._nodes = lost | dict(self._machines())
