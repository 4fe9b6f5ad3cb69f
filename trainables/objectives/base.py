"""What an objective is to the pretraining loop."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trainables.models.encoders import Backbone
from trainables.views import Views


class Objective(nn.Module):
    """A loss with the networks it needs; all its weights that require a gradient are trained."""

    sees: ClassVar[Literal["pairs", "labelled pairs", "downstream"]]
    """What its views are made from: positive pairs, those with labels for the dense losses, or downstream images (both
    sides of the views are then the same)."""

    def __init__(self, encoder: Backbone, *, lr: float, clip: float = 0.0) -> None:
        """Take the encoder that is trained.

        Args:
            encoder: from `make_encoder`.
            lr: learning rate of SGD.
            clip: largest norm of the gradient; 0: no limit.
        """
        super().__init__()
        self.encoder, self.lr, self.clip = encoder, lr, clip

    @abstractmethod
    def loss(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """The training loss of a batch; may update queues and momentum networks."""

    @abstractmethod
    def validate(self, batches: Iterable[Views], generator: torch.Generator) -> tuple[float, float]:
        """The loss over noise-free validation pairs, and its plateau: the same with all features equal."""
