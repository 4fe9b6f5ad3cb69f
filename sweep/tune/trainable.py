"""The function that Ray Tune runs in a worker. The driver imports this module without torch."""

import os
from dataclasses import replace

import ray
from ray import tune

from sweep.tune.job import WorkerJob


def train_cell(config: dict, *, job: WorkerJob) -> None:
    """Run the cell `config["cell"]`, with the learning rate `config["rate"]` unless that is None."""
    # First of all: the watchdog can then kill a worker that hangs, even in importing torch.
    tune.report({"worker": (os.getpid(), ray.get_runtime_context().get_node_id())})
    from sweep.tune.worker import train  # here, because the driver does without torch

    if config.get("rate") is not None:
        recipe, _ = job.cell_job.recipe.with_learning_rate(config["cell"]["objective"], config["rate"])
        job = replace(job, cell_job=replace(job.cell_job, recipe=recipe))
    train(config["cell"], job)
