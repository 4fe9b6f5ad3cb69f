"""What a contrastive objective is to the pretraining loop, and the registry of those there are."""

from collections.abc import Callable, Iterable
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trainables.dense import cross_image_objective, within_image_objective
from trainables.moco import MocoV2
from trainables.recipe import Recipe
from trainables.views import Views


class Objective(Protocol):
    """A contrastive loss with the networks it needs."""

    encoder: nn.Module
    lr: float
    """Learning rate of SGD."""
    clip: float
    """Largest norm of the gradient; 0: no limit."""

    def loss(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """The training loss of a batch; may update queues and momentum networks."""
        ...

    def validate(self, batches: Iterable[Views], generator: torch.Generator) -> tuple[float, float]:
        """The loss over noise-free validation pairs, and its plateau: the same with all features equal."""
        ...


REGISTRY: dict[str, Callable[[nn.Module, int, Recipe, torch.Generator], nn.Module]] = {
    "moco": MocoV2,
    "within_image": within_image_objective,
    "cross_image": cross_image_objective,
}
"""Objective by name, made from (encoder, its channels, recipe, generator). The names are `cell.OBJECTIVES`."""
