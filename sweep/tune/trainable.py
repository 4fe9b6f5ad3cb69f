"""The function that Ray Tune runs in a worker. Importing this module does not import torch."""

import os
import platform
import time
from typing import NoReturn

import ray
from ray import tune

from sweep.tune.compute import compute
from sweep.tune.job import WorkerJob
from trainables.cell_job import SharedFeatures

PAUSE = 20.0
"""Seconds that a worker without a usable GPU waits before it ends, so that other machines take the cells."""


def train_cell(config: dict, *, job: WorkerJob, features: SharedFeatures | None = None) -> None:
    """Run the cell `config["cell"]`, with the learning rate `config["rate"]` unless that is None.

    A worker whose GPU cannot be used, or no longer works, ends. `features` are those of the worker.
    """
    # This comes first, so that the watchdog can kill a worker that hangs while it imports torch.
    tune.report({"worker": (os.getpid(), ray.get_runtime_context().get_node_id())})
    from sweep.tune.worker import train  # here, because the driver does not import torch
    from trainables.device import LostGpuError, NoGpuError

    if config.get("rate") is not None:
        job = job.with_rate(config["cell"]["objective"], config["rate"])
    try:
        compute(train, config["cell"], job, tune.report, needs_gpu=bool(ray.get_gpu_ids()), features=features)
    except NoGpuError as error:
        time.sleep(PAUSE)
        _leave(str(error))
    except LostGpuError as error:
        _leave(str(error))


def _leave(reason: str) -> NoReturn:
    """End this process. To Ray its worker is lost: the cell goes on from its checkpoint in another one."""
    tune.report({"warning": f"the worker on {platform.node()} ends: {reason}"})  # returns when the driver has read it
    os._exit(1)
