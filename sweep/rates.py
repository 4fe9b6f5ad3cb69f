"""The learning rates of a recipe, by the loss that they belong to."""

from dataclasses import replace

from trainables.recipe import Recipe

FIELDS = {
    "moco": ("moco", "lr"),
    "within_image": ("dense", "within_lr"),
    "cross_image": ("dense", "cross_lr"),
    "supervised": ("supervised", "lr"),
}
"""Objective -> part of the recipe and its field."""


def rate_of(recipe: Recipe, objective: str) -> float:
    """The learning rate that an objective is trained with."""
    part, name = FIELDS[objective]
    rate: float = getattr(getattr(recipe, part), name)
    return rate


def with_rate(recipe: Recipe, objective: str, rate: float) -> Recipe:
    """The recipe with another learning rate for one objective.

    Raises:
        InputError: the rate is not above zero.
    """
    part, name = FIELDS[objective]
    changed = replace(getattr(recipe, part), **{name: rate})
    return replace(recipe, **{part: changed})
