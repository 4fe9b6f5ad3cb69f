"""SupCon: SimCLR where all images of a class are positives, not only the partner.

Paper: Khosla et al. 2020, https://arxiv.org/abs/2004.11362, Eq. 2 (the logarithm is inside the mean over positives).
Reference code: https://github.com/HobbitLong/SupContrast/blob/master/losses.py.
"""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from trainables.objectives.base import Validation, mean_over
from trainables.objectives.simclr import SimClr
from trainables.views import Views


class SupCon(SimClr):
    """A pair has one class."""

    sees = "labelled images"

    def loss(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """`supcon` of a batch, without random numbers."""
        return supcon(self.embed(views), _classes(views), temperature=self.temperature)

    @torch.no_grad()
    def validate(self, batches: Iterable[Views], generator: torch.Generator) -> Validation:
        """The loss of batches as in training, its plateau and its floor (equal features within a class)."""

        def measure(views: Views) -> Iterator[Tensor]:
            classes, features = _classes(views), self.embed(views)
            same = classes[:, None] == classes
            yield supcon(features, classes, temperature=self.temperature)
            yield supcon(torch.zeros_like(features), classes, temperature=1)
            yield (same.sum(dim=1) - 1).log().mean()  # positives compete with each other

        return Validation(*mean_over(batches, measure))


def _classes(views: Views) -> Integer[Tensor, " both"]:
    assert views.first_labels is not None and views.second_labels is not None, "made without labels"  # noqa: PT018
    return torch.cat([views.first_labels, views.second_labels])


def supcon(
    features: Float[Tensor, "both d"], classes: Integer[Tensor, " both"], *, temperature: float
) -> Float[Tensor, ""]:
    """The supervised contrastive loss (Eq. 2).

    Mean over the images i of -(1/|P_i|) sum_{p in P_i} log( exp(s_ip / T) / sum_{k != i} exp(s_ik / T) ), where P_i are
    the other images of its class; each image has at least one, its partner.

    Args:
        features: of unit length, (2 n, d).
        classes: of each of these images.
        temperature: T > 0.
    """
    itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
    logits = features @ features.T / temperature
    shares = logits - logits.masked_fill(itself, -torch.inf).logsumexp(dim=1, keepdim=True)
    same = (classes[:, None] == classes) & ~itself
    return -(torch.where(same, shares, 0).sum(dim=1) / same.sum(dim=1)).mean()
