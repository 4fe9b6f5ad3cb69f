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
    recordable = True

    def __init__(
        self, encoder: Backbone, recipe: Recipe, settings: loss_settings.VicReg, generator: torch.Generator
    ) -> None:
        """Wrap the encoder."""
        super().__init__(encoder, lr=settings.lr)
        self.weights = (settings.invariance, settings.variance, settings.covariance)
        self.head = normed_head(encoder.channels, *3 * [settings.features])

    def loss(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """`vicreg` of a batch. Each batch of images has its own batch-norm statistics, as in VICReg."""
        first, second = (self.head(self.encoder(x).mean(dim=(2, 3))) for x in (views.first, views.second))
        return vicreg(first, second, self.weights)

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
    (too_little, correlated), (too_little_there, correlated_there) = _terms(first), _terms(second)
    return (
        invariance * functional.mse_loss(first, second)
        + variance * (too_little + too_little_there) / 2
        + covariance * (correlated + correlated_there)
    )


def _terms(features: Float[Tensor, "n d"]) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """How much the standard deviations lack to 1, and the squared covariances of different dimensions."""
    centred = features - features.mean(dim=0)
    covariance = centred.T @ centred / max(1, len(features) - 1)  # a single image varies in nothing
    variances = covariance.diagonal()
    correlated = (covariance.square().sum() - variances.square().sum()) / features.shape[1]
    return (1 - (variances + EPSILON).sqrt()).relu().mean(), correlated
