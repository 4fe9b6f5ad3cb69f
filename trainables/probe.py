"""The probe: a head on the frozen encoder, trained on the same images in every cell.

Its checkpoints hold the head, optimiser and schedule. Cached features are recomputed, with bitwise equal results.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from datasets.dataset import Dataset
from datasets.seeding import batch_indices, seeded, stream
from datasets.types import TURNS, Task
from trainables.cell import Cell
from trainables.cell_state import CellState
from trainables.metrics import EXTRA, confusion, metrics
from trainables.models.encoders import Backbone
from trainables.models.heads import downstream_head, scores, task_loss
from trainables.pretrain import evaluation_steps, mean_finite
from trainables.recipe import Recipe
from trainables.views import class_weights, dihedral, parts, turned

Wrap = Callable[[Iterable[Any]], Iterator[Any]]
"""Returns the same batches; may raise `StoppedError` between two of them."""
Batch = Callable[[Int[Tensor, " n"], torch.Generator], tuple[Tensor, Tensor]]
"""(image indices, generator) -> feature maps and labels of a training batch."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Probed:
    """A trained head and its scores."""

    head: nn.Module
    val: dict[str, float]
    test: dict[str, float]


def probe(encoder: Backbone, data: Dataset, cell: Cell, recipe: Recipe, state: CellState) -> Probed:
    """Train a head on the frozen encoder. Score it on the validation images and, once, on the test images.

    The encoder stays in eval mode, so neither its weights nor its batch-norm statistics change.

    Args:
        encoder: the pretrained encoder.
        data: downstream images.
        cell: the coordinates.
        recipe: everything that is held fixed.
        state: receives learning curves and checkpoints, and holds the checkpoint to resume from.

    Raises:
        NonFiniteLossError: training diverged.
        StoppedError: the cell must stop.
    """
    encoder.eval().requires_grad_(False)
    with seeded(cell.seed, "segmentation head"):
        head = downstream_head(recipe.data.task, encoder.channels, len(data.classes)).to(data.device)
    val = train_head(head, encoder, data, cell, recipe, state)
    batches = state.with_heartbeat(encoded(encoder, data, "test", recipe))
    test = evaluate(head, batches, data.classes, "test", recipe.data.extra_scores)
    return Probed(head=head, val=val, test=test)


def train_head(
    head: nn.Module, encoder: Backbone, data: Dataset, cell: Cell, recipe: Recipe, state: CellState
) -> dict[str, float]:
    """Run all steps of the head, or the remaining ones; return the last validation scores."""
    settings = recipe.probe
    optimiser = torch.optim.AdamW(head.parameters(), settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    trained: dict[str, Any] = {"head": head, "optimiser": optimiser, "schedule": schedule}
    done, losses, val = 0, list[Tensor](), dict[str, float]()
    if kept := state.pop_stage("probed") or state.pop_stage("probe"):
        done, losses, val = kept["step"], [loss.to(data.device) for loss in kept["losses"]], kept["val"]
        for name, part in trained.items():
            part.load_state_dict(kept[name])
    if done == settings.steps:
        return val

    def stage_state() -> dict[str, Any]:
        return {"step": done, "losses": losses, "val": val, **{name: one.state_dict() for name, one in trained.items()}}

    load = training_batches(encoder, data, recipe, state.with_heartbeat)
    weights = class_weights(data) if settings.class_weights else None
    evaluations = evaluation_steps(settings.steps, settings.evaluations)
    features = list(state.with_heartbeat(encoded(encoder, data, "val", recipe))) if settings.cached_views else None
    for step in range(done + 1, settings.steps + 1):
        index = batch_indices(cell.seed, "probe order", step - 1, count=data.count("train"), batch=settings.batch)
        maps, labels = load(index, stream(cell.seed, "probe views", step))
        with seeded(cell.seed, "dropout", step):
            predicted = scores(head.train(), maps, labels)
        loss = task_loss(predicted, labels, weights)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.detach())
        done = step
        if step in evaluations:
            split = features or state.with_heartbeat(encoded(encoder, data, "val", recipe))
            val = evaluate(head, split, data.classes, "val")
            probe_loss = mean_finite(losses, step, cell)
            state.report("probe", step, {"probe_loss": probe_loss, "val_f1_macro": val["val_f1_macro"]})
            losses.clear()
        state.after_step("probe", step, stage_state)
    state.finish_stage("probed", stage_state())
    return val


@torch.no_grad()
def evaluate(
    head: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    classes: Sequence[str],
    split: str,
    extra: Sequence[str] = (),
) -> dict[str, float]:
    """Metrics from one confusion matrix over all batches of feature maps and labels, named `<split>_...`.

    `extra` names additional scores of `metrics.EXTRA`.
    """
    head.eval()
    matrix = sum(
        confusion(labels, scores(head, features, labels).argmax(dim=1), len(classes)) for features, labels in batches
    )
    assert isinstance(matrix, Tensor), "there was no batch"
    more = {f"{split}_{name}": EXTRA[name](matrix) for name in extra}
    return {**metrics(matrix, classes, f"{split}_"), **more}


def encoded(encoder: Backbone, data: Dataset, split: str, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor]]:
    """Feature maps and labels of all downstream images of a split, in batches."""
    for index in parts(data.count(split), recipe.probe.batch):
        images, labels = data.downstream(split, index)
        yield encode(encoder, images, recipe.data.task), labels


def training_batches(encoder: Backbone, data: Dataset, recipe: Recipe, wrap: Wrap = iter) -> Batch:
    """A function that makes training batches, from cached features or by encoding a new view of each image."""
    views = recipe.probe.cached_views
    if views == 0:

        def fresh(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            images, labels = data.downstream("train", index)
            which = torch.randint(TURNS[recipe.data.task], (len(index),), generator=generator)
            which = which.to(data.device, non_blocking=True)
            return encode(encoder, dihedral(images, which), recipe.data.task), dihedral(labels, which)

        return fresh

    features, labels = cached_features(encoder, data, recipe, wrap)

    def cached(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        row = torch.randint(views, (len(index),), generator=generator) * data.count("train") + index
        row = row.to(data.device, non_blocking=True)
        return features[row], labels[row]

    return cached


def cached_features(
    encoder: Backbone, data: Dataset, recipe: Recipe, wrap: Wrap = iter
) -> tuple[Float[Tensor, "views c h w"], UInt8[Tensor, "views ..."]]:
    """Feature maps and labels of the fixed views of all training images, view by view; view 0 is the image."""
    maps, targets = [], []
    for index in wrap(parts(data.count("train"), recipe.probe.batch)):
        images, labels = data.downstream("train", index)
        views = range(recipe.probe.cached_views)
        maps.append(torch.stack([encode(encoder, turned(images, view), recipe.data.task) for view in views]))
        targets.append(torch.stack([turned(labels, view) for view in views]))
    return torch.cat(maps, dim=1).flatten(0, 1), torch.cat(targets, dim=1).flatten(0, 1)


@torch.no_grad()
def encode(encoder: Backbone, images: Float[Tensor, "n b H W"], task: Task) -> Float[Tensor, "n c h w"]:
    """Feature maps of the frozen encoder, without gradient; for classification only their means.

    The classification head takes the mean of a map anyway, and the maps of all images would need too much memory.
    """
    features = encoder(images)
    return features if task == "segmentation" else features.mean(dim=(2, 3), keepdim=True)
