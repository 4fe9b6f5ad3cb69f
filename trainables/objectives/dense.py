"""The supervised dense losses (paper, III-B): unlike MoCo they contrast positions of feature maps, by their classes.

Paper: Zhao et al. 2021, https://arxiv.org/abs/2012.06985. Reference code (TensorFlow):
https://github.com/google-research/google-research/tree/master/supervised_pixel_contrastive_loss. The equations are in
`losses.py`.
"""

from abc import abstractmethod
from collections.abc import Iterable

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from datasets.types import IGNORED
from trainables.models.encoders import Backbone
from trainables.models.heads import dense_head, map_labels, unit_positions
from trainables.objectives.base import Objective
from trainables.objectives.losses import cross_image, within_image
from trainables.recipe import Dense, Recipe
from trainables.views import Views


class DenseObjective(Objective):
    """An encoder with a dense projection head. Subclasses define which positions are compared."""

    sees = "labelled pairs"

    def __init__(self, encoder: Backbone, settings: Dense, lr: float) -> None:
        """Wrap the encoder."""
        super().__init__(encoder, lr=lr, clip=settings.clip)
        self.settings = settings
        self.head = dense_head(encoder.channels, settings.features)

    @abstractmethod
    def compare(
        self,
        features: Float[Tensor, "n p d"],
        partner: Float[Tensor, "n p d"],
        labels: Integer[Tensor, "n p"],
        partner_labels: Integer[Tensor, "n p"],
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """The loss, computed from the unit features and labels of all positions of both images."""

    def loss(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of a batch, with random numbers from `generator`."""
        return self.compare(*self._embed(views), generator)

    @torch.no_grad()
    def validate(self, batches: Iterable[Views], generator: torch.Generator) -> tuple[float, float]:
        """The loss over all validation pairs and its plateau, each a mean over images."""
        loss = plateau = 0.0
        count = 0
        for views in batches:
            features, partner, labels, partner_labels = self._embed(views)
            state = generator.get_state()
            loss += len(features) * float(self.compare(features, partner, labels, partner_labels, generator))
            # Equal features and the same random draws give the loss of an encoder that has learnt nothing.
            generator.set_state(state)
            equal = torch.zeros_like(features)
            plateau += len(features) * float(self.compare(equal, equal, labels, partner_labels, generator))
            count += len(features)
        return loss / count, plateau / count

    def _embed(
        self, views: Views
    ) -> tuple[Float[Tensor, "n p d"], Float[Tensor, "n p d"], Integer[Tensor, "n p"], Integer[Tensor, "n p"]]:
        """Features and labels of all positions of both images, which are encoded in one batch of 2 n."""
        assert views.first_labels is not None and views.second_labels is not None, "made without labels"  # noqa: PT018
        both = torch.cat([views.first, views.second])
        projected = self.head(self.encoder(both))
        features, partner = unit_positions(projected).chunk(2)
        height, width = projected.shape[2:]
        labels = map_labels(views.first_labels, height, width)
        partner_labels = map_labels(views.second_labels, height, width)
        # A position without a class has no positives, not even other positions without one; it is a negative for all.
        return (
            features,
            partner,
            labels.masked_fill(labels == IGNORED, -1),
            partner_labels.masked_fill(partner_labels == IGNORED, -2),
        )


class WithinImage(DenseObjective):
    """Positives and negatives of a position come only from the partner image (paper, Eq. 2)."""

    def __init__(self, encoder: Backbone, recipe: Recipe, settings: Dense, generator: torch.Generator) -> None:
        """Wrap the encoder."""
        super().__init__(encoder, settings, settings.within_lr)

    def compare(
        self,
        features: Float[Tensor, "n p d"],
        partner: Float[Tensor, "n p d"],
        labels: Integer[Tensor, "n p"],
        partner_labels: Integer[Tensor, "n p"],
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """`losses.within_image`, without random numbers."""
        return within_image(features, partner, labels, partner_labels, temperature=self.settings.temperature)


class CrossImage(DenseObjective):
    """Unlike `WithinImage`, it adds positives from another random image J of the batch (paper, Eq. 3)."""

    def __init__(self, encoder: Backbone, recipe: Recipe, settings: Dense, generator: torch.Generator) -> None:
        """Wrap the encoder."""
        super().__init__(encoder, settings, settings.cross_lr)

    def compare(
        self,
        features: Float[Tensor, "n p d"],
        partner: Float[Tensor, "n p d"],
        labels: Integer[Tensor, "n p"],
        partner_labels: Integer[Tensor, "n p"],
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """`losses.cross_image`; `generator` chooses J for each image."""
        j = derangement(len(features), generator).to(features.device, non_blocking=True)
        other, other_labels = features[j], labels[j].masked_fill(labels[j] == -1, -3)
        return cross_image(
            features,
            partner,
            other,
            labels,
            partner_labels,
            other_labels,
            temperature=self.settings.temperature,
        )


def derangement(count: int, generator: torch.Generator) -> Integer[Tensor, " count"]:
    """A uniformly random permutation without fixed points, which assigns J to each image of a batch.

    It takes about e attempts on average.

    Raises:
        ValueError: a single image has no other.
    """
    if count < 2:
        raise ValueError("a batch of one image has no other image J")
    while True:
        order = torch.randperm(count, generator=generator)
        if not (order == torch.arange(count)).any():
            return order
