"""Run the missing cells of a sweep with Ray Tune."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from datasets.source import Source
from sweep.chronicle import Chronicle
from sweep.config import Sweep
from sweep.grid import cheapest_last
from sweep.machine import Machine
from sweep.nodes import nodes
from sweep.recorder import Recorder
from sweep.searcher import GridSearcher
from sweep.stopping import Stop
from sweep.trainable import train_cell
from sweep.watch import Watch
from trainables.cell import Cell

LOST_WORKERS = 10
"""How often a cell goes on in another worker because its own was lost, before it is given up."""
WAITING = 64
"""Cells that Ray's autoscaler sees waiting at most, on a cluster."""


def launch(
    sweep: Sweep,
    cells: Sequence[Cell],
    source: Source,
    imagenet: Path | None,
    machine: Machine,
    recorder: Recorder,
    watch: Watch,
    chronicle: Chronicle,
    stop: Stop,
    logs: Path,
    *,
    grows: bool,
) -> None:
    """Run `cells` where Ray runs; what they give goes to the recorder.

    Workers are processes that run cell after cell. Each holds the engine's threads and, where there are GPUs,
    `sweep.gpu_share` of one. The source is put into Ray's object store once and shared by all of them.
    Machines that join later get cells too.
    Cells that failed run once more at the end, those that did not fit beside others one at a time.
    """
    gpu, threads = machine.gpus, sweep.engine.threads
    # No cell asks for more memory than there is, or it would wait for ever: it runs alone.
    memory = min(sweep.cell_memory * 1e9, machine.memory)
    share = {"cpu": threads, "gpu": sweep.gpu_share if gpu else 0, "memory": memory}
    slots = sweep.workers or max(1, sum(node.cores // threads for node in nodes()))
    # Else Tune starts one worker after the other, and each takes seconds to import torch. Where machines may
    # join, cells that wait are what they are started for.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots if sweep.workers or not grows else max(slots, WAITING))
    trainable = tune.with_parameters(
        train_cell,
        recipe=sweep.recipe,
        source=source,
        engine=sweep.engine,
        imagenet=imagenet,
        keeping=sweep.keeping,
    )
    rounds = _Rounds(recorder, watch, chronicle.follow(recorder), stop, logs)
    rounds.run(tune.with_resources(trainable, share), cheapest_last(cells, 2 * slots), "ray", sweep.workers or None)
    if again := recorder.take_again():
        rounds.run(tune.with_resources(trainable, share), again, "ray-again", sweep.workers or None)
    if last := recorder.take_postponed():
        alone = {"cpu": float(threads), "gpu": 1.0 if gpu else 0.0}
        rounds.run(tune.with_resources(trainable, alone), last, "ray-alone", 1)


@dataclass(frozen=True)
class _Rounds:
    """Tune's runs of one command."""

    recorder: Recorder
    watch: Watch
    chronicle: Chronicle
    stop: Stop
    logs: Path

    def run(self, trainable: Any, cells: Sequence[Cell], name: str, at_once: int | None) -> None:
        """Let Tune run the cells, `at_once` at a time at most; `name` is the folder of its logs."""
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=GridSearcher(cells, closed=lambda: self.stop.asked),
                num_samples=-1,
                max_concurrent_trials=at_once,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.config["cell"]["objective"] + "-" + trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=name,
                storage_path=str(self.logs.resolve()),
                callbacks=[self.recorder, self.watch, self.chronicle],
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=LOST_WORKERS),
                stop=_Over(self.recorder),
            ),
        ).fit()


class _Over(tune.Stopper):
    """Ends everything when nothing that runs is worth waiting for."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._recorder.over

    def __getstate__(self) -> dict[str, Any]:
        """Nothing, as of the recorder."""
        return {}
