"""The segmentation probe: an FCN head on the frozen encoder, trained on the same images for every cell."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from datasets.seeding import batch_indices, seeded, stream
from datasets.vts import Vts
from trainables.cell import Cell
from trainables.encoders import channels, feature_map
from trainables.heads import segmentation_head, upsample
from trainables.metrics import confusion, segmentation_metrics
from trainables.pretrain import Report, evaluation_steps, mean_finite
from trainables.recipe import Recipe
from trainables.views import parts

Batch = Callable[[Int[Tensor, " n"], torch.Generator], tuple[Tensor, Tensor]]
"""(image numbers, generator) -> feature maps and labels of a training batch."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Probed:
    """A trained head and its scores."""

    head: nn.Module
    val: dict[str, float]
    test: dict[str, float]


def probe(encoder: nn.Module, data: Vts, cell: Cell, recipe: Recipe, report: Report) -> Probed:
    """Train a head on the frozen encoder; score it on the validation and, once, on the test images.

    The encoder stays in eval mode throughout: neither weights nor batch-norm statistics move.

    Raises:
        NonFiniteLossError: training diverged.
    """
    encoder.eval().requires_grad_(False)
    with seeded(cell.seed, "segmentation head"):
        head = segmentation_head(channels(encoder), len(data.classes)).to(data.device)
    settings = recipe.probe
    load = training_batches(encoder, data, recipe)
    optimiser = torch.optim.AdamW(head.parameters(), settings.lr, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    weights = class_weights(data, recipe) if settings.class_weights else None
    evaluations = evaluation_steps(settings.steps, settings.evaluations)

    losses: list[Tensor] = []
    for step in range(1, settings.steps + 1):
        index = batch_indices(cell.seed, "probe order", step - 1, count=data.count("train"), batch=settings.batch)
        features, labels = load(index, stream(cell.seed, "probe views", step))
        with seeded(cell.seed, "dropout", step):
            logits = upsample(head.train()(features), *labels.shape[1:])
        loss = functional.cross_entropy(logits, labels.long(), weights)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.detach())
        if step in evaluations:
            val = evaluate(encoder, head, data, "val", recipe)
            report(
                "probe",
                step,
                {"probe_loss": mean_finite(losses, step, cell), "val_f1_macro": val["val_f1_macro"]},
            )
            losses.clear()
    return Probed(head=head, val=val, test=evaluate(encoder, head, data, "test", recipe))


@torch.no_grad()
def evaluate(encoder: nn.Module, head: nn.Module, data: Vts, split: str, recipe: Recipe) -> dict[str, float]:
    """Metrics of `split` from one confusion matrix over all its downstream images, named `<split>_...`."""
    head.eval()
    matrix = torch.zeros(len(data.classes), len(data.classes), dtype=torch.long, device=data.device)
    for index in parts(data.count(split), recipe.probe.batch):
        images, labels = data.downstream(split, index)
        logits = upsample(head(feature_map(encoder, images, recipe.precision)), *labels.shape[1:])
        matrix += confusion(labels, logits.argmax(dim=1), len(data.classes))
    return segmentation_metrics(matrix, data.classes, f"{split}_")


def training_batches(encoder: nn.Module, data: Vts, recipe: Recipe) -> Batch:
    """How a training batch is made: from features computed once, or with a fresh view of each image every time."""
    views = recipe.probe.cached_views
    if views == 0:

        def fresh(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            images, labels = data.downstream("train", index)
            which = torch.randint(8, (len(index),), generator=generator).to(data.device)
            return encode(encoder, dihedral(images, which), recipe.precision), dihedral(labels, which)

        return fresh

    features, labels = cached_features(encoder, data, recipe)

    def cached(index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        row = torch.randint(views, (len(index),), generator=generator) * data.count("train") + index
        return features[row.to(data.device)].float(), labels[row.to(data.device)]

    return cached


def cached_features(
    encoder: nn.Module, data: Vts, recipe: Recipe
) -> tuple[Float[Tensor, "views c h w"], UInt8[Tensor, "views H W"]]:
    """Feature maps and labels of the fixed views of all training images, view after view; the first is the image."""
    maps, targets = [], []
    for view in range(recipe.probe.cached_views):
        for index in parts(data.count("train"), recipe.probe.batch):
            images, labels = data.downstream("train", index)
            which = torch.full_like(index, view).to(data.device)
            maps.append(encode(encoder, dihedral(images, which), recipe.precision))
            targets.append(dihedral(labels, which))
    return torch.cat(maps), torch.cat(targets)


@torch.no_grad()
def encode(encoder: nn.Module, images: Float[Tensor, "n 3 H W"], precision: str) -> Float[Tensor, "n c h w"]:
    """Feature maps of the frozen encoder, without gradient."""
    return feature_map(encoder, images, precision)


def dihedral(images: Tensor, which: Int[Tensor, " n"]) -> Tensor:
    """Turn each image (last two axes, square) into one of its 8 flips and rotations by 90 degrees; 0 leaves it.

    Bit 0 flips the columns, bit 1 the rows, bit 2 swaps rows and columns.
    """
    shape = (-1,) + (1,) * (images.ndim - 1)
    for bit, turned in (
        (1, lambda x: x.flip(-1)),
        (2, lambda x: x.flip(-2)),
        (4, lambda x: x.transpose(-1, -2)),
    ):
        images = torch.where((which & bit).bool().view(shape), turned(images), images)
    return images


def class_weights(data: Vts, recipe: Recipe) -> Float[Tensor, " classes"]:
    """Inverse frequency of each class among the pixels of the downstream training images (paper, V-A)."""
    counts = torch.zeros(len(data.classes), dtype=torch.double, device=data.device)
    for index in parts(data.count("train"), recipe.probe.batch):
        labels = data.downstream("train", index)[1]
        counts += torch.bincount(labels.flatten().long(), minlength=len(data.classes))
    return (counts.sum() / counts.clamp(min=1)).float()
