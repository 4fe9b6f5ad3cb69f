"""Segmentation metrics from one global confusion matrix."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor


def confusion(
    truth: Integer[Tensor, "*shape"], predicted: Integer[Tensor, "*shape"], classes: int
) -> Integer[Tensor, "classes classes"]:
    """Pixels counted by true (row) and predicted (column) class, (classes, classes)."""
    pair = truth.long().flatten() * classes + predicted.long().flatten()
    return torch.bincount(pair, minlength=classes * classes).view(classes, classes)


def segmentation_metrics(
    matrix: Float[Tensor, "c c"] | Integer[Tensor, "c c"], classes: Sequence[str], prefix: str
) -> dict[str, float]:
    """Macro F1 over all classes, F1 a class, mIoU and pixel accuracy, all in [0, 1].

    A class that is neither there nor predicted scores 0, as scikit-learn's zero_division=0 has it.

    Args:
        matrix: from `confusion`, summed over all images, (c, c).
        classes: names of the c classes.
        prefix: put before each name, as in `test_f1_macro`.
    """
    matrix = matrix.double()
    hit = matrix.diagonal()
    either = matrix.sum(dim=0) + matrix.sum(dim=1)
    f1 = 2 * hit / either.clamp(min=1)
    iou = hit / (either - hit).clamp(min=1)
    return {
        f"{prefix}f1_macro": float(f1.mean()),
        **{f"{prefix}f1_{name}": float(value) for name, value in zip(classes, f1, strict=True)},
        f"{prefix}miou": float(iou.mean()),
        f"{prefix}accuracy": float(hit.sum() / matrix.sum()),
    }
