"""One cell from beginning to end: pretrain, freeze, probe, test."""

import time

import torch

from datasets.seeding import seeded, stream
from datasets.textures import TextureBank
from datasets.vts import Vts
from trainables.cell import BASELINES, Cell
from trainables.encoders import make_encoder
from trainables.engine import PLAIN, Engine
from trainables.pretrain import Report, pretrain
from trainables.probe import probe
from trainables.recipe import Recipe


def run_cell(
    cell: Cell,
    recipe: Recipe,
    bank: TextureBank,
    *,
    device: torch.device,
    report: Report,
    engine: Engine = PLAIN,
) -> dict[str, float]:
    """Run one cell and return its metrics, flat, by the names of the record's columns.

    The same cell, recipe, bank and engine give the same metrics bit for bit on a CPU.

    Args:
        cell: the coordinates.
        recipe: everything held fixed.
        bank: the texture images that the recipe names.
        device: where it all happens.
        report: takes the points of the learning curves as they come.
        engine: how it is executed, with nothing left to be measured; its threads are for the caller to set.

    Raises:
        NonFiniteLossError: training diverged.
    """
    started = time.perf_counter()
    data = Vts(recipe.vts, bank, lambda purpose: stream(cell.seed, purpose), device)
    with seeded(cell.seed, "encoder"):
        encoder = make_encoder(recipe.encoder, engine).to(device)
    metrics: dict[str, float] = {}
    if cell.objective not in BASELINES:
        pretrained = pretrain(encoder, data, cell, recipe, report)
        metrics |= {
            "pretrain_loss": pretrained.train_loss,
            "pretrain_val_loss": pretrained.val_loss,
            "pretrain_plateau": pretrained.plateau,
            "pretrain_best_step": pretrained.best_step,
            "pretrain_steps": recipe.pretrain.steps,
            "noisy_pairs": pretrained.noisy_pairs,
            "noise_pixels": data.noise_pixels(cell.nu),
            "images_per_second": recipe.pretrain.steps * recipe.pretrain.batch / pretrained.seconds,
        }
    pretrain_seconds = time.perf_counter() - started
    probed = probe(encoder, data, cell, recipe, report)
    seconds = time.perf_counter() - started
    return {
        **metrics,
        **probed.test,
        "val_f1_macro": probed.val["val_f1_macro"],
        "seconds": seconds,
        "pretrain_seconds": pretrain_seconds,
        "probe_seconds": seconds - pretrain_seconds,
    }
