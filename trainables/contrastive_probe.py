"""One cell from beginning to end: pretrain, freeze, probe, test."""

import time
from pathlib import Path

import torch

from datasets.registry import open_data
from datasets.seeding import seeded
from datasets.source import Source
from trainables.cell import Cell
from trainables.encoders import Backbone, make_encoder
from trainables.engine import PLAIN, Engine
from trainables.examples import TakeExamples, examples
from trainables.imagenet import imagenet_encoder
from trainables.pretrain import Report, pretrain
from trainables.probe import probe
from trainables.recipe import Recipe

UNTRAINED = ("random", "imagenet")
"""Baselines whose encoder is left as it is."""


def run_cell(
    cell: Cell,
    recipe: Recipe,
    source: Source,
    *,
    device: torch.device,
    report: Report,
    engine: Engine = PLAIN,
    imagenet: Path | None = None,
    show: TakeExamples | None = None,
) -> dict[str, float]:
    """Run one cell and return its metrics, flat, by the names of the record's columns.

    The same cell, recipe, data and engine give the same metrics bit for bit on a CPU.

    Args:
        cell: the coordinates.
        recipe: everything held fixed.
        source: the data that the recipe names, loaded by its settings.
        device: where it all happens.
        report: takes the points of the learning curves as they come.
        engine: how it is executed, with nothing left to be measured; its threads are for the caller to set.
        imagenet: file of weights for the baseline of that name.
        show: takes predictions on some test images, if they are wanted.

    Raises:
        NonFiniteLossError: training diverged.
    """
    started = time.perf_counter()
    data = open_data(recipe.data, source, cell.seed, device)
    encoder = first_encoder(cell, recipe, engine, imagenet).to(device)
    metrics: dict[str, float] = {}
    if cell.objective not in UNTRAINED:
        pretrained = pretrain(encoder, data, cell, recipe, report)
        metrics |= {
            "pretrain_loss": pretrained.train_loss,
            "pretrain_val_loss": pretrained.val_loss,
            "pretrain_plateau": pretrained.plateau,
            "pretrain_best_step": pretrained.best_step,
            "pretrain_steps": recipe.pretrain.steps,
            "noisy_pairs": pretrained.noisy_pairs,
            "noise_pixels": data.noise_pixels(cell.nu) if cell.rho else 0.0,
            "images_per_second": recipe.pretrain.steps * recipe.pretrain.batch / pretrained.seconds,
        }
    pretrain_seconds = time.perf_counter() - started
    probed = probe(encoder, data, cell, recipe, report)
    seconds = time.perf_counter() - started
    if show is not None:
        show(examples(encoder, probed, data, recipe))
    return {
        **metrics,
        **probed.test,
        "val_f1_macro": probed.val["val_f1_macro"],
        "seconds": seconds,
        "pretrain_seconds": pretrain_seconds,
        "probe_seconds": seconds - pretrain_seconds,
    }


def first_encoder(cell: Cell, recipe: Recipe, engine: Engine, imagenet: Path | None) -> Backbone:
    """The encoder that a cell begins with: random weights of its seed, or the baseline's."""
    with seeded(cell.seed, "encoder"):
        if cell.objective != "imagenet":
            return make_encoder(recipe.encoder, engine, bands=recipe.data.bands)
        assert imagenet is not None, "the baseline imagenet without a file of weights"
        return imagenet_encoder(recipe.encoder, imagenet, engine, bands=recipe.data.bands)
