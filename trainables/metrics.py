"""Metrics from one confusion matrix over all pixels (or images) of a split."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from datasets.types import IGNORED


def confusion(
    truth: Integer[Tensor, "*shape"], predicted: Integer[Tensor, "*shape"], classes: int
) -> Integer[Tensor, "classes classes"]:
    """Number of pixels (or images) by true (row) and predicted (column) class, without ignored ones."""
    known = truth != IGNORED
    pair = truth[known].long() * classes + predicted[known].long()
    return torch.bincount(pair, minlength=classes * classes).view(classes, classes)


def metrics(
    matrix: Float[Tensor, "c c"] | Integer[Tensor, "c c"], classes: Sequence[str], prefix: str
) -> dict[str, float]:
    """Macro F1, F1 of each class, mIoU and pixel accuracy, all in [0, 1].

    Means are over the classes that occur in the truth. Any other class has F1 and IoU 0 whatever is predicted, so it
    would shrink every score, and every difference between two scores, by the same factor. It has no score here. Pixels
    that are wrongly predicted to be of such a class are missing from the score of their true class.

    Args:
        matrix: from `confusion`, summed over all images, (c, c).
        classes: names of the c classes.
        prefix: of each name, such as `test_` in `test_f1_macro`.
    """
    matrix = matrix.double()
    hit, true = matrix.diagonal(), matrix.sum(dim=1)
    either = matrix.sum(dim=0) + true
    occurs = true > 0
    f1 = 2 * hit / either.clamp(min=1)
    iou = hit / (either - hit).clamp(min=1)
    scored = zip(classes, f1.tolist(), occurs.tolist(), strict=True)
    return {
        f"{prefix}f1_macro": float(f1[occurs].mean()),
        **{f"{prefix}f1_{name}": value for name, value, there in scored if there},
        f"{prefix}miou": float(iou[occurs].mean()),
        f"{prefix}accuracy": float(hit.sum() / matrix.sum()),
    }


def xview2(matrix: Integer[Tensor, "5 5"]) -> float:
    """Score of the xView2 challenge: 0.3 x localisation F1 + 0.7 x harmonic mean of the four damage F1s.

    Localisation separates buildings (classes 1 to 4) from the background. Damage counts on true building pixels only.
    The harmonic mean adds 1e-6 to each F1, as in https://github.com/DIUx-xView/xView2_scoring (Gupta et al. 2019).

    Args:
        matrix: from `confusion`: background, no damage, minor, major, destroyed.
    """
    counts = matrix.double()
    localisation = _f1(counts[1:, 1:].sum(), counts[0, 1:].sum(), counts[1:, 0].sum())
    building = counts[1:]  # a building predicted as background is a miss of its class
    hit = building[:, 1:].diagonal()
    damage = _f1(hit, building[:, 1:].sum(dim=0) - hit, building.sum(dim=1) - hit)
    harmonic = len(damage) / (1 / (damage + 1e-6)).sum()
    return float(0.3 * localisation + 0.7 * harmonic)


def _f1(hit: Tensor, false: Tensor, missed: Tensor) -> Tensor:
    return 2 * hit / (2 * hit + false + missed).clamp(min=1)


EXTRA: dict[str, Callable[[Tensor], float]] = {"xview2": xview2}
"""Additional scores of some data sets, by the name of their column after `test_`."""
