"""The interface between an objective and the pretraining loop; docs/extending.md has a complete example."""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trainables.models.encoders import Backbone
from trainables.objective_names import objective_class, objective_info, objective_settings
from trainables.recipe import Recipe
from trainables.registry import Sees
from trainables.views import Views


class Validation(NamedTuple):
    """The loss of an objective on noise-free validation data, and the range that it can cover; NaN: not known."""

    loss: float
    plateau: float = math.nan
    """The loss if all features are equal."""
    floor: float = math.nan
    """The least loss: positives are equal and negatives have no similarity."""


class Objective(nn.Module):
    """A loss and its networks. All weights that require a gradient are trained.

    A subclass is created as `Class(encoder, recipe, settings, generator)`:

    - `encoder`: the network to train;
    - `recipe`: everything that is held fixed over the grid, such as `recipe.pretrain.steps` and `.batch`;
    - `settings`: an instance of its `Settings`;
    - `generator`: for its random numbers. Layers use torch's global random state, which is seeded for the cell.

    Its `state_dict` (weights, buffers, `get_extra_state`) must hold everything that a checkpoint needs.
    """

    sees: ClassVar[Sees]
    """The data of its views: `pairs`; `labelled pairs` for losses that use classes of positions; `labelled images` for
    losses that use one class of each image; or `downstream`, labelled images as both images of a pair, only for the
    baseline `supervised`."""
    recordable: ClassVar[bool] = False
    """Whether `loss` asks the same of the device in every step, and takes all numbers that differ from the views and
    from its own tensors: a GPU may then record it. It must neither use `generator` nor read from the device."""
    cost: ClassVar[float] = 2.0
    """Rough duration of a cell, relative to one without pretraining."""
    Settings: ClassVar[Any]
    """A frozen, keyword-only dataclass of plain values, with at least `lr: float = ...`, the learning rate."""

    def __init__(self, encoder: Backbone, *, lr: float, clip: float = 0.0) -> None:
        """Store the encoder to train.

        Args:
            encoder: from `make_encoder`.
            lr: learning rate.
            clip: maximum norm of the gradient; 0: no limit.
        """
        super().__init__()
        self.encoder, self.lr, self.clip = encoder, lr, clip

    @property
    def labelled(self) -> bool:
        """Whether its pairs have labels."""
        return self.sees in ("labelled pairs", "labelled images")

    def draw(self, count: int, generator: torch.Generator) -> Tensor | None:
        """Random numbers that `loss` finds in `views.drawn`, on the device: they travel with the batch.

        This default draws nothing. A loss may as well draw from its own generator; on a GPU that is another copy.
        """
        return None

    @abstractmethod
    def loss(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """The training loss of a batch; may update queues and momentum networks."""

    @torch.no_grad()
    def validate(self, batches: Iterable[Views], generator: torch.Generator) -> "Validation | tuple[float, float]":
        """The loss on noise-free validation data, its plateau and its floor.

        This default returns the mean of `loss` over all images. Override it if `loss` has side effects (a queue), or if
        the plateau is known.
        """
        return Validation(*mean_over(batches, lambda views: [self.loss(views, generator)]))


def mean_over(batches: Iterable[Views], measure: Callable[[Views], Iterable[Tensor | float]]) -> list[float]:
    """The means over all images of what is measured on each batch."""
    sums: list[float] = []
    count = 0
    for views in batches:
        found = [len(views.first) * float(value) for value in measure(views)]
        sums = [one + other for one, other in zip(sums, found, strict=True)] if sums else found
        count += len(views.first)
    return [one / count for one in sums]


@torch.no_grad()
def follow(targets: Iterable[Tensor], weights: Iterable[Tensor], momentum: float) -> None:
    """Move the weights of target networks towards others: an exponential moving average, in place."""
    torch._foreach_lerp_([*targets], [*weights], 1 - momentum)


def make_objective(name: str, encoder: Backbone, recipe: Recipe, generator: torch.Generator) -> Objective:
    """Create a contrastive objective. Its layers use torch's global random state.

    Args:
        name: as in the grid.
        encoder: the network to train.
        recipe: everything that is held fixed, including the settings of the paper's losses.
        generator: for all other random numbers of the objective.

    Raises:
        InputError: there is no such objective.
    """
    info = objective_info(name)
    settings = getattr(recipe, info.settings) if info.settings else objective_settings(name)
    made: Objective = objective_class(name)(encoder, recipe, settings, generator)
    return made
