"""The probe: a head on the frozen encoder, trained on the same images in every cell.

Its checkpoints hold the head, optimiser and schedule. Cached features are recomputed, with bitwise equal results.
With `probe.finetune`, a copy of the encoder is trained along, and checkpoints hold it, too.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from datasets.dataset import Dataset
from datasets.seeding import batch_indices, seeded, stream
from datasets.types import IGNORED, TURNS, Task
from trainables.cell import Cell
from trainables.cell_state import CellState
from trainables.metrics import EXTRA, confusion, metrics
from trainables.models.heads import NearestPositions, downstream_head, map_labels, scores, task_loss
from trainables.models.siamese import AnyEncoder
from trainables.pretrain import evaluation_steps, mean_finite
from trainables.recipe import Probe, Recipe
from trainables.views import class_weights, dihedral, labelled_images, parts, turned

Wrap = Callable[[Iterable[Any]], Iterator[Any]]
"""Returns the same batches; may raise `StoppedError` between two of them."""
Batch = Callable[[Int[Tensor, " n"], torch.Generator], tuple[Tensor, Tensor]]
"""(image indices, generator) -> feature maps and labels of a training batch."""
Share = Callable[[int, Callable[[], "Cached"]], "Cached"]
"""(views, function that encodes them) -> features of at least so many views, of this cell or of an earlier one."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Probed:
    """A trained head and its scores."""

    encoder: AnyEncoder
    """The frozen encoder, or its fine-tuned copy."""
    head: nn.Module
    val: dict[str, float]
    test: dict[str, float]


def encoded_views(settings: Probe) -> int:
    """How many views of each training image are encoded first: for knn the plain one alone; 0: none."""
    return min(settings.cached_views, 1) if settings.head == "knn" else settings.cached_views


@dataclass(frozen=True, kw_only=True, eq=False)
class Features:
    """The features of a frozen encoder."""

    encoder: AnyEncoder
    data: Dataset
    recipe: Recipe
    wrap: Wrap = iter
    share: Share | None = None
    """None: no other cell probes this encoder."""

    @cached_property
    def kept(self) -> "Cached":
        """The features of all training and validation images, computed once; for knn, of the plain view alone."""
        views = encoded_views(self.recipe.probe)
        return self.share(views, lambda: self._encode(views)) if self.share else self._encode(views)

    def _encode(self, views: int) -> "Cached":
        train = cached_features(self, views)
        return Cached(train=train, val=list(self.wrap(encoded(self.encoder, self.data, "val", self.recipe))))


@dataclass(frozen=True, kw_only=True, eq=False)
class Cached:
    """Feature maps with their labels."""

    train: tuple[Float[Tensor, "views c h w"], UInt8[Tensor, "views ..."]]
    """Of the fixed views of all training images: see `cached_features`."""
    val: list[tuple[Tensor, Tensor]]
    """Of the validation images, in batches."""


def probe(
    encoder: AnyEncoder,
    data: Dataset,
    cell: Cell,
    recipe: Recipe,
    state: CellState,
    *,
    share: Share | None = None,
) -> Probed:
    """Train a head on the frozen encoder. Score it on the validation images and, once, on the test images.

    The encoder stays in eval mode, so neither its weights nor its batch-norm statistics change. With `finetune`, that
    holds for `encoder`, too: a copy of it is trained.

    Args:
        encoder: the pretrained encoder, of single images or of pairs, as the data have them.
        data: downstream images, or pairs of them.
        cell: the coordinates.
        recipe: everything that is held fixed.
        state: receives learning curves and checkpoints, and holds the checkpoint to resume from.
        share: shares features with other cells that probe the same encoder.

    Raises:
        NonFiniteLossError: training diverged.
        StoppedError: the cell must stop.
    """
    encoder.eval().requires_grad_(False)
    settings, task = recipe.probe, recipe.data.task
    features = Features(encoder=encoder, data=data, recipe=recipe, wrap=state.with_heartbeat, share=share)
    if settings.head == "knn":
        head, val = nearest_positions(features, cell)
    else:
        if settings.finetune:
            encoder = copy.deepcopy(encoder).requires_grad_(True)
        with seeded(cell.seed, "segmentation head"):
            head = downstream_head(task, encoder.channels, len(data.classes), settings.head).to(data.device)
        val = train_head(head, encoder, features, cell, state)
    batches = state.with_heartbeat(encoded(encoder.eval(), data, settings.split, recipe))
    test = evaluate(head, batches, data.classes, "test", recipe.extra_scores)
    return Probed(encoder=encoder, head=head, val=val, test=test)


def nearest_positions(features: Features, cell: Cell) -> tuple[nn.Module, dict[str, float]]:
    """The head `knn`, and its validation scores."""
    encoder, data, recipe, wrap = features.encoder, features.data, features.recipe, features.wrap
    settings, labelled = recipe.probe, labelled_images(data, recipe.probe.labels, cell.seed)
    generator = stream(cell.seed, "positions")
    found: Sequence[Tensor] = ()
    for part in wrap(labelled[index] for index in parts(len(labelled), settings.batch)):
        if settings.cached_views:
            maps, labels = (rows[part.to(data.device)] for rows in features.kept.train)  # view 0 comes first
        else:
            images, labels = data.downstream("train", part)
            maps = encode(encoder, images, recipe.data.task)
        positions = maps.movedim(1, -1).flatten(0, -2)
        classes = map_labels(labels, *maps.shape[2:]).flatten() if labels.ndim > 1 else labels.long()
        order = torch.rand(len(classes), generator=generator, dtype=torch.float64).to(data.device)
        more = [rows[classes != IGNORED] for rows in (positions, classes, order)]
        found = [torch.cat(rows) for rows in zip(found, more, strict=True)] if found else more
        if len(order := found[2]) > settings.positions:  # those of all images would need too much memory
            first = order.argsort(stable=True)[: settings.positions].sort().values
            found = [rows[first] for rows in found]
    positions, classes, _ = found
    whole = recipe.data.task == "classification"
    head = NearestPositions(positions, classes, len(data.classes), settings.neighbours, whole=whole)
    split = features.kept.val if settings.cached_views else wrap(encoded(encoder, data, "val", recipe))
    return head, evaluate(head, split, data.classes, "val")


def neighbour_score(encoder: AnyEncoder, data: Dataset, cell: Cell, recipe: Recipe, state: CellState) -> float:
    """Validation F1 of the head `knn` on an encoder in eval mode, which stays as it is."""
    fresh = replace(recipe, probe=replace(recipe.probe, cached_views=0))
    features = Features(encoder=encoder, data=data, recipe=fresh, wrap=state.with_heartbeat)
    _, val = nearest_positions(features, cell)
    return val["val_f1_macro"]


def train_head(
    head: nn.Module, encoder: AnyEncoder, features: Features, cell: Cell, state: CellState
) -> dict[str, float]:
    """Run all steps of the head, or the remaining ones; return the last validation scores.

    `encoder` is trained along with `finetune`; otherwise it is that of `features`.
    """
    data, recipe = features.data, features.recipe
    settings = recipe.probe
    groups: list[dict[str, Any]] = [{"params": list(head.parameters())}]
    if settings.finetune:
        groups.append({"params": list(encoder.parameters()), "lr": settings.encoder_lr})
    optimiser = torch.optim.AdamW(groups, settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    trained: dict[str, Any] = {"head": head, "optimiser": optimiser, "schedule": schedule}
    if settings.finetune:
        trained["encoder"] = encoder
    done, losses, val = 0, list[Tensor](), dict[str, float]()
    if kept := state.pop_stage("probed") or state.pop_stage("probe"):
        done, losses, val = kept["step"], [loss.to(data.device) for loss in kept["losses"]], kept["val"]
        for name, part in trained.items():
            part.load_state_dict(kept[name])
    if done == settings.steps:
        return val

    def stage_state() -> dict[str, Any]:
        return {"step": done, "losses": losses, "val": val, **{name: one.state_dict() for name, one in trained.items()}}

    frozen = not settings.finetune
    load = training_batches(features) if frozen else tuning_batches(encoder, data, recipe)
    labelled = labelled_images(data, settings.labels, cell.seed)
    batch = min(settings.batch, len(labelled))
    weights = class_weights(data, labelled if settings.labels < 1 else None) if settings.class_weights else None
    evaluations = evaluation_steps(settings.steps, settings.evaluations)
    known = features.kept.val if settings.cached_views and frozen else None
    for step in range(done + 1, settings.steps + 1):
        index = batch_indices(cell.seed, "probe order", step - 1, count=len(labelled), batch=batch)
        if not frozen:
            encoder.train()
        maps, labels = load(labelled[index], stream(cell.seed, "probe views", step))
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
            split = known or state.with_heartbeat(encoded(encoder.eval(), data, "val", recipe))
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


def encoded(encoder: AnyEncoder, data: Dataset, split: str, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor]]:
    """Feature maps and labels of all downstream images of a split, in batches."""
    for index in parts(data.count(split), recipe.probe.batch):
        images, labels = data.downstream(split, index)
        yield encode(encoder, images, recipe.data.task), labels


def training_batches(of: Features) -> Batch:
    """A function that makes training batches, from cached features or by encoding a new view of each image."""
    data, views = of.data, of.recipe.probe.cached_views
    if views == 0:
        fresh = tuning_batches(of.encoder, data, of.recipe)
        return torch.no_grad()(fresh)
    features, labels = of.kept.train

    def cached(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        row = torch.randint(views, (len(index),), generator=generator) * data.count("train") + index
        row = row.to(data.device, non_blocking=True)
        return features[row], labels[row]

    return cached


def tuning_batches(encoder: AnyEncoder, data: Dataset, recipe: Recipe) -> Batch:
    """A function that makes training batches by encoding a new view of each image, with gradients of the encoder."""
    task = recipe.data.task

    def fresh(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        images, labels = data.downstream("train", index)
        which = torch.randint(TURNS[task], (len(index),), generator=generator)
        which = which.to(data.device, non_blocking=True)
        return maps_of(encoder, dihedral(images, which), task), dihedral(labels, which)

    return fresh


def cached_features(of: Features, views: int) -> tuple[Float[Tensor, "views c h w"], UInt8[Tensor, "views ..."]]:
    """Feature maps and labels of fixed views of all training images, view by view; view 0 is the image."""
    maps, targets = [], []
    for index in of.wrap(parts(of.data.count("train"), of.recipe.probe.batch)):
        images, labels = of.data.downstream("train", index)
        task = of.recipe.data.task
        maps.append(torch.stack([encode(of.encoder, turned(images, view), task) for view in range(views)]))
        targets.append(torch.stack([turned(labels, view) for view in range(views)]))
    return torch.cat(maps, dim=1).flatten(0, 1), torch.cat(targets, dim=1).flatten(0, 1)


@torch.no_grad()
def encode(encoder: AnyEncoder, images: Float[Tensor, "n *two b H W"], task: Task) -> Float[Tensor, "n c h w"]:
    """Feature maps of the frozen encoder, without gradient; for classification only their means.

    The classification head takes the mean of a map anyway, and the maps of all images would need too much memory.
    """
    return maps_of(encoder, images, task)


def maps_of(encoder: AnyEncoder, images: Float[Tensor, "n *two b H W"], task: Task) -> Float[Tensor, "n c h w"]:
    """As `encode`, with gradients."""
    features = encoder(images)
    return features if task == "segmentation" else features.mean(dim=(2, 3), keepdim=True)
