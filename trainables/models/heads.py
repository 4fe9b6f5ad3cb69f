"""Projection heads of the losses, which are discarded after pretraining, and heads of the downstream tasks."""

from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.segmentation.fcn import FCNHead

from datasets.types import IGNORED, Task
from trainables.recipe import Head


def image_head(channels: int, features: int) -> nn.Module:
    """MoCo v2's head: linear, ReLU, linear, without batch norm; (n, channels) -> (n, features)."""
    return nn.Sequential(nn.Linear(channels, channels), nn.ReLU(), nn.Linear(channels, features))


def normed_head(*widths: int, last: bool = False) -> nn.Module:
    """Linear layers between these widths, with batch norm and ReLU after all but the last; (n, w) -> (n, w').

    With `last`, batch norm without weights follows the last one, too.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.ReLU()]
    layers.append(nn.Linear(widths[-2], widths[-1], bias=not last))
    return nn.Sequential(*layers, *([nn.BatchNorm1d(widths[-1], affine=False)] if last else []))


def dense_head(channels: int, features: int, *, norm: bool = False) -> nn.Module:
    """Three 1x1 convolutions with ReLU after the first two (Zhao et al. 2021); (n, channels, h, w) -> features.

    With `norm`, batch norm precedes each ReLU, as in their code.
    """
    layers: list[nn.Module] = []
    for width in (channels, features):
        layers.append(nn.Conv2d(width, features, 1, bias=not norm))
        layers += [nn.BatchNorm2d(features), nn.ReLU()] if norm else [nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(features, features, 1))


TEMPERATURE = 0.07
"""Of the votes of `NearestPositions`."""
AT_ONCE = 2**24
"""Similarities that `NearestPositions` computes at a time."""


class NearestPositions(nn.Module):
    """Class scores by a weighted vote of the k nearest positions, by the cosine of their features.

    A neighbour of similarity s has the weight exp(s / .07), as in Wu et al. 2018 (https://arxiv.org/abs/1805.01978),
    section 3.4, and Caron et al. 2021 (https://arxiv.org/abs/2104.14294), who find k = 20 best. They compare whole
    images; here each position of a map is compared, as in Balazevic et al. 2023 (https://arxiv.org/abs/2306.01667).
    """

    bank: Tensor
    votes: Tensor

    def __init__(
        self, features: Float[Tensor, "n c"], labels: Integer[Tensor, " n"], classes: int, k: int, *, whole: bool
    ) -> None:
        """Keep the positions that are searched.

        Args:
            features: of n positions.
            labels: their classes.
            classes: number of classes.
            k: number of neighbours; all positions if there are fewer.
            whole: whether whole images are classified, so that scores have no height and width.
        """
        super().__init__()
        self.register_buffer("bank", functional.normalize(features, dim=1))
        self.register_buffer("votes", functional.one_hot(labels.long(), classes).float())
        self.k, self.whole = min(k, len(features)), whole

    def forward(self, features: Float[Tensor, "n c h w"]) -> Tensor:
        """Shares of the votes, (n, classes, h, w), or (n, classes) for whole images."""
        wanted = functional.normalize(features, dim=1).movedim(1, -1)
        found = []
        for part in wanted.flatten(0, -2).split(max(1, AT_ONCE // len(self.bank))):
            similarity, index = (part @ self.bank.T).topk(self.k, dim=1)
            weights = functional.softmax(similarity / TEMPERATURE, dim=1)[..., None]
            found.append((weights * self.votes[index]).sum(dim=1))
        shares = torch.cat(found).unflatten(0, wanted.shape[:-1]).movedim(-1, 1)
        return shares.flatten(1) if self.whole else shares


def downstream_head(task: Task, channels: int, classes: int, kind: Head = "fcn") -> nn.Module:
    """From feature maps to class scores.

    Segmentation: `fcn` is the FCN head (3x3 convolution to a quarter of the channels, BN, ReLU, dropout 0.1, 1x1
    convolution), `linear` a 1x1 convolution. Classification: a linear layer on the mean over the map.
    """
    if task == "segmentation":
        return FCNHead(channels, classes) if kind == "fcn" else nn.Conv2d(channels, classes, 1)
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def scores(head: nn.Module, features: Float[Tensor, "n d h w"], labels: Integer[Tensor, "n ..."]) -> Tensor:
    """Class scores at the resolution of the labels: (n, classes, H, W) for labels (n, H, W), (n, classes) for (n,)."""
    logits = cast(Tensor, head(features))
    return logits if labels.ndim == 1 else upsample(logits, *labels.shape[1:])


def task_loss(
    logits: Float[Tensor, "n c ..."], labels: Integer[Tensor, "n ..."], weights: Float[Tensor, " c"] | None
) -> Float[Tensor, ""]:
    """Cross-entropy over all pixels (or images) that are not ignored."""
    if logits.is_cuda and logits.ndim > 2 and torch.are_deterministic_algorithms_enabled():
        # CUDA has a deterministic kernel for rows of scores, but not for maps.
        logits, labels = logits.movedim(1, -1).flatten(0, -2), labels.flatten()
    return functional.cross_entropy(logits, labels.long(), weights, ignore_index=IGNORED)


def unit_vectors(projected: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Unit-normalised image features."""
    return functional.normalize(projected, dim=1)


def unit_positions(projected: Float[Tensor, "n d h w"]) -> Float[Tensor, "n p d"]:
    """Unit-normalised features of each position of the map, in row-major order."""
    return functional.normalize(projected, dim=1).flatten(2).transpose(1, 2)


def map_labels(labels: Integer[Tensor, "n H W"], height: int, width: int) -> Integer[Tensor, "n p"]:
    """Labels of each position of a (height, width) map: the label of the pixel nearest to its centre."""
    return functional.interpolate(labels[:, None].float(), (height, width), mode="nearest-exact").flatten(1).long()


def upsample(logits: Float[Tensor, "n c h w"], height: int, width: int) -> Float[Tensor, "n c H W"]:
    """Bilinear up-sampling of class scores to the size of the input, as in torchvision's FCN."""
    return functional.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
