"""SimSiam: BYOL whose target is the encoder itself, without its gradient.

Paper: Chen and He 2021, https://arxiv.org/abs/2011.10566, Eqs. 1 and 2. Reference code:
https://github.com/facebookresearch/simsiam/blob/main/simsiam/builder.py. There the predictor's learning rate does not
decay; here it is that of all weights.
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


class SimSiam(Objective):
    """Each image predicts the other."""

    sees = "pairs"
    recordable = True

    def __init__(
        self, encoder: Backbone, recipe: Recipe, settings: loss_settings.SimSiam, generator: torch.Generator
    ) -> None:
        """Wrap the encoder."""
        super().__init__(encoder, lr=settings.lr)
        self.head = normed_head(encoder.channels, *3 * [settings.features], last=True)
        self.predictor = normed_head(settings.features, settings.hidden, settings.features)

    def loss(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """`simsiam` of a batch. Each batch of images has its own batch-norm statistics, as in SimSiam."""
        projected = [self.head(self.encoder(images).mean(dim=(2, 3))) for images in (views.first, views.second)]
        first, second = (self.predictor(one) for one in projected)
        return simsiam((first, second), (projected[0].detach(), projected[1].detach()))

    @torch.no_grad()
    def validate(self, batches: Iterable[Views], generator: torch.Generator) -> Validation:
        """The loss of all pairs. It has no plateau: equal features have the least loss, -1."""
        (found,) = mean_over(batches, lambda views: [self.loss(views, generator)])
        return Validation(found, floor=-1.0)


Pair = tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]


def simsiam(predicted: Pair, projected: Pair) -> Float[Tensor, ""]:
    """-(1/2) cosine(p1, z2) - (1/2) cosine(p2, z1), the mean over pairs (Eqs. 1 and 2).

    Args:
        predicted: p1, p2, each (n, d).
        projected: z1, z2, each (n, d), without gradient.
    """
    (p1, p2), (z1, z2) = predicted, projected
    cosines = functional.cosine_similarity(p1, z2, dim=1) + functional.cosine_similarity(p2, z1, dim=1)
    return -cosines.mean() / 2
