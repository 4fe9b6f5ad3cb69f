"""Flips and rotations of downstream images and their labels, and the weights of their classes."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from datasets.dataset import Dataset

_TURNS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda images: images.flip(-1),
    lambda images: images.flip(-2),
    lambda images: images.transpose(-1, -2),
)


def turned(images: Tensor, view: int) -> Tensor:
    """All images (last two axes, square) in one of the 8 flips and rotations by 90 degrees; view 0 is the image.

    Bit 0 flips the columns, bit 1 the rows, bit 2 swaps rows and columns. Classes of whole images, (n,), stay.
    """
    if images.ndim == 1:
        return images
    for bit, turn in enumerate(_TURNS):
        images = turn(images) if view >> bit & 1 else images
    return images


def dihedral(images: Tensor, which: Int[Tensor, " n"]) -> Tensor:
    """Each image in a view of its own, as `turned` numbers them."""
    if images.ndim == 1:
        return images
    shape = (-1,) + (1,) * (images.ndim - 1)
    for bit, turn in enumerate(_TURNS):
        images = torch.where((which >> bit & 1).bool().view(shape), turn(images), images)
    return images


def class_weights(data: Dataset) -> Float[Tensor, " classes"]:
    """Inverse frequency of each class in the downstream training images (paper, V-A).

    A class that they do not show has no weight: it cannot be learnt, and must not rule a validation loss.
    """
    counts = data.class_counts().double()
    return torch.where(counts > 0, counts.sum() / counts, 0).float().to(data.device)
