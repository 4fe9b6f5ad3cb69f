"""The bare optimiser step on random views, the reference for measuring engines and data loading."""

import time
from collections.abc import Callable

import torch
from torch import Tensor

from datasets.seeding import seeded, stream
from trainables.engine import Engine
from trainables.models.encoders import make_encoder
from trainables.objectives.base import Objective, make_objective
from trainables.recipe import Recipe
from trainables.training import Training
from trainables.views import Views


def bare_step(
    objective: str, recipe: Recipe, engine: Engine, device: torch.device, *, batch: int | None = None
) -> Callable[[], Tensor]:
    """A pretraining step without data loading: encoder, heads, loss, optimiser and momentum encoder.

    Args:
        objective: name of the loss.
        recipe: everything that is held fixed; its data set gives only the shape of images.
        engine: how it is executed. The caller sets the number of threads.
        device: of the training.
        batch: pairs per step; default: as in the recipe.

    Returns:
        The step. Each call trains on the same views and returns the loss, on the device.
    """
    made, views, draws = resident(objective, recipe, engine, device, batch=batch)
    training = Training(made, recipe.pretrain, device)
    return lambda: training.step(views, draws)


def resident(
    objective: str, recipe: Recipe, engine: Engine, device: torch.device, *, batch: int | None = None
) -> tuple[Objective, Views, torch.Generator]:
    """What a step without data loading needs on the device: see `bare_step`.

    Returns:
        An objective with its first weights, random views, and the generator of further random numbers.
    """
    count, size = batch or recipe.pretrain.batch, recipe.data.size
    draws = stream(0, "timing")
    with seeded(0, "timing"):
        encoder = make_encoder(recipe.encoder, engine, bands=recipe.data.bands)
        made = make_objective(objective, encoder, recipe, draws).to(device).train()
    images = torch.rand(2, count, recipe.data.bands, size, size, generator=draws).to(device)
    shape = (2, count) if recipe.data.task == "classification" else (2, count, size, size)
    labels = torch.randint(2, shape, dtype=torch.uint8, generator=draws).to(device)
    maps = torch.eye(2, 3).expand(2, count, 2, 3).to(device)
    views = Views(first=images[0], second=images[1], first_labels=labels[0], second_labels=labels[1], maps=maps)
    return made, views, draws


def seconds_of(
    work: Callable[[], object],
    device: torch.device,
    *,
    least: int,
    budget: float,
    block: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Seconds of a call of `work`, each the mean over a block of calls.

    Args:
        work: the call.
        device: where it runs.
        least: the least number of blocks.
        budget: the least number of seconds in all blocks.
        block: calls before the GPU is waited for. After a wait it idles until the next call has queued its work.
        clock: the clock; it may count CPU time.
    """
    taken: list[float] = []
    synchronise(device)
    while len(taken) < least or block * sum(taken) < budget:
        begun = clock()
        for _ in range(block):
            work()
        synchronise(device)
        taken.append((clock() - begun) / block)
    return taken


def synchronise(device: torch.device) -> None:
    """Wait for the queued work of a GPU; do nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
