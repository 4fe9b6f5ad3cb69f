"""Pretraining. The encoder with the best noise-free validation loss is kept.

It resumes exactly after any step: its checkpoints hold the weights, their average, momentum encoder, queue, optimiser,
schedule and best weights, and random streams derive from the step.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3
from torch import Tensor, nn

from datasets.dataset import Dataset
from datasets.seeding import seeded, stream
from trainables.cell import Cell
from trainables.cell_state import CellState
from trainables.models.encoders import Backbone
from trainables.objectives.base import Objective, Validation, make_objective
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
    """The loss became infinite or NaN. The message names the loss, step and cell."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """The results of pretraining, which trains the encoder in place."""

    train_loss: float
    """Mean training loss since the last but one evaluation, nats."""
    val_loss: float
    """Best noise-free validation loss, nats."""
    plateau: float
    """The same loss if all features are equal, the value of an encoder that has learned nothing."""
    floor: float = math.nan
    """The least value of the same loss."""
    best_step: int
    noisy_pairs: float
    """Share of noisy pairs among the training pairs."""
    seconds: float
    """Time in training steps, without evaluations."""


@dataclass(kw_only=True)
class Course:
    """The progress of a training: step, running sums, and best weights."""

    step: int = 0
    losses: list[Tensor] = field(default_factory=list)
    """Losses of the steps since the last evaluation."""
    train_loss: float = math.nan
    plateau: float = math.nan
    floor: float = math.nan
    best_loss: float = math.inf
    best_step: int = 0
    best_weights: dict[str, Tensor] | None = None
    shown: float = 0.0
    """Sum of the shares of noisy pairs of all steps."""
    seconds: float = 0.0
    """Time in training steps."""


class Training:
    """An objective with its optimiser and schedule, and the moving average of its networks if the recipe has one."""

    def __init__(self, objective: Objective, settings: Pretrain, device: torch.device) -> None:
        """Move the objective to the device, and optimise all its weights that require a gradient."""
        self.objective = objective.to(device).train()
        self.weights = [weight for weight in objective.parameters() if weight.requires_grad]
        self.optimiser = optimiser(objective, objective.lr, settings, device)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, lambda done: rate(done, settings))
        # Encoder and heads, but no momentum encoder.
        self.trained = {
            name: one for name, one in objective.named_children() if any(w.requires_grad for w in one.parameters())
        }
        networks = nn.ModuleList(self.trained.values())
        self.average = ModelEmaV3(networks, settings.average) if settings.average else None

    def step(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """One optimiser step. The loss stays on the device, because reading it would delay a GPU."""
        loss = self.objective.loss(views, generator)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.objective.clip:
            nn.utils.clip_grad_norm_(self.weights, self.objective.clip)
        self.optimiser.step()
        self.schedule.step()
        if self.average:
            self.average.update(nn.ModuleList(self.trained.values()))
        return loss.detach()

    @contextmanager
    def averaged(self) -> Iterator[Objective]:
        """The objective, inside the context with its averaged networks if there are any."""
        if self.average:
            for name, network in zip(self.trained, self.average.module.children(), strict=True):
                setattr(self.objective, name, network)
        try:
            yield self.objective
        finally:
            for name, network in self.trained.items():
                setattr(self.objective, name, network)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a step changes."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the value of `state_dict`."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    def _parts(self) -> dict[str, Any]:
        parts = {"objective": self.objective, "optimiser": self.optimiser, "schedule": self.schedule}
        return parts | ({"average": self.average} if self.average else {})


def optimiser(model: nn.Module, lr: float, settings: Pretrain, device: torch.device) -> torch.optim.Optimizer:
    """The optimiser of all weights that require a gradient."""
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            [weight for weight in model.parameters() if weight.requires_grad],
            lr,
            momentum=0.9,
            weight_decay=settings.weight_decay,
            fused=True if device.type == "cuda" else None,  # one kernel for all weights; no gain on a CPU
        )
    return create_optimizer_v2(model, settings.optimizer, lr, settings.weight_decay, momentum=0.9)


def pretrain(encoder: Backbone, data: Dataset, cell: Cell, recipe: Recipe, state: CellState) -> Pretrained:
    """Train `encoder` in place with the cell's objective. It ends with its best weights.

    Args:
        encoder: with the initial weights of the cell.
        data: pairs and downstream images.
        cell: the coordinates.
        recipe: everything that is held fixed.
        state: receives learning curves and checkpoints, and holds the checkpoint to resume from.

    Raises:
        NonFiniteLossError: training diverged.
        StoppedError: the cell must stop.
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
    """Run all steps, or the remaining ones. The encoder of the objective ends with its best weights."""
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
            with training.averaged() as averaged:
                val_loss, course.plateau, course.floor = validate(averaged, data, cell, recipe, state)
                best_weights = averaged.encoder.state_dict()
            points = {"train_loss": course.train_loss, "val_loss": val_loss, "plateau": course.plateau}
            state.report("pretrain", step, {name: value for name, value in points.items() if value == value})
            if val_loss < course.best_loss:
                course.best_loss, course.best_step = val_loss, step
                course.best_weights = deepcopy(best_weights)
            clock = time.perf_counter()
        state.after_step("pretrain", step, stage_state)
    assert course.best_weights is not None, "the last step has an evaluation, which refuses a loss that is not finite"
    objective.encoder.load_state_dict(course.best_weights)
    return Pretrained(
        train_loss=course.train_loss,
        val_loss=course.best_loss,
        plateau=course.plateau,
        floor=course.floor,
        best_step=course.best_step,
        noisy_pairs=course.shown / recipe.pretrain.steps,
        seconds=course.seconds,
    )


def cell_objective(encoder: Backbone, data: Dataset, cell: Cell, recipe: Recipe) -> Objective:
    """The cell's objective, with weights and queue drawn from the cell's seed."""
    with seeded(cell.seed, "projection head"):
        if cell.objective == "supervised":
            return Supervised(encoder, data, recipe)
        return make_objective(cell.objective, encoder, recipe, stream(cell.seed, "queue"))


def batches(
    objective: Objective, data: Dataset, cell: Cell, recipe: Recipe
) -> Callable[[int], tuple[Views, Bool[Tensor, " n"]]]:
    """A function from a step to its views, and which of its pairs are noisy."""
    if objective.sees == "downstream":
        none = torch.zeros(recipe.pretrain.batch, dtype=torch.bool)
        return lambda step: (downstream_views(data, cell, recipe, step), none)
    pool, needs = training_pool(data, cell), {"labelled": objective.labelled, "mapped": objective.mapped}
    return lambda step: training_views(pool, cell, recipe, step, **needs)


def validate(objective: Objective, data: Dataset, cell: Cell, recipe: Recipe, state: CellState) -> Validation:
    """Noise-free validation loss in eval mode, its plateau and its floor.

    Raises:
        NonFiniteLossError: the validation loss is not finite.
    """
    objective.eval()
    views: Iterator[Views]
    if objective.sees == "downstream":
        views = downstream_validation(data, recipe)
    else:
        views = validation_views(data, cell, recipe, labelled=objective.labelled, mapped=objective.mapped)
    found = Validation(*objective.validate(state.with_heartbeat(views), stream(cell.seed, "validation")))
    objective.train()
    if not math.isfinite(found.loss):
        raise NonFiniteLossError(f"the validation loss became {found.loss} in cell {cell}")
    return found


def rate(done: int, settings: Pretrain) -> float:
    """Factor of the learning rate after `done` steps: the linear warm-up, times the schedule."""
    rise = min(1.0, (done + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "constant":
        return rise
    return rise * (1 + math.cos(math.pi * done / settings.steps)) / 2


def evaluation_steps(steps: int, evaluations: int) -> frozenset[int]:
    """The steps that are followed by an evaluation: evenly spaced, up to the last step. Short trainings have fewer."""
    return frozenset(math.ceil(steps * k / evaluations) for k in range(1, evaluations + 1))


def mean_finite(losses: list[Tensor], step: int, cell: Cell) -> float:
    """Mean of the losses of the steps up to `step`.

    It reads the losses of many steps at once, because reading each loss would delay a GPU.

    Raises:
        NonFiniteLossError: a loss is not finite; names the first such step.
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
