"""The supervised dense losses (paper, III-B): unlike MoCo they contrast positions of feature maps, by their classes.

Paper: Zhao et al. 2021, https://arxiv.org/abs/2012.06985. Reference code (TensorFlow):
https://github.com/google-research/google-research/tree/master/supervised_pixel_contrastive_loss. The equations are in
`losses.py`.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional

from datasets.transfer import send
from datasets.types import IGNORED
from trainables.models.encoders import Backbone
from trainables.models.heads import dense_head, map_labels, unit_positions
from trainables.objectives.base import Objective, Validation, mean_over
from trainables.objectives.losses import Positions, cross_image, within_image
from trainables.recipe import Dense, Recipe
from trainables.views import Views


class DenseObjective(Objective):
    """An encoder with a dense projection head. Subclasses define which positions are compared."""

    sees = "labelled pairs"
    recordable = True

    def __init__(self, encoder: Backbone, settings: Dense, lr: float) -> None:
        """Wrap the encoder."""
        super().__init__(encoder, lr=lr, clip=settings.clip)
        self.temperature, self.denominator = settings.temperature, settings.denominator
        self.head = dense_head(encoder.channels, settings.features, norm=settings.norm)

    @abstractmethod
    def compare(self, image: Positions, partner: Positions, drawn: Tensor | None) -> Float[Tensor, ""]:
        """The loss of the positions of both images, with the numbers of `draw` on the device."""

    def loss(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """The loss of a batch. What did not come with the views is drawn from `generator`."""
        return self.compare(*self._embed(views), self._drawn(views, generator))

    @torch.no_grad()
    def validate(self, batches: Iterable[Views], generator: torch.Generator) -> Validation:
        """The loss over all validation pairs, its plateau and its floor, each a mean over images."""

        def measure(views: Views) -> Iterator[Tensor]:
            both = self._embed(views)
            drawn = self._drawn(views, generator)
            # The same random draws give the loss of an encoder that has learnt nothing, and of a perfect one.
            for image, partner in (both, self.equal(*both), self.perfect(*both)):
                yield self.compare(image, partner, drawn)

        return Validation(*mean_over(batches, measure))

    def equal(self, image: Positions, partner: Positions) -> tuple[Positions, Positions]:
        """The same positions with equal features, for the plateau."""
        return _equal(image), _equal(partner)

    def perfect(self, image: Positions, partner: Positions) -> tuple[Positions, Positions]:
        """The same positions with features whose loss is least."""
        return _perfect(image, self.temperature), _perfect(partner, self.temperature)

    def _drawn(self, views: Views, generator: torch.Generator) -> Tensor | None:
        """The numbers of `draw` on the device: those that came with the views, or new ones."""
        if views.drawn is not None:
            return views.drawn
        drawn = self.draw(len(views.first), generator)
        return drawn if drawn is None else send(views.first.device, drawn)[0]

    def _embed(self, views: Views) -> tuple[Positions, Positions]:
        """The positions of both images, which are encoded in one batch of 2 n."""
        assert views.first_labels is not None and views.second_labels is not None, "made without labels"  # noqa: PT018
        both = torch.cat([views.first, views.second])
        projected = self.head(self.encoder(both))
        features, partner = unit_positions(projected).chunk(2)
        height, width = projected.shape[2:]
        return (
            Positions(features, map_labels(views.first_labels, height, width)),
            Positions(partner, map_labels(views.second_labels, height, width)),
        )


def _equal(positions: Positions) -> Positions:
    """Equal features. Their length has no effect, because all logits are the same."""
    return replace(positions, features=torch.zeros_like(positions.features))


def _perfect(positions: Positions, temperature: float) -> Positions:
    """Equal features within a class, and no similarity between classes, for the floor."""
    length = (50 * temperature) ** 0.5  # e(p, q) = exp(50) within a class, 1 between classes
    perfect = functional.one_hot(positions.classes, IGNORED + 1).to(positions.features)
    return replace(positions, features=length * perfect)


class WithinImage(DenseObjective):
    """Positives and negatives of a position come only from the partner image (paper, Eq. 2)."""

    def __init__(self, encoder: Backbone, recipe: Recipe, settings: Dense, generator: torch.Generator) -> None:
        """Wrap the encoder."""
        super().__init__(encoder, settings, settings.within_lr)

    def compare(self, image: Positions, partner: Positions, drawn: Tensor | None) -> Float[Tensor, ""]:
        """`losses.within_image`, without random numbers."""
        return within_image(image, partner, temperature=self.temperature, denominator=self.denominator)


class CrossImage(DenseObjective):
    """Unlike `WithinImage`, it adds positives from another random image J of the batch (paper, Eq. 3)."""

    def __init__(self, encoder: Backbone, recipe: Recipe, settings: Dense, generator: torch.Generator) -> None:
        """Wrap the encoder."""
        super().__init__(encoder, settings, settings.cross_lr)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """The image J of each image."""
        return derangement(count, generator)

    def compare(self, image: Positions, partner: Positions, drawn: Tensor | None) -> Float[Tensor, ""]:
        """`losses.cross_image` with the images J of `draw`."""
        other = Positions(image.features[drawn], image.classes[drawn])
        return cross_image(image, partner, other, temperature=self.temperature, denominator=self.denominator)


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
