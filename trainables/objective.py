"""What a contrastive objective is to the pretraining loop."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trainables.encoders import Backbone
from trainables.views import Views


class Objective(nn.Module):
    """A contrastive loss with the networks it needs; all its weights that require a gradient are trained."""

    labelled: ClassVar[bool]
    """Whether it looks at labels; views for one that does not are made without."""

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
