"""Runs cells with Ray Tune."""

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from analysis.text import describe_error
from sweep.cluster.machine import Machine
from sweep.config.grid import cheapest_last
from sweep.config.sweep import Sweep
from sweep.signals import StopRequest
from sweep.storage.run_dir import RunDir
from sweep.tracking.background import BackgroundTracking
from sweep.tune.console import Console
from sweep.tune.grid_searcher import GridSearcher
from sweep.tune.job import WorkerJob
from sweep.tune.outcome import Outcome
from sweep.tune.progress_writer import ProgressWriter
from sweep.tune.recorder import Provenance, Recorder
from sweep.tune.resources import resources_for
from sweep.tune.tracker import TrialTracker
from sweep.tune.trainable import train_cell
from sweep.tune.watchdog import Watchdog
from trainables.cell import Cell

log = logging.getLogger(__name__)

LOST_WORKERS = 10
"""How often a cell may lose its worker before it is given up."""
PENDING = 64
"""The most waiting cells that Ray's autoscaler sees on a cluster."""


class TuneRunner:
    """Runs cells of one sweep and records their results.

    Workers are processes that run one cell after the other. Each uses the engine's threads and, with GPUs,
    `sweep.gpu_share` of one. The source is put into Ray's object store once, and all workers share it. Machines that
    join later run cells too.
    """

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
        """Run nothing yet. Ray must be running.

        Args:
            sweep: the sweep, with its engine chosen.
            job: what workers need.
            machine: the machine that cells go to first.
            run_dir: the sweep's folder.
            tracking: MLflow.
            stop: whether cells must stop.
            progress: writes `progress.json`; None: nothing writes it.
        """
        self._sweep, self._machine = sweep, machine
        origins = {recipe: Provenance.of(sweep, one.source) for recipe, one in job.cell_jobs.items()}
        first = next(iter(origins.values()))  # a search tries further recipes on the same data
        self._provenance = lambda cell: origins.get(cell.recipe, first)
        self._trainable = tune.with_parameters(train_cell, job=job)
        self._run_dir, self._tracking, self._stop, self._progress = run_dir, tracking, stop, progress

    def run(
        self,
        cells: Sequence[Cell],
        *,
        planned: int = 0,
        grows: bool = False,
        rates: Mapping[str, float] | None = None,
        proposals: Searcher | None = None,
    ) -> Outcome:
        """Run the cells. Those that fail run once more at the end, those that lack memory or lose their workers alone.

        Args:
            cells: the cells to run.
            planned: number of cells of the whole sweep, including the recorded ones; 0: only `cells`.
            grows: whether Ray's autoscaler may start machines for waiting cells.
            rates: key -> learning rate, for cells with rates of their own; may grow.
            proposals: suggests cells, instead of `cells` in their order.
        """
        tracker = TrialTracker()
        total = planned or len(cells)
        console = Console(total, total - len(cells), tracker.running)
        recorder = Recorder(
            self._run_dir,
            self._provenance,
            self._tracking,
            console,
            self._stop,
            running=tracker.running,
            score=None if rates is None else lambda row: _validation_score(row, rates),
        )
        tracker.listeners = [recorder, Watchdog(tracker, self._sweep.patience, console)]
        with self._second_signal_ends(console), self._told(recorder):
            if self._progress:
                tracker.listeners.append(self._progress.follow(tracker, recorder))

            def searcher(some: Sequence[Cell]) -> Searcher:
                return GridSearcher(some, closed=lambda: self._stop.asked, rates=rates)

            resources = resources_for(self._sweep, self._machine)
            # By default Tune starts one worker after the other, each of which imports torch for seconds. More waiting
            # cells also make the autoscaler start machines.
            pending = max(resources.slots, PENDING) if grows and not self._sweep.workers else resources.slots
            os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(pending)
            at_once = self._sweep.workers or None
            first = proposals or searcher(cheapest_last(cells, 2 * resources.slots))
            self._fit(first, resources.share, at_once, "ray", tracker, recorder)
            if again := recorder.take_again():
                self._fit(searcher(again), resources.share, at_once, "ray-again", tracker, recorder)
            if postponed := recorder.take_postponed():
                alone = {"cpu": float(self._sweep.engine.threads), "gpu": 1.0 if self._machine.gpus else 0.0}
                self._fit(searcher(postponed), alone, 1, "ray-alone", tracker, recorder)
        return recorder.outcome

    def _fit(
        self,
        searcher: Searcher,
        share: Mapping[str, float],
        at_once: int | None,
        name: str,
        tracker: TrialTracker,
        recorder: Recorder,
    ) -> None:
        """Let Tune run the suggested cells, at most `at_once` at a time. `name` is the folder of its logs."""
        tune.Tuner(
            tune.with_resources(self._trainable, dict(share)),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                max_concurrent_trials=at_once,
                reuse_actors=True,
                trial_dirname_creator=_log_folder,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(self._run_dir.logs.resolve()),
                callbacks=[tracker],
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=LOST_WORKERS),
                stop=_NothingLeft(recorder),
            ),
        ).fit()

    @contextmanager
    def _told(self, recorder: Recorder) -> Iterator[None]:
        """Context manager in which cells run. An error of Ray or Tune ends them, and what was recorded is shown."""
        try:
            yield
        except Exception as error:  # such as a state of its own that Tune cannot write
            log.exception("Ray Tune stopped")
            reason = f"Ray Tune stopped ({describe_error(error)}; see {self._run_dir.name_of(self._run_dir.log)})"
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


def _log_folder(trial: Any) -> str:
    """The name of a trial's folder: its loss, without characters that are invalid in names, and Ray's name of it."""
    return re.sub(r"[^\w.-]", "_", trial.config["cell"]["objective"])[:100] + "-" + trial.trial_id


class _NothingLeft(tune.Stopper):
    """Ends Tune's run when the recorder says so."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._recorder.over

    def __getstate__(self) -> dict[str, Any]:
        """Empty, as for the tracker."""
        return {}


def _validation_score(row: Mapping[str, Any], rates: Mapping[str, float]) -> str:
    """A row's learning rate and validation score as text."""
    rate = f"lr {rates[row['key']]:<7g}" if row["key"] in rates else f"{'':10}"
    return f"{rate} validation F1 {100 * row['val_f1_macro']:5.1f} %"
