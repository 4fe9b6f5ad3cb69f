"""Run the missing cells of a sweep with Ray Tune."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune

from datasets.source import Source
from sweep.config import Sweep
from sweep.grid import cheapest_last
from sweep.recorder import Recorder
from sweep.searcher import GridSearcher
from sweep.trainable import train_cell
from trainables.cell import Cell

LOST_WORKERS = 3
"""How often a cell is begun anew because its worker was lost, before it is given up."""


def launch(
    sweep: Sweep, cells: Sequence[Cell], source: Source, imagenet: Path | None, recorder: Recorder, logs: Path
) -> None:
    """Run `cells` where Ray runs; what they give goes to the recorder.

    Workers are processes that run cell after cell. Each holds the engine's threads and, where there are GPUs,
    `sweep.gpu_share` of one. The source is put into Ray's object store once and shared by all of them.
    Cells that did not fit beside others run again at the end, one at a time.
    """
    available = ray.cluster_resources()
    gpu, threads = available.get("GPU", 0), sweep.engine.threads
    # No cell asks for more memory than there is, or it would wait for ever: it runs alone.
    memory = min(sweep.cell_memory * 1e9, available["memory"])
    share = {"cpu": threads, "gpu": sweep.gpu_share if gpu else 0, "memory": memory}
    slots = sweep.workers or max(1, int(available["CPU"] // threads))
    # Else Tune starts one worker after the other, and each takes seconds to import torch.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots)
    trainable = tune.with_parameters(
        train_cell, recipe=sweep.recipe, source=source, engine=sweep.engine, imagenet=imagenet
    )
    order = cheapest_last(cells, 2 * slots)
    _fit(tune.with_resources(trainable, share), order, recorder, logs / "ray", sweep.workers or None)
    if recorder.postponed and not recorder.stopped:
        again = recorder.take_postponed()
        alone = {"cpu": float(threads), "gpu": 1.0 if gpu else 0.0}
        _fit(tune.with_resources(trainable, alone), again, recorder, logs / "ray-alone", 1)


def _fit(trainable: Any, cells: Sequence[Cell], recorder: Recorder, place: Path, at_once: int | None) -> None:
    """Let Tune run the cells; `place` is the folder of its logs."""
    tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            search_alg=GridSearcher(cells),
            num_samples=-1,
            max_concurrent_trials=at_once,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.config["cell"]["objective"] + "-" + trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name=place.name,
            storage_path=str(place.parent.resolve()),
            callbacks=[recorder],
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=LOST_WORKERS),
            stop=lambda trial, result: recorder.stopped is not None,
        ),
    ).fit()
