"""Runs cells one after the other in this process, without Ray."""

import time
from dataclasses import asdict
from functools import cached_property
from queue import Empty, SimpleQueue
from threading import Event
from typing import Any

from sweep.tune.admission import CellQueue
from sweep.tune.cell_runner import CellRunner, Round
from sweep.tune.compute import submit
from sweep.tune.recorder import Recorder
from sweep.tune.running import RunningCells
from sweep.tune.worker import train
from trainables.cell import Cell
from trainables.cell_job import SharedFeatures

TURN = 0.5
"""The most seconds between two looks at signals and `progress.json`."""


class InlineRunner(CellRunner):
    """Runs cells in the process's thread for computing; the main thread records them and listens to signals.

    No watchdog watches the cells, because it could only kill this process.
    """

    place = "the process"

    @cached_property
    def _features(self) -> SharedFeatures:
        return SharedFeatures()

    def _run_round(self, some: Round, tracker: RunningCells, recorder: Recorder) -> None:
        queue = CellQueue(some.cells, some.admission)
        while not (self._stop.asked or recorder.unwritable):
            if cell := queue.take():
                self._run_cell(cell, tracker, recorder)
            elif queue.is_over():
                return
            else:  # other drivers have all cells that are left
                time.sleep(TURN)
                tracker.step_ended()

    def _run_cell(self, cell: Cell, tracker: RunningCells, recorder: Recorder) -> None:
        """Run one cell, and pass its reports on. If records cannot be written any more, leave it.

        Raises:
            Exception: the process cannot run cells; a cell's own errors are reports.
        """
        reports: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        left = Event()

        def report(result: dict[str, Any]) -> None:
            if left.is_set():
                raise SystemExit  # ends the cell, as in a worker of Ray
            reports.put(result)

        tracker.started(cell.key, cell)
        needs_gpu = bool(self._machine.gpus)
        running = submit(train, asdict(cell), self._job, report, needs_gpu=needs_gpu, features=self._features)
        running.add_done_callback(lambda _: reports.put(None))
        try:
            while not recorder.unwritable:
                try:
                    result = reports.get(timeout=TURN)
                except Empty:
                    result = {}
                if result is None:
                    running.result()  # raises what the cell has not reported
                    return
                if result:
                    tracker.reported(cell.key, cell, result)
                tracker.step_ended()
        finally:
            left.set()
            tracker.ended(cell.key, cell)
