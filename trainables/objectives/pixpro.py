"""PixPro: BYOL of positions, without labels: positives are positions at the same place of the image.

Paper: Xie et al. 2021, https://arxiv.org/abs/2011.10043, Eqs. 3 to 5 (pixel-to-propagation consistency alone).
Reference code: https://github.com/zdaxie/PixPro/blob/main/contrast/models/PixPro.py. There the target's momentum rises
to 1, and the loss is twice ours.
"""

from collections.abc import Iterable
from copy import deepcopy

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from datasets.augment.transforms import places
from trainables import loss_settings
from trainables.models.encoders import Backbone
from trainables.models.heads import unit_positions
from trainables.objectives.base import Objective, Validation, follow, mean_over
from trainables.recipe import Recipe
from trainables.views import Views


class PixPro(Objective):
    """Each position, averaged with similar ones of its image, predicts those that lie at the same place of the other.

    The target network is an exponential moving average of the encoder and its head.
    """

    sees = "pairs"
    recordable = True

    def __init__(
        self, encoder: Backbone, recipe: Recipe, settings: loss_settings.PixPro, generator: torch.Generator
    ) -> None:
        """Wrap the encoder; the target network starts as a copy of it."""
        super().__init__(encoder, lr=settings.lr)
        self.settings = settings
        self.head = nn.Sequential(
            nn.Conv2d(encoder.channels, settings.hidden, 1, bias=False),
            nn.BatchNorm2d(settings.hidden),
            nn.ReLU(),
            nn.Conv2d(settings.hidden, settings.features, 1),
        )
        self.transform = nn.Conv2d(settings.features, settings.features, 1)
        self.target_encoder = deepcopy(self.encoder).requires_grad_(False)
        self.target_head = deepcopy(self.head).requires_grad_(False)

    def loss(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """The target follows the encoder, as the last step has left it; then the loss of the batch."""
        targets = [*self.target_encoder.parameters(), *self.target_head.parameters()]
        follow(targets, [*self.encoder.parameters(), *self.head.parameters()], self.settings.momentum)
        return self._consistency(views)

    @torch.no_grad()
    def validate(self, batches: Iterable[Views], generator: torch.Generator) -> Validation:
        """The loss of all pairs. It has no plateau: equal features have the least loss, -2 if all views overlap."""
        (found,) = mean_over(batches, lambda views: [self._consistency(views)])
        return Validation(found, floor=-2.0)

    def _consistency(self, views: Views) -> Float[Tensor, ""]:
        """Both directions. Each batch of images has its own batch-norm statistics, as in PixPro."""
        assert views.maps is not None, "not augmented"
        projected = [self.head(self.encoder(images)) for images in (views.first, views.second)]
        with torch.no_grad():
            target = [unit_positions(self.target_head(self.target_encoder(x))) for x in (views.first, views.second)]
        first, second = (
            propagated(unit_positions(one), unit_positions(self.transform(one)), self.settings.sharpness)
            for one in projected
        )
        near = neighbours(views.maps[0], views.maps[1], projected[0].shape[2:], self.settings.distance)
        return consistency(first, target[1], near) + consistency(second, target[0], near.transpose(1, 2))


def propagated(
    features: Float[Tensor, "n p d"], values: Float[Tensor, "n p d"], sharpness: float
) -> Float[Tensor, "n p d"]:
    """y_i = sum_j max(cosine(x_i, x_j), 0)^gamma g(x_j), of unit length (Eqs. 3 and 4)."""
    # The power of zero would have an infinite gradient for gamma below 1.
    similar = (features @ features.transpose(1, 2)).clamp(min=1e-6) ** sharpness
    return functional.normalize(similar @ values, dim=2)


def neighbours(
    first: Float[Tensor, "n 2 3"], second: Float[Tensor, "n 2 3"], shape: torch.Size, distance: float
) -> Bool[Tensor, "n p k"]:
    """Which positions of two views lie at the same place of the image.

    Args:
        first: the maps of the first views, from view to image.
        second: those of the second views.
        shape: height and width of the feature maps.
        distance: between centres, in diagonals of the larger of both positions.
    """
    centres = [places(one, *shape).flatten(1, 2) for one in (first, second)]
    diagonals = [_diagonal(one, *shape) for one in (first, second)]
    reach = distance * torch.maximum(*diagonals)
    apart = (centres[0][:, :, None] - centres[1][:, None, :]).square().sum(dim=3)
    return apart < reach.square()[:, None, None]


def _diagonal(affine: Float[Tensor, "n 2 3"], height: int, width: int) -> Float[Tensor, " n"]:
    """The diagonal of a position of a map, in the image."""
    across, down = affine[:, :, :2].square().sum(dim=1).unbind(dim=1)
    return (across * (2 / width) ** 2 + down * (2 / height) ** 2).sqrt()


def consistency(
    predicted: Float[Tensor, "n p d"], target: Float[Tensor, "n k d"], near: Bool[Tensor, "n p k"]
) -> Float[Tensor, ""]:
    """Minus the mean cosine of the pairs of positions that are near, of each image; then the mean over images (Eq. 5).

    An image whose views do not overlap adds 0.
    """
    cosine = predicted @ target.transpose(1, 2)
    total = torch.where(near, cosine, 0).sum(dim=(1, 2))
    return -(total / near.sum(dim=(1, 2)).clamp(min=1)).mean()
