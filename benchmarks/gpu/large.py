"""Tensors of 2^31 elements, which xbd-paper's dense losses reach in the stem: memory, time, and right results.

A kernel that counts in 32 bits may return wrong values for them without an error. So features and gradients of a
whole batch are compared with those of its halves.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.recipes import ENGINE, XBD, recipe_of
from benchmarks.gpu.report import Report, Setting
from benchmarks.speed.common import device, peak_memory
from datasets.seeding import seeded
from trainables.device import free_memory, prepare_device
from trainables.engine import Engine
from trainables.models.encoders import Backbone, make_encoder
from trainables.profiling.bare_step import bare_step, seconds_of
from trainables.recipe import Recipe

TOLERANCE = 0.05
"""Relative difference from the halves. Rounding in bf16 gives less than 0.01, an image with wrong values about 1."""


def run(setting: Setting, report: Report) -> None:
    """Train some steps, and compare a batch with its halves."""
    prepare_device(ENGINE)
    recipe = recipe_of(XBD, tiny=setting.tiny)
    again = replace(ENGINE, recompute=True)
    for loss, engine in (("moco", ENGINE), ("cross_image", ENGINE), ("cross_image", again)):
        case = f"step, {loss}{', recompute' * engine.recompute}"
        with report.case(case):
            figures = training(loss, recipe, engine)
            report.check(case, isfinite(figures["loss"]), **figures)
        free_memory(device())
    for engine in (ENGINE, again):
        case = f"as its halves{', recompute' * engine.recompute}"
        with report.case(case):
            figures = against_halves(recipe, engine)
            report.check(case, max(figures["features"], figures["gradient"]) < TOLERANCE, **figures)
        free_memory(device())


def training(loss: str, recipe: Recipe, engine: Engine) -> dict[str, Any]:
    """Time of a bare step, its peak of GPU memory, and the loss."""
    step = bare_step(loss, recipe, engine, device())
    step()
    seconds = min(seconds_of(step, device(), least=2, budget=0.0))
    return {"ms": 1e3 * seconds, "gbytes": peak_memory(), "loss": float(step())}


def against_halves(recipe: Recipe, engine: Engine) -> dict[str, Any]:
    """Compare an encoder's features and gradient of a batch of both images of all pairs with those of its halves.

    Returns:
        `stem_elements`: elements of the stem's result for the whole batch.
        `features`: the largest relative difference of an image.
        `gradient`: the relative difference.
        `gbytes`: peak of GPU memory.
    """
    with seeded(0, "halves"):
        encoder = make_encoder(recipe.encoder, engine, bands=recipe.data.bands).to(device())
        shape = (2 * recipe.pretrain.batch, recipe.data.bands, recipe.data.size, recipe.data.size)
        images = torch.rand(shape, device=device())
    # The wrapper trains, so it does not cut the batch; the batch norms do not, so images do not depend on each other.
    encoder.train()
    encoder.network.eval()
    seen: list[int] = []
    stem: Any = encoder.network.conv1
    stem.register_forward_hook(lambda *found: seen.append(found[2].numel()))
    features, gradient = passes(encoder, [images])
    expected, expected_gradient = passes(encoder, images.chunk(2))
    return {
        "stem_elements": max(seen),
        "features": float(_relative(features.flatten(1), expected.flatten(1)).max()),
        "gradient": float(_relative(gradient, expected_gradient)),
        "gbytes": peak_memory(),
    }


def passes(encoder: Backbone, parts: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The features of all parts, and the gradient of the sum of their squares."""
    encoder.zero_grad()
    found = []
    for part in parts:
        features = encoder(part)
        features.square().sum().backward()
        found.append(features.detach())
    gradients = [weight.grad.flatten() for weight in encoder.parameters() if weight.grad is not None]
    return torch.cat(found), torch.cat(gradients)


def _relative(found: Tensor, expected: Tensor) -> Tensor:
    """The norm of the difference relative to that of what is expected, along the last axis."""
    return (found - expected).norm(dim=-1) / expected.norm(dim=-1)
