"""Contrastive pretraining: SGD, cosine over steps, the encoder of the best noise-free validation loss kept."""

import math
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from datasets.seeding import seeded, stream
from datasets.vts import Vts
from trainables.cell import Cell
from trainables.encoders import Backbone
from trainables.objective import Objective
from trainables.objectives import REGISTRY
from trainables.recipe import Pretrain, Recipe
from trainables.views import Views, training_views, validation_views

Report = Callable[[str, int, dict[str, float]], None]
"""(stage, step, name -> value): takes points of the learning curves as they come."""


class NonFiniteLossError(RuntimeError):
    """The loss became infinite or NaN; says which loss, step and cell."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """What pretraining did; the encoder itself was trained in place."""

    train_loss: float
    """Mean training loss of the last stretch between evaluations, nats."""
    val_loss: float
    """Best noise-free validation loss, nats."""
    plateau: float
    """That loss with all features equal: an encoder that learnt nothing stays there."""
    best_step: int
    noisy_pairs: float
    """Share of the pairs shown that were noisy."""
    seconds: float
    """Time in training steps, evaluations left out."""


class Training:
    """An objective with its optimiser and schedule, and the step that changes them."""

    def __init__(self, objective: Objective, settings: Pretrain, device: torch.device) -> None:
        """Bring the objective to the device; all its weights that require a gradient are trained."""
        self.objective = objective.to(device).train()
        self.weights = [weight for weight in objective.parameters() if weight.requires_grad]
        self.optimiser = torch.optim.SGD(
            self.weights,
            objective.lr,
            momentum=0.9,
            weight_decay=settings.weight_decay,
            fused=True if device.type == "cuda" else None,  # one kernel for all weights; no gain on a CPU
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda done: rate(done, settings))

    def step(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """One optimiser step; its loss stays on the device, for looking at it would make a GPU wait."""
        loss = self.objective.loss(views, generator)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.objective.clip:
            nn.utils.clip_grad_norm_(self.weights, self.objective.clip)
        self.optimiser.step()
        self.schedule.step()
        return loss.detach()


def pretrain(encoder: Backbone, data: Vts, cell: Cell, recipe: Recipe, report: Report) -> Pretrained:
    """Train `encoder` in place by the cell's objective and leave it with its best weights.

    Raises:
        NonFiniteLossError: training diverged.
    """
    with seeded(cell.seed, "projection head"):
        objective = REGISTRY[cell.objective](encoder, recipe, stream(cell.seed, "queue"))
    training = Training(objective, recipe.pretrain, data.device)
    evaluations = evaluation_steps(recipe.pretrain.steps, recipe.pretrain.evaluations)

    best_loss, best_step, best_weights, plateau = float("inf"), 0, encoder.state_dict(), float("nan")
    losses: list[Tensor] = []
    shown, seconds, clock = 0.0, 0.0, time.perf_counter()
    for step in range(1, recipe.pretrain.steps + 1):
        views, noisy = training_views(data, cell, recipe, step - 1, labelled=objective.labelled)
        losses.append(training.step(views, stream(cell.seed, "other image", step)))
        shown += float(noisy.float().mean())
        if step in evaluations:
            train_loss = mean_finite(losses, step, cell)
            losses.clear()
            seconds += time.perf_counter() - clock
            val_loss, plateau = validate(objective, data, cell, recipe)
            report("pretrain", step, {"train_loss": train_loss, "val_loss": val_loss, "plateau": plateau})
            if val_loss < best_loss:
                best_loss, best_step, best_weights = val_loss, step, deepcopy(encoder.state_dict())
            clock = time.perf_counter()
    encoder.load_state_dict(best_weights)
    return Pretrained(
        train_loss=train_loss,
        val_loss=best_loss,
        plateau=plateau,
        best_step=best_step,
        noisy_pairs=shown / recipe.pretrain.steps,
        seconds=seconds,
    )


def validate(objective: Objective, data: Vts, cell: Cell, recipe: Recipe) -> tuple[float, float]:
    """Noise-free validation loss in eval mode, and its plateau.

    Raises:
        NonFiniteLossError: the validation loss is no number.
    """
    objective.eval()
    loss, plateau = objective.validate(
        validation_views(data, cell, recipe, labelled=objective.labelled), stream(cell.seed, "validation")
    )
    objective.train()
    if not math.isfinite(loss):
        raise NonFiniteLossError(f"the validation loss became {loss} in cell {cell}")
    return loss, plateau


def rate(done: int, settings: Pretrain) -> float:
    """The share of the learning rate after `done` steps: a cosine to zero, times a linear rise at the beginning."""
    rise = min(1.0, (done + 1) / settings.warmup) if settings.warmup else 1.0
    return rise * (1 + math.cos(math.pi * done / settings.steps)) / 2


def evaluation_steps(steps: int, evaluations: int) -> frozenset[int]:
    """The steps, spread evenly and ending with the last, after which validation is done; fewer if steps are few."""
    return frozenset(math.ceil(steps * k / evaluations) for k in range(1, evaluations + 1))


def mean_finite(losses: list[Tensor], step: int, cell: Cell) -> float:
    """Mean of the losses of the steps up to `step`.

    Looked at once for a stretch of steps: asking after each would make a GPU wait.

    Raises:
        NonFiniteLossError: with the first step whose loss is no finite number.
    """
    values = torch.stack(losses).double().cpu()
    bad = (~values.isfinite()).nonzero().flatten()
    if len(bad):
        first = int(bad[0])
        raise NonFiniteLossError(
            f"the training loss became {float(values[first])} at step {step - len(values) + first + 1} in cell "
            f"{cell}: lower the learning rate"
        )
    return float(values.mean())
