"""The function that Ray Tune runs in a worker. The driver imports this module without torch."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import ray
from ray import tune

from datasets.source import Source
from sweep.config.sweep import Kept, Sweep
from sweep.rates import with_rate
from sweep.storage.run_dir import RunDir
from trainables.engine import Engine
from trainables.recipe import Recipe

SIGN_OF_LIFE = 5.0
"""Seconds between two reports of a worker at most, whatever its cell does."""


@dataclass(frozen=True, kw_only=True)
class WorkerJob:
    """Everything a worker needs beside the coordinates of a cell; the same for all cells of a command."""

    recipe: Recipe
    source: Source
    engine: Engine
    imagenet: Path | None
    """File of weights for the baseline imagenet."""
    place: Path | str
    """The sweep's folder, absolute, or its address: each machine then has a folder of its own."""
    checkpoint_every: float
    """Seconds between two checkpoints of a cell."""
    sign_of_life: float
    """Seconds between two reports at most."""
    keep: tuple[Kept, ...]
    """What is kept of a recorded cell."""

    @classmethod
    def of(cls, sweep: Sweep, source: Source, imagenet: Path | None = None) -> Self:
        """That of a sweep whose engine is chosen."""
        return cls(
            recipe=sweep.recipe,
            source=source,
            engine=sweep.engine,
            imagenet=imagenet,
            place=sweep.run_dir.place,
            checkpoint_every=sweep.checkpoint_every,
            sign_of_life=min(SIGN_OF_LIFE, sweep.patience / 4),
            keep=sweep.keep,
        )

    @property
    def run_dir(self) -> RunDir:
        """The sweep's folder on the machine that asks."""
        return RunDir.at(self.place)


def train_cell(config: dict, *, job: WorkerJob) -> None:
    """Run the cell `config["cell"]`, with the learning rate `config["rate"]` unless that is None."""
    # First of all: the watchdog can then kill a worker that hangs, even in importing torch.
    tune.report({"worker": (os.getpid(), ray.get_runtime_context().get_node_id())})
    from sweep.tune.worker import train  # here, because the driver does without torch

    if config.get("rate") is not None:
        job = replace(job, recipe=with_rate(job.recipe, config["cell"]["objective"], config["rate"]))
    train(config["cell"], job)
