"""The objectives there are, by name."""

from collections.abc import Callable

import torch

from trainables.models.encoders import Backbone
from trainables.objectives.base import Objective
from trainables.objectives.dense import cross_image_objective, within_image_objective
from trainables.objectives.moco import MocoV2
from trainables.recipe import Recipe

REGISTRY: dict[str, Callable[[Backbone, Recipe, torch.Generator], Objective]] = {
    "moco": MocoV2,
    "within_image": within_image_objective,
    "cross_image": cross_image_objective,
}
"""Made from (encoder, recipe, generator). The names are those of `cell.OBJECTIVES`."""
