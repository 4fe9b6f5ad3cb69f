"""SimCLR: contrasts images with the rest of the batch, where MoCo has a queue and a second encoder.

Paper: Chen et al. 2020, https://arxiv.org/abs/2002.05709, Eq. 1. Reference code:
https://github.com/google-research/simclr/blob/master/objective.py.
"""

import math
from collections.abc import Iterable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from trainables import loss_settings
from trainables.models.encoders import Backbone
from trainables.models.heads import image_head, unit_vectors
from trainables.objectives.base import Objective, Validation, mean_over
from trainables.recipe import Recipe
from trainables.registry import Sees
from trainables.views import Views


class SimClr(Objective):
    """Both images of the pairs pass through the encoder in one batch of 2 n."""

    sees: ClassVar[Sees] = "pairs"
    recordable = True

    def __init__(
        self,
        encoder: Backbone,
        recipe: Recipe,
        settings: loss_settings.SimClr | loss_settings.SupCon,
        generator: torch.Generator,
    ) -> None:
        """Wrap the encoder."""
        super().__init__(encoder, lr=settings.lr)
        self.temperature = settings.temperature
        self.head = image_head(encoder.channels, settings.features)

    def loss(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """`nt_xent` of a batch, without random numbers."""
        return nt_xent(self.embed(views), temperature=self.temperature)

    @torch.no_grad()
    def validate(self, batches: Iterable[Views], generator: torch.Generator) -> Validation:
        """The loss of batches as in training. Equal features give log(2 n - 1); its floor is 0."""

        def measure(views: Views) -> tuple[Tensor, float]:
            return self.loss(views, generator), math.log(2 * len(views.first) - 1)

        found, plateau = mean_over(batches, measure)
        return Validation(found, plateau, 0.0)

    def embed(self, views: Views) -> Float[Tensor, "both d"]:
        """Unit features of the first images, then of the second ones."""
        both = torch.cat([views.first, views.second])
        return unit_vectors(self.head(self.encoder(both).mean(dim=(2, 3))))


def nt_xent(features: Float[Tensor, "both d"], *, temperature: float) -> Float[Tensor, ""]:
    """The normalised temperature-scaled cross-entropy (Eq. 1).

    Mean over the 2 n images i, with partner j, of -log( exp(s_ij / T) / sum_{k != i} exp(s_ik / T) ).

    Args:
        features: of unit length; rows i and i + n are a pair, (2 n, d).
        temperature: T > 0.
    """
    logits = (features @ features.T / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(len(features), device=features.device).roll(len(features) // 2)
    return functional.cross_entropy(logits, partner)
