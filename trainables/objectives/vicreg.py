"""VICReg: prevents equal features by terms of its own, where SimSiam has a predictor and MoCo has negatives.

Paper: Bardes et al. 2022, https://arxiv.org/abs/2105.04906, Eqs. 1 to 6. Reference code:
https://github.com/facebookresearch/vicreg/blob/main/main_vicreg.py.
"""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from trainables import loss_settings
from trainables.models.encoders import Backbone
from trainables.models.heads import normed_head
from trainables.objectives.base import Objective, Validation, mean_over
from trainables.recipe import Recipe
from trainables.views import Views

EPSILON = 1e-4
"""Added to variances before the root."""


class VicReg(Objective):
    """Both images of a pair shall have equal features, which vary over the batch and do not correlate."""

    sees = "pairs"

    def __init__(
        self, encoder: Backbone, recipe: Recipe, settings: loss_settings.VicReg, generator: torch.Generator
    ) -> None:
        """Wrap the encoder."""
        super().__init__(encoder, lr=settings.lr)
        self.weights = (settings.invariance, settings.variance, settings.covariance)
        self.head = normed_head(encoder.channels, *3 * [settings.features])

    def loss(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """`vicreg` of a batch. Each batch of images has its own batch-norm statistics, as in VICReg."""
        return vicreg(*(self.head(self.encoder(x).mean(dim=(2, 3))) for x in (views.first, views.second)), self.weights)

    @torch.no_grad()
    def validate(self, batches: Iterable[Views], generator: torch.Generator) -> Validation:
        """The loss of batches as in training. Equal features leave the variance term alone; its floor is 0."""
        (found,) = mean_over(batches, lambda views: [self.loss(views, generator)])
        return Validation(found, self.weights[1] * (1 - EPSILON**0.5), 0.0)


def vicreg(
    first: Float[Tensor, "n d"], second: Float[Tensor, "n d"], weights: tuple[float, float, float]
) -> Float[Tensor, ""]:
    """lambda s(Z, Z') + mu v + nu (c(Z) + c(Z')).

    - s: the mean squared difference of the pairs, over images and dimensions (the paper's Eq. 5 is d times that; this
      is its code).
    - v: the mean over dimensions of max(0, 1 - standard deviation over the batch), and over Z and Z' (Eq. 6 adds the
      two; this is its code).
    - c: the squared covariances of different dimensions, divided by their number d (Eqs. 3 and 4).

    Args:
        first: Z, (n, d), n > 1.
        second: Z', (n, d).
        weights: lambda, mu and nu.
    """
    invariance, variance, covariance = weights
    return (
        invariance * functional.mse_loss(first, second)
        + variance * (_spread_too_little(first) + _spread_too_little(second)) / 2
        + covariance * (_correlation(first) + _correlation(second))
    )


def _spread_too_little(features: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    return (1 - (features.var(dim=0) + EPSILON).sqrt()).relu().mean()


def _correlation(features: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    centred = features - features.mean(dim=0)
    squares = (centred.T @ centred / (len(features) - 1)).square()
    return (squares.sum() - squares.diagonal().sum()) / features.shape[1]
