"""Components of variance between cells, between seeds and of the rest, and what common random numbers are worth.

A hierarchical model of a grid, and the spread over seeds of paired and of unpaired differences. Values are in the
metric's unit (F1 as a fraction), spreads are standard deviations in it.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize, special

from analysis.names import LEVEL
from analysis.stats.differences import noisy_minus_exposure
from analysis.stats.intervals import seed_cell_matrix, seed_influence

_GROUP = ["dataset", "objective"]

# Added to the sum of squares of the rest, of values with a mean square of 1: where cells and seeds explain all, the
# likelihood would have no maximum.
_LEAST = 1e-6

# Natural logarithm of the largest spread relative to the rest's; `_LEAST` keeps the maximum well below it.
_LARGEST = 12.0


@dataclass(frozen=True, kw_only=True)
class Components:
    """A grid's mean and the parts of its spread; NaN where the grid cannot tell them.

    `low` and `high` are for the mean that further cells and seeds like these have in the long run, so that they count
    the spread between cells; those of `mean_over_grid` are for the mean of this very grid.
    """

    mean: float
    low: float
    high: float
    level: float
    error: float
    """Standard error of `mean`."""
    freedom: float
    """Degrees of freedom of `error`, after Satterthwaite."""
    between_cells: float
    """Standard deviation of the cells' own means."""
    between_seeds: float
    """Standard deviation of what a seed does to all cells alike."""
    residual: float
    """Standard deviation of the rest: what a seed does to one cell."""
    cells: int
    seeds: int
    values: int
    method: str
    """"REML", or why there are no components."""


def components(values: pd.DataFrame, *, level: float = LEVEL) -> Components:
    """The spread of a grid in parts: value = mean + cell + seed + rest, each random with a variance of its own.

    `values` as for `mean_over_grid`. The variances have the greatest restricted likelihood (REML) among those that are
    not negative; on a complete grid they are the analysis of variance's, a mean square that falls below the rest's
    being pooled with it. The degrees of freedom are Satterthwaite's for the mean squares that a complete grid with
    these variances would have, and not below those of the smaller of cells and seeds. Cells of one seed take part.
    """
    matrix = seed_cell_matrix(values)
    known = ~np.isnan(matrix)
    seeds, cells = matrix.shape
    size = int(known.sum())
    plain = float(np.nanmean(matrix, axis=0).mean()) if size else math.nan
    if size == 0 or min(cells, seeds) < 2 or size <= cells + seeds - 1:
        return _unknown(plain, level, matrix.shape, size)
    slack = 64 * np.finfo(float).eps * max(1.0, float(np.nanmax(np.abs(matrix))))
    if np.nanmax(matrix) - np.nanmin(matrix) <= slack:
        mean, of_cells, of_seeds, rest, error = plain, 0.0, 0.0, 0.0, 0.0
    elif known.all():
        mean, of_cells, of_seeds, rest, error = reml_complete(matrix)
    else:
        mean, of_cells, of_seeds, rest, error = reml_incomplete(matrix)
    freedom = _freedom(matrix.shape, size, of_cells, of_seeds, rest)
    half = special.stdtrit(freedom, (1 + level) / 2) * error
    return Components(
        mean=mean,
        low=float(mean - half),
        high=float(mean + half),
        level=level,
        error=error,
        freedom=freedom,
        between_cells=math.sqrt(of_cells),
        between_seeds=math.sqrt(of_seeds),
        residual=math.sqrt(rest),
        cells=cells,
        seeds=seeds,
        values=size,
        method="REML",
    )


def reml_complete(matrix: np.ndarray) -> tuple[float, float, float, float, float]:
    """Mean, variances between cells, between seeds and of the rest, and the mean's error, of seeds x cells without NaN.

    Closed form: mean squares, those that would make a variance negative pooled with the rest's, the smallest first.
    """
    seeds, cells = matrix.shape
    mean = matrix.mean()
    by_cell, by_seed = matrix.mean(axis=0) - mean, matrix.mean(axis=1) - mean
    squares = {"cells": seeds * (by_cell**2).sum(), "seeds": cells * (by_seed**2).sum()}
    freedom = {"cells": cells - 1, "seeds": seeds - 1}
    pooled = ((matrix - mean - by_cell - by_seed[:, None]) ** 2).sum()
    pooled_freedom = (cells - 1) * (seeds - 1)
    for name in sorted(squares, key=lambda name: squares[name] / freedom[name]):
        if squares[name] / freedom[name] <= pooled / pooled_freedom:
            pooled += squares.pop(name)
            pooled_freedom += freedom[name]
    rest = pooled / pooled_freedom
    of_cells = (squares["cells"] / freedom["cells"] - rest) / seeds if "cells" in squares else 0.0
    of_seeds = (squares["seeds"] / freedom["seeds"] - rest) / cells if "seeds" in squares else 0.0
    error = math.sqrt(of_cells / cells + of_seeds / seeds + rest / (cells * seeds))
    return float(mean), float(of_cells), float(of_seeds), float(rest), error


def reml_incomplete(matrix: np.ndarray) -> tuple[float, float, float, float, float]:
    """As `reml_complete`, of a matrix with NaN: maximises the restricted likelihood over the relative spreads.

    Cells are eliminated in closed form, so that a step costs cells x seeds^2, however many cells there are.
    """
    known = ~np.isnan(matrix)
    size = int(known.sum())
    center = float(np.nanmean(matrix))
    values = np.nan_to_num(matrix - center)
    scale = float(np.sqrt((values**2).sum() / size))
    values = values / scale

    def variance(ones: float, cross: float, squares: float) -> float:
        return (max(squares - cross**2 / ones, 0) + _LEAST) / (size - 1)

    def deviance(ratios: np.ndarray) -> float:
        logarithm, ones, cross, squares = _forms(known, values, *ratios)
        return logarithm + math.log(ones) + (size - 1) * math.log(variance(ones, cross, squares))

    def of_logarithms(logarithms: np.ndarray) -> float:
        return deviance(np.exp(logarithms))

    # Flat where a spread is next to nothing or the rest is: the best of a coarse grid is where the search begins.
    grid = itertools.product(np.arange(-4.0, _LARGEST, 2), repeat=2)
    start = min((np.array(pair) for pair in grid), key=of_logarithms)
    options = {"xatol": 1e-5, "fatol": 1e-9, "initial_simplex": start + np.array([[0, 0], [1, 0], [0, 1]])}
    bounds = [(-_LARGEST, _LARGEST)] * 2
    optimum = optimize.minimize(of_logarithms, start, method="Nelder-Mead", bounds=bounds, options=options)
    t, u = np.exp(optimum.x)
    t, u = min(itertools.product((0.0, t), (0.0, u)), key=lambda pair: round(deviance(np.array(pair)), 7))
    _, ones, cross, squares = _forms(known, values, t, u)
    rest = variance(ones, cross, squares)
    parts = (float(scale**2 * rest * part) for part in (t**2, u**2, 1.0, 1 / ones))
    of_cells, of_seeds, rest, squared = parts
    return center + scale * cross / ones, of_cells, of_seeds, rest, math.sqrt(squared)


def _forms(known: np.ndarray, values: np.ndarray, t: float, u: float) -> tuple[float, float, float, float]:
    """Of the covariance V in units of the rest's variance: log |V|, 1' V^-1 1, 1' V^-1 y and y' V^-1 y.

    `known` and `values` (0 where not known) are seeds x cells, t and u the spreads between cells and between seeds
    relative to the rest's. By Woodbury's identity, with the cells' block, which is diagonal, eliminated first.
    """
    diagonal = 1 + t**2 * known.sum(axis=0)
    link = t * u * known
    factor = np.linalg.cholesky(np.diag(1 + u**2 * known.sum(axis=1)) - (link / diagonal) @ link.T)
    sums = [(t * part.sum(axis=0), u * part.sum(axis=1)) for part in (known, values)]
    solved = [np.linalg.solve(factor, by_seed - link @ (by_cell / diagonal)) for by_cell, by_seed in sums]

    def form(i: int, j: int, plain: float) -> float:
        return float(plain - (sums[i][0] / diagonal) @ sums[j][0] - solved[i] @ solved[j])

    logarithm = float(np.log(diagonal).sum() + 2 * np.log(np.diag(factor)).sum())
    return logarithm, form(0, 0, known.sum()), form(0, 1, values.sum()), form(1, 1, (values**2).sum())


def pairing_gain(records: pd.DataFrame, metric: str = "test_f1_macro") -> pd.DataFrame:
    """What common random numbers are worth: the spread over seeds of noisy - exposure, paired by seed and not.

    A row per dataset and objective, over the pairs of which both halves are done, of cells with two such seeds or more.
    For a single cell, pooled over cells by their degrees of freedom, and (`grid_...`) for the mean over the grid:
    `paired` the standard deviation over seeds of the difference, `unpaired` that of a difference of independent seeds
    (from the variances of the same scores), `correlation` of the halves over seeds, `width_ratio` = paired / unpaired,
    `worth` = 1 / width_ratio^2: as many unpaired seeds give the error of one paired seed. Beyond 1 the ratio says that
    pairing widens (a correlation below 0). `grid_paired` and `grid_unpaired` are in units of one seed; `seeds` is their
    number. Null with fewer than two seeds. Raises as `noisy_minus_exposure`.
    """
    differences = noisy_minus_exposure(records, metric)
    rows = []
    for (dataset, objective), part in differences.groupby(_GROUP):
        whole = part.dropna(subset="difference")
        whole = whole[whole.groupby(["rho", "nu"])["seed"].transform("size") > 1]
        rows.append({"dataset": dataset, "objective": objective, "seeds": whole["seed"].nunique(), **_gain(whole)})
    columns = ["dataset", "objective", "seeds", *_gain(differences.iloc[:0])]
    return pd.DataFrame(rows, columns=columns)


def _gain(whole: pd.DataFrame) -> dict[str, float]:
    """The figures of `pairing_gain` of one objective's complete pairs, in cells of two seeds or more."""
    if whole.empty:
        return {f"{of}{name}": value for of in ("", "grid_") for name, value in _ratios(*(math.nan,) * 3).items()}
    cell = whole.groupby(["rho", "nu"]).ngroup()
    halves = [seed_cell_matrix(whole[["seed"]].assign(cell=cell, value=whole[name])) for name in ("noisy", "exposure")]
    rests = [np.nan_to_num(half - np.nanmean(half, axis=0)) for half in halves]
    freedom = len(whole) - halves[0].shape[1]
    single = _ratios(*_products(rests[0], rests[1], freedom))
    moved = [seed_influence(half) for half in halves]
    grid = _ratios(*_products(moved[0][0], moved[1][0], 1 / moved[0][1]))
    return single | {f"grid_{name}": value for name, value in grid.items()}


def _products(noisy: np.ndarray, exposure: np.ndarray, divisor: float) -> tuple[float, float, float]:
    """Variances of the halves and their covariance."""
    pairs = ((noisy, noisy), (exposure, exposure), (noisy, exposure))
    first, second, both = (float((a * b).sum() / divisor) for a, b in pairs)
    return first, second, both


def _ratios(noisy: float, exposure: float, both: float) -> dict[str, float]:
    apart = noisy + exposure
    paired = max(apart - 2 * both, 0.0) if not math.isnan(apart) else math.nan
    ratio = math.sqrt(paired / apart) if apart > 0 else math.nan
    product = math.sqrt(noisy * exposure) if apart > 0 else math.nan
    return {
        "paired": math.sqrt(paired),
        "unpaired": math.sqrt(apart),
        "correlation": both / product if product > 0 else math.nan,
        "width_ratio": ratio,
        "worth": 1 / ratio**2 if ratio > 0 else (math.inf if ratio == 0 else math.nan),
    }


def _freedom(shape: tuple[int, int], size: int, of_cells: float, of_seeds: float, rest: float) -> float:
    seeds, cells = shape
    least = min(cells, seeds) - 1
    squares = (rest + size / cells * of_cells, rest + size / seeds * of_seeds, rest)
    if not any(squares):
        return float(least)
    freedoms = (cells - 1, seeds - 1, size - cells - seeds + 1)
    below = sum(square**2 / freedom for square, freedom in zip(squares, freedoms, strict=True))
    return float(max(least, (squares[0] + squares[1] - squares[2]) ** 2 / below))


def _unknown(mean: float, level: float, shape: tuple[int, int], size: int) -> Components:
    seeds, cells = shape
    unknown = "one seed" if seeds == 1 else "one cell" if cells == 1 else "too few cells share seeds"
    return Components(
        mean=mean,
        **dict.fromkeys(("low", "high", "error", "freedom", "between_cells", "between_seeds", "residual"), math.nan),
        level=level,
        cells=cells,
        seeds=seeds,
        values=size,
        method=f"no components: {unknown}" if size else "no value",
    )
