"""Run the missing cells of a sweep with Ray Tune."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from sweep.config import Sweep
from sweep.logs import redirect

# Ray reads these when it is imported.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Ctrl-C shall raise KeyboardInterrupt here; Tune's own handler would end as if all were done.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")

import ray
from ray import tune

from datasets.errors import InputError
from datasets.textures import TextureBank
from sweep import worker
from sweep.recorder import Recorder
from sweep.searcher import GridSearcher
from trainables.cell import Cell

LOST_WORKERS = 3
"""How often a cell is begun anew because its worker was lost, before it is given up."""


def launch(sweep: Sweep, cells: Sequence[Cell], bank: TextureBank, recorder: Recorder, logs: Path) -> None:
    """Run `cells` on this machine; what they give goes to the recorder.

    Workers are processes that run cell after cell. Each holds `sweep.threads` cores and, where there are GPUs,
    `sweep.gpu_share` of one. The texture images are put into Ray's object store once and shared by all of them.
    """
    redirect("ray", "ray.tune")
    ray.init(
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        configure_logging=False,
        runtime_env={"env_vars": dict(worker.environment(sweep.threads))},
    )
    try:
        available = ray.cluster_resources()
        if sweep.threads > available.get("CPU", 0):
            raise InputError(
                f"--threads {sweep.threads}: a cell cannot have more than the {available['CPU']:g} cores here"
            )
        share = {"cpu": sweep.threads, "gpu": sweep.gpu_share if available.get("GPU") else 0}
        trainable = tune.with_resources(
            tune.with_parameters(worker.train, recipe=sweep.recipe, bank=bank, threads=sweep.threads), share
        )
        tune.Tuner(
            trainable,
            tune_config=tune.TuneConfig(
                search_alg=GridSearcher(cells),
                num_samples=-1,
                max_concurrent_trials=sweep.workers or None,
                reuse_actors=True,
                trial_dirname_creator=lambda trial: trial.config["cell"]["objective"] + "-" + trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name="ray",
                storage_path=str(logs.resolve()),
                callbacks=[recorder],
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=LOST_WORKERS),
                stop=lambda trial, result: recorder.stopped is not None,
            ),
        ).fit()
    finally:
        ray.shutdown()
