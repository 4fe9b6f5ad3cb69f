"""Pretraining: SGD, cosine over steps, the encoder of the best noise-free validation loss kept.

It resumes exactly after any step: weights, momentum encoder, queue, optimiser, schedule and the best weights so far are
in its checkpoints, and random streams derive from the step.
"""

import math
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from datasets.dataset import Dataset
from datasets.seeding import seeded, stream
from trainables.cell import Cell
from trainables.cell_state import CellState
from trainables.models.encoders import Backbone
from trainables.objectives.base import Objective, make_objective
from trainables.objectives.supervised import Supervised
from trainables.recipe import Pretrain, Recipe
from trainables.views import (
    Views,
    downstream_validation,
    downstream_views,
    training_pool,
    training_views,
    validation_views,
)


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


@dataclass(kw_only=True)
class Course:
    """The training so far: step, running sums, and the best weights."""

    step: int = 0
    losses: list[Tensor] = field(default_factory=list)
    """Of the steps since the last evaluation."""
    train_loss: float = math.nan
    plateau: float = math.nan
    best_loss: float = math.inf
    best_step: int = 0
    best_weights: dict[str, Tensor] | None = None
    shown: float = 0.0
    """Sum over the steps of the share of noisy pairs."""
    seconds: float = 0.0
    """Time in training steps."""


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

    def state_dict(self) -> dict[str, Any]:
        """Everything that steps change."""
        return {
            "objective": self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])


def pretrain(encoder: Backbone, data: Dataset, cell: Cell, recipe: Recipe, state: CellState) -> Pretrained:
    """Train `encoder` in place by the cell's objective and leave it with its best weights.

    Args:
        encoder: with the weights that the cell begins with.
        data: pairs, downstream images.
        cell: the coordinates.
        recipe: everything held fixed.
        state: takes the points of the learning curves and the checkpoints, and holds the one that is resumed from.

    Raises:
        NonFiniteLossError: training diverged.
        StoppedError: the cell is to stop.
    """
    if done := state.pop_stage("pretrained"):
        encoder.load_state_dict(done["encoder"])
        state.keep_result("pretrained", {**done, "encoder": encoder.state_dict()})
        return Pretrained(**done["pretrained"])
    objective = cell_objective(encoder, data, cell, recipe)
    pretrained = train(objective, data, cell, recipe, state)
    state.finish_stage("pretrained", {"encoder": encoder.state_dict(), "pretrained": asdict(pretrained)})
    return pretrained


def train(objective: Objective, data: Dataset, cell: Cell, recipe: Recipe, state: CellState) -> Pretrained:
    """All steps, or those that are left; the objective's encoder ends with its best weights."""
    training, course = Training(objective, recipe.pretrain, data.device), Course()
    load = batches(objective, data, cell, recipe)
    evaluations = evaluation_steps(recipe.pretrain.steps, recipe.pretrain.evaluations)
    if kept := state.pop_stage("pretrain"):
        training.load_state_dict(kept["training"])
        course = Course(**kept["course"])
        course.losses = [loss.to(data.device) for loss in course.losses]
    clock = time.perf_counter()

    def stage_state() -> dict[str, Any]:
        seconds = course.seconds + time.perf_counter() - clock
        return {"training": training.state_dict(), "course": {**vars(course), "seconds": seconds}}

    for step in range(course.step + 1, recipe.pretrain.steps + 1):
        views, noisy = load(step - 1)
        course.losses.append(training.step(views, stream(cell.seed, "other image", step)))
        course.shown += float(noisy.float().mean())
        course.step = step
        if step in evaluations:
            course.train_loss = mean_finite(course.losses, step, cell)
            course.losses.clear()
            course.seconds += time.perf_counter() - clock
            val_loss, course.plateau = validate(objective, data, cell, recipe, state)
            points = {"train_loss": course.train_loss, "val_loss": val_loss, "plateau": course.plateau}
            state.report("pretrain", step, {name: value for name, value in points.items() if value == value})
            if val_loss < course.best_loss:
                course.best_loss, course.best_step = val_loss, step
                course.best_weights = deepcopy(objective.encoder.state_dict())
            clock = time.perf_counter()
        state.after_step("pretrain", step, stage_state)
    assert course.best_weights is not None, "the last step is evaluated, and no loss above infinity gets so far"
    objective.encoder.load_state_dict(course.best_weights)
    return Pretrained(
        train_loss=course.train_loss,
        val_loss=course.best_loss,
        plateau=course.plateau,
        best_step=course.best_step,
        noisy_pairs=course.shown / recipe.pretrain.steps,
        seconds=course.seconds,
    )


def cell_objective(encoder: Backbone, data: Dataset, cell: Cell, recipe: Recipe) -> Objective:
    """The cell's objective around the encoder, with weights and queue drawn from the cell's seed."""
    with seeded(cell.seed, "projection head"):
        if cell.objective == "supervised":
            return Supervised(encoder, data, recipe)
        return make_objective(cell.objective, encoder, recipe, stream(cell.seed, "queue"))


def batches(
    objective: Objective, data: Dataset, cell: Cell, recipe: Recipe
) -> Callable[[int], tuple[Views, Bool[Tensor, " n"]]]:
    """How the views of a step are made, and which of its pairs are noisy."""
    if objective.sees == "downstream":
        none = torch.zeros(recipe.pretrain.batch, dtype=torch.bool)
        return lambda step: (downstream_views(data, cell, recipe, step), none)
    pool, labelled = training_pool(data, cell), objective.sees == "labelled pairs"
    return lambda step: training_views(pool, cell, recipe, step, labelled=labelled)


def validate(objective: Objective, data: Dataset, cell: Cell, recipe: Recipe, state: CellState) -> tuple[float, float]:
    """Noise-free validation loss in eval mode, and its plateau.

    Raises:
        NonFiniteLossError: the validation loss is no number.
    """
    objective.eval()
    views: Iterator[Views]
    if objective.sees == "downstream":
        views = downstream_validation(data, recipe)
    else:
        views = validation_views(data, cell, recipe, labelled=objective.sees == "labelled pairs")
    loss, plateau = objective.validate(state.with_heartbeat(views), stream(cell.seed, "validation"))
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

    Computed once for many steps: asking after each would make a GPU wait.

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
