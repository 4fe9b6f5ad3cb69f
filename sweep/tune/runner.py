"""Runs cells with Ray Tune."""

import os
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from sweep.config.grid import cheapest_last
from sweep.tune.admission import CellQueue
from sweep.tune.cell_runner import CellRunner, Round
from sweep.tune.console import Console
from sweep.tune.grid_searcher import GridSearcher
from sweep.tune.recorder import Recorder
from sweep.tune.resources import resources_for
from sweep.tune.running import CellListener, RunningCells
from sweep.tune.tracker import TrialTracker
from sweep.tune.trainable import train_cell
from sweep.tune.watchdog import Watchdog
from trainables.cell import Cell
from trainables.cell_job import SharedFeatures

LOST_WORKERS = 10
"""How often a cell may lose its worker before it is given up."""
PENDING = 64
"""The most waiting cells that Ray's autoscaler sees on a cluster."""


class TuneRunner(CellRunner):
    """Runs cells with Ray Tune. Ray must be running.

    Workers are processes that run one cell after the other. Each uses the engine's threads and, with GPUs,
    `sweep.gpu_share` of one. The source is put into Ray's object store once, and all workers share it. Machines that
    join later run cells too.
    """

    place = "Ray Tune"
    tracker = TrialTracker

    def __init__(self, *arguments: Any, **more: Any) -> None:
        """As `CellRunner`."""
        super().__init__(*arguments, **more)
        # Each worker has a copy of the partial function, with all its cells. It gets a new copy of the job for each.
        self._trainable = tune.with_parameters(partial(train_cell, features=SharedFeatures()), job=self._job)

    def _run_round(self, some: Round, tracker: TrialTracker, recorder: Recorder) -> None:
        def searcher(cells: Sequence[Cell]) -> Searcher:
            return GridSearcher(
                CellQueue(cells, some.admission),
                closed=lambda: self._stop.asked,
                busy=lambda: bool(tracker.running),
                rates=some.rates,
            )

        if some.alone:
            alone = {"cpu": float(self._sweep.engine.threads), "gpu": 1.0 if self._machine.gpus else 0.0}
            self._fit(searcher(some.cells), alone, 1, some.name, tracker, recorder)
            return
        resources = resources_for(self._sweep, self._machine)
        # By default Tune starts one worker after the other, each of which imports torch for seconds. More waiting
        # cells also make the autoscaler start machines.
        pending = max(resources.slots, PENDING) if some.grows and not self._sweep.workers else resources.slots
        os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(pending)
        suggested = some.proposals or searcher(cheapest_last(some.cells, 2 * resources.slots))
        # Tune has cells suggested before a worker is free for them, unless their number is limited.
        limit = resources.at_once if some.admission and some.admission.one_by_one else None
        self._fit(suggested, resources.share, self._sweep.workers or limit, some.name, tracker, recorder)

    def _watchers(self, tracker: RunningCells, console: Console) -> list[CellListener]:
        return [Watchdog(tracker, self._sweep.patience, console)]

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
                name=f"{name}-{self._run_dir.shard}" if self._run_dir.shard else name,
                storage_path=str(self._run_dir.logs.resolve()),
                callbacks=[tracker],
                verbose=0,
                progress_reporter=tune.CLIReporter(),  # in a notebook Tune's own would clear what was printed before
                failure_config=tune.FailureConfig(max_failures=LOST_WORKERS),
                stop=_NothingLeft(recorder),
            ),
        ).fit()


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
