"""From axes to the distinct cells of a grid."""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import NamedTuple

from datasets.types import Pairing
from sweep.config.vary import Axis, levels, variant
from trainables.cell import Cell
from trainables.objective_names import objective_info
from trainables.recipe import Recipe


class Axes(NamedTuple):
    """The values of each axis of a grid."""

    objectives: tuple[str, ...]
    rho: tuple[float, ...]
    nu: tuple[float, ...]
    pairings: tuple[Pairing, ...]
    seeds: tuple[int, ...]

    @property
    def points(self) -> int:
        """Number of combinations of values, including equivalent ones."""
        return len(self.objectives) * len(self.rho) * len(self.nu) * len(self.pairings) * len(self.seeds)


def expand(axes: Axes, *, dataset: str, recipe: Recipe, vary: Sequence[Axis] = ()) -> tuple[Cell, ...]:
    """All distinct cells, seed by seed, so that an interrupted sweep has complete seeds.

    Combinations that mean the same (at rho = 0, nu and pairing have no effect) are one cell.

    Args:
        axes: the values.
        dataset: name of the data set.
        recipe: everything that is held fixed over the grid, except for the settings in `vary`.
        vary: settings of the recipe, with their values.

    Raises:
        InputError: a value is outside its range.
    """
    variants = {
        (level, objective): variant(recipe, level, objective)
        for level in levels(vary)
        for objective in dict.fromkeys(axes.objectives)
    }
    fingerprints = {one.recipe: one.recipe.fingerprint for one in variants.values()}
    combinations = product(axes.seeds, levels(vary), axes.rho, axes.nu, axes.pairings, axes.objectives)
    return distinct(
        Cell(
            dataset=dataset,
            objective=objective,
            rho=rho,
            nu=nu,
            pairing=pairing,
            seed=seed,
            recipe=fingerprints[variants[level, objective].recipe],
            settings=variants[level, objective].settings,
        )
        for seed, level, rho, nu, pairing, objective in combinations
    )


def cheapest_last(cells: Sequence[Cell], count: int) -> tuple[Cell, ...]:
    """The same cells, with the `count` cheapest of the last seed moved to the end.

    Some workers are idle while the last cells run, so the last cells should be short.
    """
    late = [cell for cell in cells if cell.seed == cells[-1].seed]
    last = sorted(late, key=lambda cell: objective_info(cell.objective).cost)[:count][::-1]
    return (*(cell for cell in cells if cell not in last), *last)


def distinct(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Each cell once, at its first position."""
    return tuple(dict.fromkeys(cells))
