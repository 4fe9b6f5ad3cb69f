"""The function that Ray Tune runs: a module that the driver imports without torch, and a worker without the driver."""

from pathlib import Path

from datasets.source import Source
from trainables.engine import Engine
from trainables.recipe import Recipe


def train_cell(config: dict, *, recipe: Recipe, source: Source, engine: Engine, imagenet: Path | None) -> None:
    """Run the cell `config["cell"]` in a worker; see `sweep.worker.train`."""
    from sweep.worker import train  # here, because the driver does without torch

    train(config, recipe=recipe, source=source, engine=engine, imagenet=imagenet)
