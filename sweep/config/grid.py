"""Axes -> the distinct cells of a grid."""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import NamedTuple

from datasets.types import Pairing
from trainables.cell import Cell
from trainables.objective_names import objective_info


class Axes(NamedTuple):
    """The values that a grid spans."""

    objectives: tuple[str, ...]
    rho: tuple[float, ...]
    nu: tuple[float, ...]
    pairings: tuple[Pairing, ...]
    seeds: tuple[int, ...]

    @property
    def points(self) -> int:
        """Combinations of values, equivalent ones counted each."""
        return len(self.objectives) * len(self.rho) * len(self.nu) * len(self.pairings) * len(self.seeds)


def expand(axes: Axes, *, dataset: str, recipe: str) -> tuple[Cell, ...]:
    """All distinct cells, one seed after the other, so that a sweep that is cut off has whole seeds.

    Combinations that mean the same (at rho = 0 there is no nu and no pairing) are one cell.

    Args:
        axes: the values.
        dataset: name of the data set.
        recipe: fingerprint of the recipe, part of each cell's key.

    Raises:
        InputError: a value is outside its range.
    """
    combinations = product(axes.seeds, axes.rho, axes.nu, axes.pairings, axes.objectives)
    return distinct(
        Cell(dataset=dataset, objective=objective, rho=rho, nu=nu, pairing=pairing, seed=seed, recipe=recipe)
        for seed, rho, nu, pairing, objective in combinations
    )


def cheapest_last(cells: Sequence[Cell], count: int) -> tuple[Cell, ...]:
    """The cells in their order, but for the `count` cheapest of the last ones, which come at the end.

    Some workers are idle while the last cells run: the shorter those cells, the shorter the wait.
    """
    late = [cell for cell in cells if cell.seed == cells[-1].seed]
    last = sorted(late, key=lambda cell: objective_info(cell.objective).cost)[:count][::-1]
    return (*(cell for cell in cells if cell not in last), *last)


def distinct(cells: Iterable[Cell]) -> tuple[Cell, ...]:
    """Each cell once, at its first place."""
    return tuple(dict.fromkeys(cells))
