"""BYOL: predicts the features that a slowly following network gives to the other image; no negatives.

Paper: Grill et al. 2020, https://arxiv.org/abs/2006.07733, Eq. 2. Reference code:
https://github.com/google-deepmind/deepmind-research/tree/master/byol. There the target's momentum rises to 1 during
training; here it is constant.
"""

from collections.abc import Iterable
from copy import deepcopy

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from trainables import loss_settings
from trainables.models.encoders import Backbone
from trainables.models.heads import normed_head
from trainables.objectives.base import Objective, Validation, follow, mean_over
from trainables.recipe import Recipe
from trainables.views import Views


class Byol(Objective):
    """Each image predicts the other. The target is an exponential moving average of the encoder and its head."""

    sees = "pairs"
    recordable = True

    def __init__(
        self, encoder: Backbone, recipe: Recipe, settings: loss_settings.Byol, generator: torch.Generator
    ) -> None:
        """Wrap the encoder; the target network starts as a copy of it."""
        super().__init__(encoder, lr=settings.lr)
        self.momentum = settings.momentum
        self.head = normed_head(encoder.channels, settings.hidden, settings.features)
        self.predictor = normed_head(settings.features, settings.hidden, settings.features)
        self.target_encoder = deepcopy(self.encoder).requires_grad_(False)
        self.target_head = deepcopy(self.head).requires_grad_(False)

    def loss(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """The target follows the encoder, as the last step has left it; then the loss of the batch."""
        targets = [*self.target_encoder.parameters(), *self.target_head.parameters()]
        follow(targets, [*self.encoder.parameters(), *self.head.parameters()], self.momentum)
        return self._distances(views)

    @torch.no_grad()
    def validate(self, batches: Iterable[Views], generator: torch.Generator) -> Validation:
        """The loss of all pairs. It has no plateau: equal features have the least loss, 0."""
        (found,) = mean_over(batches, lambda views: [self._distances(views)])
        return Validation(found, floor=0.0)

    def _distances(self, views: Views) -> Float[Tensor, ""]:
        """The sum over both directions. Each batch of images has its own batch-norm statistics, as in BYOL."""
        first, second = views.first, views.second
        return byol(self._predict(first), self._target(second)) + byol(self._predict(second), self._target(first))

    def _predict(self, images: Tensor) -> Float[Tensor, "n d"]:
        predicted: Tensor = self.predictor(self.head(self.encoder(images).mean(dim=(2, 3))))
        return predicted

    @torch.no_grad()
    def _target(self, images: Tensor) -> Float[Tensor, "n d"]:
        target: Tensor = self.target_head(self.target_encoder(images).mean(dim=(2, 3)))
        return target


def byol(predicted: Float[Tensor, "n d"], target: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """The mean squared distance of the unit vectors, 2 - 2 cosine (Eq. 2)."""
    return 2 - 2 * functional.cosine_similarity(predicted, target, dim=1).mean()
