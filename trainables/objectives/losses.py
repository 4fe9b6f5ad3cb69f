"""The three contrastive losses of the paper, one function each. The caller normalises features to unit length.

Throughout, e(p, q) = exp(f_p . f_q / T) with temperature T.
"""

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor


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
    features: Float[Tensor, "n p d"],
    partner: Float[Tensor, "n p d"],
    labels: Integer[Tensor, "n p"],
    partner_labels: Integer[Tensor, "n p"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """Within-image loss (paper, Eq. 2; Zhao et al. 2021, https://arxiv.org/abs/2012.06985, Eq. 1).

    Mean over the n images I, with partner I^, of
    -(1/N_I) sum_p (1/N^_{y_p}) sum_{q in I^, y_q = y_p} log( e(p, q) / sum_{k in I^} e(p, k) ):
    the log is inside the mean over positives, and the denominator runs over all positions of I^. An anchor whose class
    does not occur in I^ is skipped: it adds 0, and N_I remains the number of positions.

    Args:
        features: (n, p, d) features of I, p positions.
        partner: (n, p, d) features of I^.
        labels: (n, p) classes in I.
        partner_labels: (n, p) classes in I^.
        temperature: T > 0.
    """
    logits = features @ partner.transpose(1, 2) / temperature
    same = labels[:, :, None] == partner_labels[:, None, :]
    return _anchor_mean(logits.logsumexp(dim=2), _total(logits, same), same.sum(dim=2))


def cross_image(
    features: Float[Tensor, "n p d"],
    partner: Float[Tensor, "n p d"],
    other: Float[Tensor, "n p d"],
    labels: Integer[Tensor, "n p"],
    partner_labels: Integer[Tensor, "n p"],
    other_labels: Integer[Tensor, "n p"],
    *,
    temperature: float,
) -> Float[Tensor, ""]:
    """Cross-image loss (paper, Eq. 3; Zhao et al. 2021, https://arxiv.org/abs/2012.06985, Eq. 2).

    With D_p = sum_{k in I^} e(p, k) + sum_{k in J, y_k = y_p} e(p, k), the mean over the n images I of
    -(1/N_I) sum_p 1/(N^_{y_p} + N^J_{y_p}) sum_{q in I^ or J, y_q = y_p} log( e(p, q) / D_p ).
    J adds only positives. An anchor whose class does not occur in I^ is skipped. If its class is missing only in J, its
    within-image term remains.

    Args:
        features: (n, p, d) features of I, p positions.
        partner: (n, p, d) features of its partner I^.
        other: (n, p, d) features of J, an image that is not I's partner.
        labels: (n, p) classes in I.
        partner_labels: (n, p) classes in I^.
        other_labels: (n, p) classes in J.
        temperature: T > 0.
    """
    within = features @ partner.transpose(1, 2) / temperature
    across = features @ other.transpose(1, 2) / temperature
    same = labels[:, :, None] == partner_labels[:, None, :]
    same_other = labels[:, :, None] == other_labels[:, None, :]
    # -inf and not a large negative number, so that a class missing in J leaves exactly the within-image denominator.
    # The within-image part is always finite, and so are the sum and its gradient.
    positives = across.masked_fill(~same_other, -torch.inf)
    denominator = torch.cat([within, positives], dim=2).logsumexp(dim=2)
    found = same.sum(dim=2)
    count = torch.where(found > 0, found + same_other.sum(dim=2), 0)
    return _anchor_mean(denominator, _total(within, same) + _total(across, same_other), count)


def _total(logits: Float[Tensor, "n p q"], chosen: Bool[Tensor, "n p q"]) -> Float[Tensor, "n p"]:
    """The sum of the chosen logits of each anchor."""
    return torch.where(chosen, logits, 0).sum(dim=2)


def _anchor_mean(
    denominator: Float[Tensor, "n p"], total: Float[Tensor, "n p"], count: Integer[Tensor, "n p"]
) -> Float[Tensor, ""]:
    """Mean over images and anchors of log D_p minus the mean positive logit; anchors with no positive add nothing."""
    loss = denominator - total / count.clamp(min=1)
    return torch.where(count > 0, loss, 0).mean()
