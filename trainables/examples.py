"""Example predictions of a cell's probe on some test images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from datasets.dataset import Dataset
from trainables.models.heads import scores
from trainables.probe import Probed, encode
from trainables.recipe import Recipe
from trainables.views import parts

COUNT = 4
"""Number of examples."""
AMONG = 256
"""Examples are chosen among at most this many test images, to avoid reading a large split twice."""
SIDE = 128
"""Largest side of an example, px. Larger images are subsampled."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """A test image with its true and predicted classes, subsampled to at most `SIDE` px."""

    number: int
    """Index of the test image."""
    image: UInt8[np.ndarray, "h w 3"]
    truth: UInt8[np.ndarray, "h w"]
    predicted: UInt8[np.ndarray, "h w"]
    before: UInt8[np.ndarray, "h w 3"] | None = None
    """The first image of a pair, of which `image` is the second; None: the head sees one image."""


TakeExamples = Callable[[Sequence[Example]], None]


@torch.no_grad()
def examples(probed: Probed, data: Dataset, recipe: Recipe) -> list[Example]:
    """Predictions for test images that show most classes; none if the task is classification.

    The choice depends only on the true classes, so all cells of a seed show the same images.
    """
    if recipe.data.task == "classification":
        return []
    split = recipe.probe.split
    index = most_classes(data, recipe.probe.batch, split)
    images, labels = data.downstream(split, index)
    head = probed.head.eval()
    predicted = scores(head, encode(probed.encoder, images, recipe.data.task), labels).argmax(dim=1)
    first, second = images.unbind(1) if images.ndim == 5 else (None, images)
    pictures, before = as_pictures(second), None if first is None else as_pictures(first)
    step = -(-max(labels.shape[1:]) // SIDE)
    thin = slice(None, None, step)
    return [
        Example(
            number=number,
            image=pictures[row, thin, thin],
            truth=labels[row, thin, thin].cpu().numpy(),
            predicted=predicted[row, thin, thin].to(torch.uint8).cpu().numpy(),
            before=None if before is None else before[row, thin, thin],
        )
        for row, number in enumerate(index.tolist())
    ]


def most_classes(data: Dataset, batch: int, split: str = "test") -> Tensor:
    """Indices of the `COUNT` test images that show most classes, in order.

    They are chosen among `AMONG` images that are spread evenly over the split, and are themselves spread evenly over
    those that show as many classes: neighbours are often tiles of one image.

    Args:
        data: the test images.
        batch: images that are read at a time.
        split: `test` or `ood`.
    """
    found = []
    among = _spread(torch.arange(data.count(split)), AMONG)
    for index in parts(len(among), batch):
        labels = data.downstream(split, among[index])[1].flatten(1)
        found.append(torch.stack([(labels == name).any(dim=1) for name in range(len(data.classes))]).sum(dim=0))
    classes = torch.cat(found).cpu()
    least = classes.sort(descending=True).values[:COUNT][-1]
    more = among[classes > least]
    return torch.cat([more, _spread(among[classes == least], COUNT - len(more))]).sort().values


def _spread(index: Tensor, number: int) -> Tensor:
    """At most so many of these indices, at equal distances."""
    return index[torch.linspace(0, len(index) - 1, min(number, len(index)), dtype=torch.float64).round().long()]


def as_pictures(images: Float[Tensor, "n b h w"]) -> UInt8[np.ndarray, "n h w 3"]:
    """Images in [0, 1] as RGB bytes: the first three bands, or the first one repeated."""
    bands = images[:, :3] if images.shape[1] >= 3 else images[:, :1].expand(-1, 3, -1, -1)
    return (255 * bands).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
