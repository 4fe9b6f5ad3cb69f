"""Runs cells in rounds and records their results, wherever they run. This module does not import Ray."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from analysis.text import describe_error
from sweep.cluster.machine import Machine
from sweep.config.sweep import Sweep
from sweep.monitor.snapshot import read_rows
from sweep.signals import StopRequest
from sweep.storage.run_dir import RunDir
from sweep.tracking.background import BackgroundTracking
from sweep.tune.admission import Admission
from sweep.tune.board import Board
from sweep.tune.console import Console
from sweep.tune.job import WorkerJob
from sweep.tune.outcome import Outcome
from sweep.tune.progress_writer import ProgressWriter
from sweep.tune.recorder import Provenance, Recorder
from sweep.tune.running import CellListener, RunningCells
from trainables.cell import Cell

if TYPE_CHECKING:
    from ray.tune.search import Searcher

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Round:
    """Cells that run after all cells of the round before."""

    name: str
    cells: Sequence[Cell]
    alone: bool = False
    """Whether they run one at a time, each with a whole GPU."""
    grows: bool = False
    """Whether Ray's autoscaler may start machines for waiting cells."""
    rates: Mapping[str, float] | None = None
    """Key -> learning rate, for cells with rates of their own; may grow."""
    proposals: "Searcher | None" = None
    """Suggests cells, instead of `cells` in their order."""
    admission: Admission | None = None
    """Decides which of the cells begin, and when; None: all, in their order."""


class CellRunner(ABC):
    """Runs cells of one sweep and records their results. Its subclasses say where a round of cells runs."""

    place = ""
    """What runs the cells, for messages."""
    tracker: type[RunningCells] = RunningCells
    """Knows which cells run."""

    def __init__(
        self,
        sweep: Sweep,
        job: WorkerJob,
        machine: Machine,
        run_dir: RunDir,
        tracking: BackgroundTracking,
        stop: StopRequest,
        *,
        progress: ProgressWriter | None = None,
    ) -> None:
        """Run nothing yet.

        Args:
            sweep: the sweep, with its engine chosen.
            job: what workers need.
            machine: the machine that cells go to first.
            run_dir: the sweep's folder.
            tracking: MLflow.
            stop: whether cells must stop.
            progress: writes `progress.json`; None: nothing writes it.
        """
        self._sweep, self._job, self._machine = sweep, job, machine
        origins = {recipe: Provenance.of(sweep, one) for recipe, one in job.cell_jobs.items()}
        first = next(iter(origins.values()))  # a search tries further recipes on the same data
        self._provenance = lambda cell: origins.get(cell.recipe, first)
        self._run_dir, self._tracking, self._stop, self._progress = run_dir, tracking, stop, progress

    def run(
        self,
        cells: Sequence[Cell],
        *,
        planned: Sequence[Cell] = (),
        grows: bool = False,
        rates: Mapping[str, float] | None = None,
        proposals: "Searcher | None" = None,
        admission: Admission | None = None,
    ) -> Outcome:
        """Run the cells. Those that fail run once more at the end, those that lack memory or lose their workers alone.

        Args:
            cells: the cells to run.
            planned: the cells of the whole sweep, including the recorded ones; default: only `cells`.
            grows: see `Round`.
            rates: see `Round`.
            proposals: see `Round`.
            admission: see `Round`.
        """
        tracker = self.tracker()
        missing = {cell.key for cell in cells}
        rows = [row for row in read_rows(self._run_dir.root)[0] if row.key not in missing] if planned else []
        console = Console(Board(planned or cells, tracker.running, rows=rows))
        recorder = Recorder(
            self._run_dir,
            self._provenance,
            self._tracking,
            console,
            self._stop,
            running=tracker.running,
            score=None if rates is None else lambda row: _validation_score(row, rates),
        )
        tracker.listeners = [recorder, *self._watchers(tracker, console)]
        with self._second_signal_ends(console), self._told(recorder):
            if self._progress:
                tracker.listeners.append(self._progress.follow(tracker, recorder))
            first = Round(name="ray", cells=cells, grows=grows, rates=rates, proposals=proposals, admission=admission)
            self._run_round(first, tracker, recorder)
            if again := recorder.take_again():
                second = Round(name="ray-again", cells=again, grows=grows, rates=rates, admission=admission)
                self._run_round(second, tracker, recorder)
            if postponed := recorder.take_postponed():
                alone = Round(name="ray-alone", cells=postponed, alone=True, rates=rates, admission=admission)
                self._run_round(alone, tracker, recorder)
        return recorder.outcome

    @abstractmethod
    def _run_round(self, some: Round, tracker: Any, recorder: Recorder) -> None:
        """Run the cells of a round, and tell `tracker`, which is of the class in `self.tracker`, of all events."""

    def _watchers(self, tracker: RunningCells, console: Console) -> list[CellListener]:
        """Further listeners, which follow the recorder."""
        return []

    @contextmanager
    def _told(self, recorder: Recorder) -> Iterator[None]:
        """Context manager in which cells run. An error outside of them ends them, and what was recorded is shown."""
        try:
            yield
        except Exception as error:  # such as a state of its own that Tune cannot write
            log.exception("%s stopped", self.place)
            reason = f"{self.place} stopped ({describe_error(error)}; see {self._run_dir.name_of(self._run_dir.log)})"
            recorder.unwritable = recorder.unwritable or reason

    @contextmanager
    def _second_signal_ends(self, console: Console) -> Iterator[None]:
        """Context manager in which cells run. It ends quietly if a second signal interrupts cells that must stop."""
        try:
            yield
        except KeyboardInterrupt:
            if not self._stop.asked:
                raise
        finally:
            console.close()


def _validation_score(row: Mapping[str, Any], rates: Mapping[str, float]) -> str:
    """A row's learning rate and validation score as text."""
    rate = f"lr {rates[row['key']]:<7g}" if row["key"] in rates else f"{'':10}"
    return f"{rate} validation F1 {100 * row['val_f1_macro']:5.1f} %"
