"""Pretraining. The encoder with the best noise-free validation loss is kept.

It resumes exactly after any step: its checkpoints hold the weights, their average, momentum encoder, queue, optimiser,
schedule and best weights, and random streams derive from the step.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from datasets.dataset import Dataset
from datasets.seeding import seeded, stream
from trainables.batches import Batches
from trainables.cell import Cell
from trainables.cell_state import CellState
from trainables.models.encoders import Backbone
from trainables.objectives.base import Objective, Validation, make_objective
from trainables.objectives.supervised import Supervised
from trainables.recipe import Recipe
from trainables.recorded import stepper
from trainables.training import Training
from trainables.views import Views, downstream_validation, validation_views

Watch = Callable[[Backbone], dict[str, float]]
"""Scores of an encoder in eval mode, for the learning curves."""


class NonFiniteLossError(RuntimeError):
    """The loss became infinite or NaN. The message names the loss, step and cell."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """The results of pretraining, which trains the encoder in place."""

    train_loss: float
    """Mean training loss since the last but one evaluation, in the unit of the loss."""
    val_loss: float
    """Best noise-free validation loss, in the same unit."""
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


def pretrain(
    encoder: Backbone, data: Dataset, cell: Cell, recipe: Recipe, state: CellState, *, watch: Watch | None = None
) -> Pretrained:
    """Train `encoder` in place with the cell's objective. It ends with its best weights.

    Args:
        encoder: with the initial weights of the cell.
        data: pairs and downstream images.
        cell: the coordinates.
        recipe: everything that is held fixed.
        state: receives learning curves and checkpoints, and holds the checkpoint to resume from.
        watch: scores the encoder every `probe.every` steps, and after the last. It changes nothing.

    Raises:
        NonFiniteLossError: training diverged.
        StoppedError: the cell must stop.
    """
    if done := state.pop_stage("pretrained"):
        encoder.load_state_dict(done["encoder"])
        state.keep_result("pretrained", {**done, "encoder": encoder.state_dict()})
        return Pretrained(**done["pretrained"])
    objective = cell_objective(encoder, data, cell, recipe)
    pretrained = train(objective, data, cell, recipe, state, watch)
    state.finish_stage("pretrained", {"encoder": encoder.state_dict(), "pretrained": asdict(pretrained)})
    return pretrained


def train(
    objective: Objective, data: Dataset, cell: Cell, recipe: Recipe, state: CellState, watch: Watch | None = None
) -> Pretrained:
    """Run all steps, or the remaining ones. The encoder of the objective ends with its best weights."""
    training, course = Training(objective, recipe.pretrain, data.device), Course()
    evaluations = evaluation_steps(recipe.pretrain.steps, recipe.pretrain.evaluations)
    if kept := state.pop_stage("pretrain"):
        training.load_state_dict(kept["training"])
        course = Course(**kept["course"])
        course.losses = [loss.to(data.device) for loss in course.losses]
    clock = time.perf_counter()

    def stage_state() -> dict[str, Any]:
        seconds = course.seconds + time.perf_counter() - clock
        return {"training": training.state_dict(), "course": {**vars(course), "seconds": seconds}}

    with closing(Batches(objective, data, cell, recipe)) as load:
        advance = stepper(training, load)
        for step in range(course.step + 1, recipe.pretrain.steps + 1):
            batch = load(step - 1)
            course.losses.append(advance(batch, stream(cell.seed, "other image", step)))
            course.shown += float(batch.noisy.float().mean())
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
            if watch and recipe.probe.every and (step % recipe.probe.every == 0 or step == recipe.pretrain.steps):
                course.seconds += time.perf_counter() - clock
                with training.averaged() as averaged:
                    averaged.eval()
                    state.report("pretrain", step, watch(averaged.encoder))
                    averaged.train()
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
        views = validation_views(data, cell, recipe, labelled=objective.labelled)
    found = Validation(*objective.validate(state.with_heartbeat(views), stream(cell.seed, "validation")))
    objective.train()
    if not math.isfinite(found.loss):
        raise NonFiniteLossError(f"the validation loss became {found.loss} in cell {cell}")
    return found


def evaluation_steps(steps: int, evaluations: int) -> frozenset[int]:
    """The steps that are followed by an evaluation: evenly spaced, up to the last step. Short trainings have fewer."""
    return frozenset(math.ceil(steps * k / evaluations) for k in range(1, evaluations + 1))


def looks(steps: int, every: int) -> int:
    """How often an encoder is looked at: every so many steps, and after the last; 0: never."""
    return math.ceil(steps / every) if every else 0


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
