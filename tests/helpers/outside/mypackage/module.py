"""A loss from outside the repository, as a user would write it: SimCLR (Chen et al. 2020, arXiv:2002.05709)."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from trainables.models.heads import image_head, unit_vectors
from trainables.objectives.base import Objective


class SimClr(Objective):
    """Unlike MoCo it has no queue and no momentum encoder: the negatives are the other images of the batch."""

    sees = "pairs"
    cost = 2.5

    @dataclass(frozen=True, kw_only=True)
    class Settings:
        """What the paper calls tau is `temperature`."""

        lr: float = 0.06
        temperature: float = 0.5
        features: int = 64
        head: tuple[str, ...] = ("linear", "relu", "linear")

        def __post_init__(self):
            if not self.temperature > 0:
                raise ValueError(f"temperature {self.temperature:g}: must be above 0")

    def __init__(self, encoder, recipe, settings, generator):
        super().__init__(encoder, lr=settings.lr)
        self.temperature = settings.temperature
        self.head: nn.Module = image_head(encoder.channels, settings.features)

    def loss(self, views, generator):
        images = torch.cat([views.first, views.second])
        return nt_xent(unit_vectors(self.head(self.encoder(images).mean(dim=(2, 3)))), temperature=self.temperature)


def nt_xent(features: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """The normalised temperature-scaled cross-entropy; row i and row i + n of the (2 n, d) unit features are a pair."""
    count = len(features)
    logits = (features @ features.T / temperature).fill_diagonal_(-torch.inf)
    partner = torch.arange(count, device=features.device).roll(count // 2)
    return functional.cross_entropy(logits, partner)
