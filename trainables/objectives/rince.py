"""RINCE, the robust InfoNCE: unlike InfoNCE it need not fit every positive pair, so that false ones can be given up.

Paper: Chuang et al. 2022, https://arxiv.org/abs/2201.04309, Eq. 5. Reference code:
https://github.com/chingyaoc/RINCE. Here for whole images, with MoCo's networks and queue, and for positions, with those
of the within-image loss.
"""

import math
from collections.abc import Iterable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from datasets.types import IGNORED
from trainables import loss_settings
from trainables.models.encoders import Backbone
from trainables.objectives.base import Validation
from trainables.objectives.dense import DenseObjective
from trainables.objectives.losses import Positions, anchor_mean, only, total_of
from trainables.objectives.moco import MomentumContrast
from trainables.recipe import Denominator, Recipe
from trainables.views import Views


def robust(
    positive: Float[Tensor, "*pairs"],
    total: Float[Tensor, "*pairs"],
    *,
    temperature: float,
    q: float,
    lam: float,
) -> Float[Tensor, "*pairs"]:
    """RINCE of each pair: ( (lambda (e+ + sum e-))^q - (e+)^q ) / (q e^(q/T)), where e = exp(cosine / T).

    The paper has no factor e^(q/T), the largest value of (e+)^q. With it the loss is finite at every temperature, and
    its gradient has the same scale as that of InfoNCE, which it becomes for q towards 0, up to the constant log lambda.

    Args:
        positive: log e+ of each pair.
        total: log (e+ + sum e-) of each pair.
        temperature: T > 0.
        q: in (0, 1].
        lam: lambda, in (0, 1].
    """
    # As differences to 1, which keep their digits if q is small. Powers of sums would overflow at a low temperature,
    # and the power of an empty sum has an infinite gradient: with positions of an absent class, both gave NaN.
    both = (q * (total + (math.log(lam) - 1 / temperature))).expm1() - (q * (positive - 1 / temperature)).expm1()
    return both / q


class Rince(MomentumContrast):
    """RINCE between the two images of a pair; the negatives are MoCo's queue."""

    def __init__(
        self, encoder: Backbone, recipe: Recipe, settings: loss_settings.Rince, generator: torch.Generator
    ) -> None:
        """Wrap the encoder; networks and queue are as in `recipe.moco`."""
        super().__init__(encoder, recipe.moco, settings.lr, generator)
        self.options = {"temperature": recipe.moco.temperature, "q": settings.q, "lam": settings.lam}

    def compare(
        self, query: Float[Tensor, "n d"], key: Float[Tensor, "n d"], negatives: Float[Tensor, "k d"]
    ) -> Float[Tensor, ""]:
        """The mean of `robust`."""
        positive = (query * key).sum(dim=1) / self.settings.temperature
        logits = torch.cat([positive[:, None], query @ negatives.T / self.settings.temperature], dim=1)
        return robust(positive, logits.logsumexp(dim=1), **self.options).mean()

    @torch.no_grad()
    def validate(self, batches: Iterable[Views], generator: torch.Generator) -> Validation:
        """RINCE with the keys of all other validation images as negatives.

        The plateau is that of equal features, ((lambda n)^q - 1) / q for n images. Below n = 1 / lambda it is lower
        than the loss of features without any similarity: then RINCE rewards equal features.
        """
        query, key = self.embed_all(batches)
        total = 0.0
        for index in torch.arange(len(query), device=query.device).split(512):
            logits = query[index] @ key.T / self.settings.temperature
            positive = logits.gather(1, index[:, None])[:, 0]
            total += float(robust(positive, logits.logsumexp(dim=1), **self.options).sum())
        same = torch.tensor(1 / self.settings.temperature, dtype=torch.float64)
        ends = (robust(same, same + math.log(count), **self.options) for count in (len(query), 1))
        return Validation(total / len(query), *map(float, ends))


class RinceWithin(DenseObjective):
    """RINCE between positions of equal class of the two images of a pair."""

    def __init__(
        self, encoder: Backbone, recipe: Recipe, settings: loss_settings.Rince, generator: torch.Generator
    ) -> None:
        """Wrap the encoder; head, temperature, denominator and clipping are as in `recipe.dense`."""
        super().__init__(encoder, recipe.dense, settings.within_lr)
        self.options = {"temperature": self.temperature, "q": settings.q, "lam": settings.lam}

    def compare(self, image: Positions, partner: Positions, drawn: Tensor | None) -> Float[Tensor, ""]:
        """`rince_within`, without random numbers."""
        return rince_within(image, partner, denominator=self.denominator, **self.options)

    def equal(self, image: Positions, partner: Positions) -> tuple[Positions, Positions]:
        """Equal unit vectors: the length of features has an effect on RINCE."""
        one = torch.zeros_like(image.features)
        one[..., 0] = 1
        return replace(image, features=one), replace(partner, features=one)

    def perfect(self, image: Positions, partner: Positions) -> tuple[Positions, Positions]:
        """Features whose product is 1 within a class, and so low between classes that negatives add nothing."""
        far = 50 * self.temperature
        classes, others = (functional.one_hot(one.classes, IGNORED + 1).to(one.features) for one in (image, partner))
        ones = torch.ones_like(classes[..., :1])
        return (
            replace(image, features=torch.cat([classes, ones], dim=2)),
            replace(partner, features=torch.cat([(1 + far) * others, -far * ones], dim=2)),
        )


def rince_within(
    image: Positions, partner: Positions, *, temperature: float, q: float, lam: float, denominator: Denominator
) -> Float[Tensor, ""]:
    """RINCE of the pairs of the within-image loss, whose log(e / D) it replaces (`losses.within_image`).

    An anchor whose class does not occur in the partner adds 0. Unlike there, one without negatives still attracts.

    Args:
        image: I.
        partner: I^.
        temperature: T > 0.
        q: in (0, 1].
        lam: lambda, in (0, 1].
        denominator: what a pair is compared with, as in `losses.within_image`.
    """
    logits = image.features @ partner.features.transpose(1, 2) / temperature
    same = (image.classes[:, :, None] == partner.classes[:, None, :]) & image.used[:, :, None]
    count, used = same.sum(dim=2), partner.used[:, None, :]
    if denominator == "printed":
        total = only(logits, used).logsumexp(dim=2, keepdim=True).expand_as(logits)
        anchors = image.used
    else:
        total = logits.logaddexp(only(logits, used & ~same).logsumexp(dim=2, keepdim=True))
        anchors = count > 0
    pairs = robust(logits, total, temperature=temperature, q=q, lam=lam)
    return anchor_mean(total_of(pairs, same) / count.clamp(min=1), count, anchors)
