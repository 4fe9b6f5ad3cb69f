"""One cell from beginning to end: pretrain (or load a kept encoder), freeze, probe, test."""

import math
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch

from datasets.dataset import Dataset, TransferPool
from datasets.registry import open_data
from datasets.seeding import seeded
from trainables.cell import Cell
from trainables.cell_job import CellJob, KeptEncoders
from trainables.cell_state import CellState, Report
from trainables.checkpoints import Checkpoints
from trainables.collapse import feature_spread, is_collapsed
from trainables.examples import TakeExamples, examples
from trainables.models.encoders import Backbone, make_encoder
from trainables.models.export import load_encoder, save_encoder
from trainables.models.imagenet import imagenet_encoder
from trainables.models.siamese import for_target
from trainables.models.weights import pretrained_encoder
from trainables.objective_names import objective_info
from trainables.pretrain import pretrain
from trainables.probe import neighbour_score, probe
from trainables.recipe import Recipe
from trainables.views import training_pool
from trainables.weights_file import checked_path


def run_cell(
    cell: Cell,
    job: CellJob,
    device: torch.device,
    *,
    report: Report,
    checkpoints: Checkpoints | None = None,
    take_examples: TakeExamples | None = None,
    export_to: Path | None = None,
) -> dict[str, Any]:
    """Run one cell and return its metrics, named like the columns of a record.

    On a CPU, the same cell and job give bitwise equal metrics (except times), also if the cell resumes from a
    checkpoint.

    Args:
        cell: the coordinates.
        job: what all cells of a sweep have in common: recipe, data, engine.
        device: of the whole cell.
        report: receives the points of the learning curves; a resumed cell repeats the earlier ones.
        checkpoints: of this cell, which resumes from the newest. The caller removes them. None: write none.
        take_examples: receives predictions for some test images.
        export_to: file for the pretrained encoder, as safetensors.

    Raises:
        NonFiniteLossError: training diverged.
        StoppedError: the cell was asked to stop.
        OSError: `export_to` cannot be written.
    """
    recipe = job.recipe
    with closing(CellState(checkpoints or Checkpoints(None, ""), report)) as state:
        data = open_data(recipe.data, job.source, cell.seed, device)
        if job.kept:
            encoder, metrics = kept_encoder(cell, job, job.kept)
            encoder = encoder.to(device)
        else:
            encoder = first_encoder(cell, job).to(device)
            metrics = pretraining(encoder, data, cell, recipe, state)
        state.start_timing("probe")
        share = partial(job.features.get, features_identity(cell, job, device)) if job.kept and job.features else None
        probed = probe(for_target(encoder, recipe.probe), data, cell, recipe, state, share=share)
        seconds = state.seconds()
        if export_to is not None:
            save_encoder(encoder, export_to, recipe.encoder, bands=recipe.data.bands)
        if take_examples is not None:
            take_examples(examples(probed, data, recipe))
        return {
            **metrics,
            **probed.test,
            "val_f1_macro": probed.val["val_f1_macro"],
            "seconds": sum(seconds.values()),
            "pretrain_seconds": seconds["pretrain"],
            "probe_seconds": seconds["probe"],
        }


def pretraining(encoder: Backbone, data: Dataset, cell: Cell, recipe: Recipe, state: CellState) -> dict[str, Any]:
    """Pretrain the encoder, unless it is that of a baseline; returns the metrics of pretraining and of the features."""
    metrics: dict[str, Any] = {}
    trained = objective_info(cell.objective).trained

    def watch(encoder: Backbone) -> dict[str, float]:
        return {"knn_val_f1_macro": neighbour_score(for_target(encoder, recipe.probe), data, cell, recipe, state)}

    pretrained = pretrain(encoder, data, cell, recipe, state, watch=watch) if trained else None
    spread = feature_spread(encoder, data, recipe, state.with_heartbeat)
    if pretrained:
        metrics |= {
            "pretrain_loss": pretrained.train_loss,
            "pretrain_val_loss": pretrained.val_loss,
            "pretrain_plateau": pretrained.plateau,
            "pretrain_floor": pretrained.floor,
            "collapsed": is_collapsed(pretrained, spread),
            "pretrain_best_step": pretrained.best_step,
            "pretrain_steps": recipe.pretrain.steps,
            "noisy_pairs": pretrained.noisy_pairs,
            **noise_of(data, cell),
            "images_per_second": recipe.pretrain.steps * recipe.pretrain.batch / pretrained.seconds,
        }
    return {**metrics, "feature_std": spread.std, "feature_rank": spread.rank}


def kept_encoder(cell: Cell, job: CellJob, kept: KeptEncoders) -> tuple[Backbone, dict[str, Any]]:
    """The encoder that an earlier sweep has kept for a cell, and the metrics of its pretraining.

    Raises:
        InputError: the file cannot be read, or holds another encoder.
    """
    recipe = job.recipe
    with seeded(cell.seed, "encoder"):
        encoder = load_encoder(kept.path(cell), recipe.encoder, job.engine, bands=recipe.data.bands)
    return encoder, dict(kept.columns[kept.key(cell)])


def features_identity(cell: Cell, job: CellJob, device: torch.device) -> str:
    """What the features of a kept encoder depend on: equal for cells that may share them."""
    settings = job.recipe.probe
    parts = (
        job.kept and job.kept.path(cell),
        job.source.fingerprint,
        job.recipe.data,
        job.engine,
        settings.batch,
        settings.target,
        settings.join,
        device,
    )
    return " ".join(map(str, parts))


def noise_of(data: Dataset, cell: Cell) -> dict[str, float]:
    """How much noise the noisy pairs of a cell have, as far as that is known."""
    if not cell.rho:
        return {"noise_pixels": 0.0}
    pool = training_pool(data, cell)
    found = {"nu_measured": pool.measured_nu()} if isinstance(pool, TransferPool) else {}
    if cell.pairing != "misregistration":  # such an image shows no noise, but the wrong place
        found["noise_pixels"] = data.noise_pixels(cell.nu)
    return {name: value for name, value in found.items() if not math.isnan(value)}


def first_encoder(cell: Cell, job: CellJob) -> Backbone:
    """The initial encoder of a cell: random weights drawn from its seed, those of the recipe's file, or ImageNet's."""
    recipe, bands = job.recipe.encoder, job.recipe.data.bands
    weights = checked_path(recipe.weights) if objective_info(cell.objective).takes_weights else None
    with seeded(cell.seed, "encoder"):
        if cell.objective == "imagenet":
            assert job.imagenet is not None, "the baseline imagenet needs a file of weights"
            return imagenet_encoder(recipe, job.imagenet, job.engine, bands=bands)
        if weights is not None:
            return pretrained_encoder(recipe, weights, job.engine, bands=bands)
        return make_encoder(recipe, job.engine, bands=bands)
