"""The bare optimiser step on random views: the reference that engines and data loading are measured against."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from datasets.seeding import seeded, stream
from trainables.engine import Engine
from trainables.models.encoders import make_encoder
from trainables.objectives.base import make_objective
from trainables.pretrain import Training
from trainables.recipe import Recipe
from trainables.views import Views


def bare_step(
    objective: str, recipe: Recipe, engine: Engine, device: torch.device, *, batch: int | None = None
) -> Callable[[], Tensor]:
    """A step of pretraining without its data: encoder, heads, loss, optimiser, momentum encoder.

    Args:
        objective: name of the loss.
        recipe: everything but the data.
        engine: how it is executed; its threads are for the caller to set.
        device: where.
        batch: pairs a step; the recipe's unless given.

    Returns:
        The step; each call trains on the same views and returns the loss, on the device.
    """
    count, size = batch or recipe.pretrain.batch, recipe.data.size
    draws = stream(0, "timing")
    with seeded(0, "timing"):
        encoder = make_encoder(recipe.encoder, engine, bands=recipe.data.bands)
        training = Training(make_objective(objective, encoder, recipe, draws), recipe.pretrain, device)
    images = torch.rand(2, count, recipe.data.bands, size, size, generator=draws).to(device)
    labels = torch.randint(2, (2, count, size, size), dtype=torch.uint8, generator=draws).to(device)
    views = Views(first=images[0], second=images[1], first_labels=labels[0], second_labels=labels[1])
    return lambda: training.step(views, draws)


def seconds_of(work: Callable[[], object], device: torch.device, *, least: int, budget: float) -> list[float]:
    """Seconds of repeated calls of `work`, at least `least` of them and until they add up to `budget` seconds."""
    taken: list[float] = []
    synchronise(device)
    while len(taken) < least or sum(taken) < budget:
        begun = time.perf_counter()
        work()
        synchronise(device)
        taken.append(time.perf_counter() - begun)
    return taken


def synchronise(device: torch.device) -> None:
    """Wait for a GPU's queued work; does nothing for a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
