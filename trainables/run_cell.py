"""One cell from beginning to end: pretrain, freeze, probe, test."""

from contextlib import closing
from pathlib import Path

import torch

from datasets.registry import open_data
from datasets.seeding import seeded
from datasets.source import Source
from trainables.cell import Cell
from trainables.cell_state import Progress, Report
from trainables.checkpoints import Checkpoints
from trainables.engine import PLAIN, Engine
from trainables.examples import TakeExamples, examples
from trainables.models.encoders import Backbone, make_encoder
from trainables.models.export import save_encoder
from trainables.models.imagenet import imagenet_encoder
from trainables.objective_names import objective_info
from trainables.pretrain import pretrain
from trainables.probe import probe
from trainables.recipe import Recipe


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
    checkpoints: Checkpoints | None = None,
    keep: Path | None = None,
) -> dict[str, float]:
    """Run one cell and return its metrics, flat, by the names of the record's columns.

    The same cell, recipe, data and engine give the same metrics bit for bit on a CPU, times apart, and so they do where
    the cell was cut off, wherever that was, and goes on from its checkpoint.

    Args:
        cell: the coordinates.
        recipe: everything held fixed.
        source: the data that the recipe names, loaded by its settings.
        device: where it all happens.
        report: takes the points of the learning curves as they come; those before a checkpoint once more.
        engine: how it is executed, with nothing left to be measured; its threads are for the caller to set.
        imagenet: file of weights for the baseline of that name.
        show: takes predictions on some test images, if they are wanted.
        checkpoints: of this cell; it goes on from the newest. They are the caller's to remove. None: it keeps none.
        keep: file for the encoder that was probed, as safetensors.

    Raises:
        NonFiniteLossError: training diverged.
        StoppedError: the cell was asked to stop.
        OSError: `keep` cannot be written.
    """
    with closing(Progress(checkpoints or Checkpoints(None, ""), report)) as progress:
        data = open_data(recipe.data, source, cell.seed, device)
        encoder = first_encoder(cell, recipe, engine, imagenet).to(device)
        metrics: dict[str, float] = {}
        if objective_info(cell.objective).trained:
            pretrained = pretrain(encoder, data, cell, recipe, progress.report, progress)
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
        progress.begin("probe")
        probed = probe(encoder, data, cell, recipe, progress.report, progress)
        seconds = progress.seconds()
        if keep is not None:
            save_encoder(encoder, keep, recipe.encoder, bands=recipe.data.bands)
        if show is not None:
            show(examples(encoder, probed, data, recipe))
        return {
            **metrics,
            **probed.test,
            "val_f1_macro": probed.val["val_f1_macro"],
            "seconds": sum(seconds.values()),
            "pretrain_seconds": seconds["pretrain"],
            "probe_seconds": seconds["probe"],
        }


def first_encoder(cell: Cell, recipe: Recipe, engine: Engine, imagenet: Path | None) -> Backbone:
    """The encoder that a cell begins with: random weights of its seed, or the baseline's."""
    with seeded(cell.seed, "encoder"):
        if cell.objective != "imagenet":
            return make_encoder(recipe.encoder, engine, bands=recipe.data.bands)
        assert imagenet is not None, "the baseline imagenet without a file of weights"
        return imagenet_encoder(recipe.encoder, imagenet, engine, bands=recipe.data.bands)
