"""The function that Ray Tune runs in a worker. Importing this module does not import torch."""

import os

import ray
from ray import tune

from sweep.tune.compute import compute
from sweep.tune.job import WorkerJob


def train_cell(config: dict, *, job: WorkerJob) -> None:
    """Run the cell `config["cell"]`, with the learning rate `config["rate"]` unless that is None."""
    # This comes first, so that the watchdog can kill a worker that hangs while it imports torch.
    tune.report({"worker": (os.getpid(), ray.get_runtime_context().get_node_id())})
    from sweep.tune.worker import train  # here, because the driver does not import torch

    if config.get("rate") is not None:
        job = job.with_rate(config["cell"]["objective"], config["rate"])
    compute(train, config["cell"], job, tune.report)
