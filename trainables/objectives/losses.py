"""The three contrastive losses of the paper, one function each. The caller normalises features to unit length.

Throughout, e(p, q) = exp(f_p . f_q / T) with temperature T.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor
from torch.nn import functional

from datasets.types import IGNORED
from trainables.recipe import Denominator


@dataclass(frozen=True, eq=False)
class Positions:
    """The positions of the feature maps of n images. Positions with the class `IGNORED` take no part in a loss."""

    features: Float[Tensor, "n p d"]
    classes: Integer[Tensor, "n p"]

    @property
    def used(self) -> Bool[Tensor, "n p"]:
        """Which positions have a class."""
        return self.classes != IGNORED


def info_nce(
    query: Float[Tensor, "n d"],
    key: Float[Tensor, "n d"],
    queue: Float[Tensor, "k d"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """InfoNCE with a queue of negatives (paper, Eq. 1; He et al. 2020, https://arxiv.org/abs/1911.05722, Eq. 1).

    Mean over n of -log( e(q, k+) / (e(q, k+) + sum_j e(q, k_j)) ).

    Args:
        query: features of one image of each pair, (n, d).
        key: features of the other image, (n, d).
        queue: features of other images, the negatives, (k, d).
        temperature: T > 0.
    """
    positive = (query * key).sum(dim=1, keepdim=True) / temperature
    negative = query @ queue.T / temperature
    return (torch.cat([positive, negative], dim=1).logsumexp(dim=1) - positive[:, 0]).mean()


def within_image(
    image: Positions, partner: Positions, *, temperature: float, denominator: Denominator = "printed"
) -> Float[Tensor, ""]:
    """Within-image loss (paper, Eq. 2; Zhao et al. 2021, https://arxiv.org/abs/2012.06985, Eq. 1).

    Mean over the n images I, with partner I^, of
    -(1/N_I) sum_p (1/N^_{y_p}) sum_{q in I^, y_q = y_p} log( e(p, q) / D_{p,q} ):
    the log is inside the mean over positives. An anchor p whose class does not occur in I^ is skipped: it adds 0.

    - printed: D_p = sum_{k in I^} e(p, k), and N_I is the number of positions of I, skipped ones included.
    - public: D_{p,q} = e(p, q) + sum_{k in I^, y_k != y_p} e(p, k), and N_I is the number of anchors that are not
      skipped. An anchor without negatives adds 0.

    Args:
        image: I.
        partner: I^.
        temperature: T > 0.
        denominator: printed, or public: as in
            https://github.com/google-research/google-research/tree/master/supervised_pixel_contrastive_loss.
    """
    return _contrast(image, (partner,), temperature, denominator)


def cross_image(
    image: Positions,
    partner: Positions,
    other: Positions,
    *,
    temperature: float,
    denominator: Denominator = "printed",
) -> Float[Tensor, ""]:
    """Cross-image loss (paper, Eq. 3; Zhao et al. 2021, https://arxiv.org/abs/2012.06985, Eq. 2).

    It adds to `within_image` the positives of another image J. The mean over the n images I of
    -(1/N_I) sum_p 1/(N^_{y_p} + N^J_{y_p}) sum_{q in I^ or J, y_q = y_p} log( e(p, q) / D_{p,q} ).
    If a class is missing only in J, its within-image term remains; if it is missing in I^, its anchors are skipped.

    - printed: D_p = sum_{k in I^} e(p, k) + sum_{k in J, y_k = y_p} e(p, k).
    - public: D_{p,q} as in `within_image`: J adds no negatives.

    Args:
        image: I.
        partner: its partner I^.
        other: J, an image that is not I's partner.
        temperature: T > 0.
        denominator: printed or public, as in `within_image`.
    """
    return _contrast(image, (partner, other), temperature, denominator)


def _contrast(
    image: Positions, keys: tuple[Positions, ...], temperature: float, denominator: Denominator
) -> Float[Tensor, ""]:
    """The loss of the positions of I against those of I^, and of J if there is one."""
    logits = [image.features @ one.features.transpose(1, 2) / temperature for one in keys]
    same = [(image.classes[:, :, None] == one.classes[:, None, :]) & image.used[:, :, None] for one in keys]
    found = [one.sum(dim=2) for one in same]
    count = torch.where(found[0] > 0, sum(found), 0)
    used = keys[0].used[:, None, :]
    # -inf and not a large negative number, so that a class missing in J leaves exactly the within-image denominator.
    if denominator == "printed":
        chosen = [used, *same[1:]]
        parts = [only(one, which) for one, which in zip(logits, chosen, strict=True)]
        total = sum(total_of(one, which) for one, which in zip(logits, same, strict=True))
        loss = torch.cat(parts, dim=2).logsumexp(dim=2) - total / count.clamp(min=1)
        anchors = image.used
    else:
        # -log(e / (e + negatives)) = -log sigmoid(logit - log negatives)
        negatives = only(logits[0], used & ~same[0]).logsumexp(dim=2, keepdim=True)
        pairs = [-functional.logsigmoid(one - negatives) for one in logits]
        loss = sum(total_of(one, which) for one, which in zip(pairs, same, strict=True)) / count.clamp(min=1)
        anchors = count > 0
    return anchor_mean(loss, count, anchors)


def anchor_mean(
    loss: Float[Tensor, "n p"], count: Integer[Tensor, "n p"], anchors: Bool[Tensor, "n p"]
) -> Float[Tensor, ""]:
    """The mean over the anchors of each image, where those without positives add 0; then the mean over images."""
    # Written as a mean over all positions.
    weight = anchors.shape[1] / anchors.sum(dim=1, keepdim=True).clamp(min=1).to(loss)
    return torch.where(count > 0, loss * weight, 0).mean()


def only(logits: Float[Tensor, "n p q"], chosen: Bool[Tensor, "n ones_or_p q"]) -> Float[Tensor, "n p q"]:
    """The chosen logits; the others add nothing to a sum of exponentials."""
    return logits.masked_fill(~chosen, -torch.inf)


def total_of(values: Float[Tensor, "n p q"], chosen: Bool[Tensor, "n p q"]) -> Float[Tensor, "n p"]:
    """The sum of the chosen values of each anchor."""
    return torch.where(chosen, values, 0).sum(dim=2)
