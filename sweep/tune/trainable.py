"""The function that Ray Tune runs: a module that the driver imports without torch, and a worker without the driver."""

import os
from pathlib import Path

import ray
from ray import tune

from datasets.source import Source
from sweep.storage.cell_files import Keeping
from trainables.engine import Engine
from trainables.recipe import Recipe


def train_cell(
    config: dict, *, recipe: Recipe, source: Source, engine: Engine, imagenet: Path | None, keeping: Keeping
) -> None:
    """Run the cell `config["cell"]` in a worker; see `sweep.tune.worker.train`."""
    # Before all else: a worker that hangs, were it in importing torch, is killed by this.
    tune.report({"worker": (os.getpid(), ray.get_runtime_context().get_node_id())})
    from sweep.tune.worker import train

    train(config, recipe=recipe, source=source, engine=engine, imagenet=imagenet, keeping=keeping)


def try_rate(
    config: dict, *, recipe: Recipe, source: Source, engine: Engine, imagenet: Path | None, keeping: Keeping
) -> None:
    """Run the cell `config["cell"]` with the learning rate `config["rate"]`, or the recipe's own where that is None."""
    if config["rate"] is not None:
        recipe, _ = recipe.with_learning_rate(config["cell"]["objective"], config["rate"])
    train_cell(config, recipe=recipe, source=source, engine=engine, imagenet=imagenet, keeping=keeping)
