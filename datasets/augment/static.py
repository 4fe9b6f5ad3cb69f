"""Augmentation with the same operations and shapes in every step, so that a GPU can compile or record it.

Every change is made to all images, and kept where it was drawn. `transforms.augmented` changes only the images that
were drawn: less work, unless a compiler joins the changes to a few passes. Both give the same bits for images whose
channels lie in memory one after the other. Images with the channels of a pixel side by side, as VTS renders them, keep
that order here and not there, so colours may differ by rounding.
"""

from typing import Any

import torch
from torch import Tensor

from datasets.augment import color, transforms
from datasets.augment.config import Augment
from datasets.augment.transforms import Parameters


def plan(recipe: Augment, parameters: Parameters) -> list[Tensor | None]:
    """What `augmented` needs: the maps; then for each change the images that it changes, and the factors of all images.

    What the recipe never changes is None. That depends on the recipe alone, not on what was drawn.
    """
    changes = ("brightness", "contrast", "saturation", "hue")
    return [
        parameters.affine,
        transforms.is_still(parameters.affine),
        parameters.jitter if recipe.jitter else None,
        *(getattr(parameters, name) if getattr(recipe, name) else None for name in changes),
        parameters.grey if recipe.grey else None,
        parameters.blur if recipe.blur else None,
        parameters.sigma,
    ]


def augmented(images: Tensor, labels: Tensor | None, radius: int, *numbers: Any) -> tuple[Tensor, Tensor | None]:
    """Change all images by a `plan` on their device, and keep what was drawn."""
    affine, still, jittered, *factors, greyed, blurred, sigma = numbers
    warped, labels = transforms.sample(images, labels, affine)
    images = _where(still, images, warped)
    if jittered is not None:
        images = _where(jittered, color.jitter(images, *factors), images)
    if greyed is not None:
        images = _where(greyed, color.luma(images), images)
    if blurred is not None:
        images = _where(blurred, color.blur(images, sigma, radius=radius), images)
    return images, labels


def _where(chosen: Tensor, changed: Tensor, images: Tensor) -> Tensor:
    return torch.where(chosen[:, None, None, None], changed, images)
