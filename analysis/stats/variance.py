"""Components of variance (between cells, between seeds, residual), and the value of common random numbers.

A hierarchical model of a grid, and the spread over seeds of paired and of unpaired differences. Values are in the unit
of the metric (F1 as a fraction); spreads are standard deviations.
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

# Added to the residual sum of squares of values with a mean square of 1. Otherwise the likelihood has no maximum if
# cells and seeds explain everything.
_LEAST = 1e-6

# Natural logarithm of the largest spread relative to the residual; `_LEAST` keeps the maximum well below it.
_LARGEST = 12.0


@dataclass(frozen=True, kw_only=True)
class Components:
    """The mean of a grid and the components of its spread; NaN if the grid does not determine them.

    `low` and `high` are for the long-run mean of other cells and seeds of this kind, so they include the spread between
    cells. Those of `mean_over_grid` are for the mean of this particular grid.
    """

    mean: float
    low: float = math.nan
    high: float = math.nan
    error: float = math.nan
    """Standard error of `mean`."""
    freedom: float = math.nan
    """Degrees of freedom of `error`, after Satterthwaite."""
    between_cells: float = math.nan
    """Standard deviation of the means of cells."""
    between_seeds: float = math.nan
    """Standard deviation of the effect of a seed on all cells."""
    residual: float = math.nan
    """Standard deviation of the effect of a seed on a single cell."""


def components(values: pd.DataFrame, *, level: float = LEVEL) -> Components:
    """The variance components of a grid: value = mean + cell + seed + rest, with a variance for each random part.

    `values` as for `mean_over_grid`; cells with one seed are included. The variances maximise the restricted likelihood
    (REML) among non-negative ones. On a complete grid they are those of the analysis of variance, except that a mean
    square below that of the rest is pooled with it. The degrees of freedom are Satterthwaite's for the mean squares of
    a complete grid with these variances, and at least those of cells or seeds, whichever are fewer.
    """
    matrix = seed_cell_matrix(values)
    known = ~np.isnan(matrix)
    seeds, cells = matrix.shape
    size = int(known.sum())
    plain = float(np.nanmean(matrix, axis=0).mean()) if size else math.nan
    if size == 0 or min(cells, seeds) < 2 or size <= cells + seeds - 1:
        return Components(mean=plain)
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
        error=error,
        freedom=freedom,
        between_cells=math.sqrt(of_cells),
        between_seeds=math.sqrt(of_seeds),
        residual=math.sqrt(rest),
    )


def reml_complete(matrix: np.ndarray) -> tuple[float, float, float, float, float]:
    """Mean, variances between cells, between seeds and of the rest, and error of the mean; seeds x cells without NaN.

    Closed form from mean squares. Those that would make a variance negative are pooled with the rest, smallest first.
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
    """As `reml_complete`, for a matrix with NaN: maximises the restricted likelihood over the relative spreads.

    Cells are eliminated in closed form, so a step costs only cells x seeds^2.
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

    # The likelihood is flat for tiny spreads and for a tiny rest, so the search starts at the best point of a coarse
    # grid.
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
    """log |V|, 1' V^-1 1, 1' V^-1 y and y' V^-1 y for the covariance V in units of the residual variance.

    `known` and `values` (0 if not known) are seeds x cells; t and u are the spreads between cells and between seeds,
    relative to the residual. By Woodbury's identity, eliminating the diagonal block of the cells first.
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
    """The value of common random numbers: the spread over seeds of noisy minus exposure, paired by seed and unpaired.

    One row for each dataset and objective, from complete pairs in cells with two or more such seeds. Raises as
    `noisy_minus`. Columns, null with fewer than two seeds, for a single cell (pooled over cells by degrees of freedom)
    and, with the prefix `grid_`, for the mean over the grid:

    - `paired`: the standard deviation over seeds of the difference (for the grid, in units of one seed);
    - `unpaired`: that of a difference of independent seeds, from the variances of the same scores;
    - `correlation`: between noisy and exposure over seeds;
    - `width_ratio`: paired / unpaired, above 1 if pairing widens the interval (negative correlation);
    - `worth`: 1 / width_ratio^2, the number of unpaired seeds with the same error as one paired seed;
    - `seeds`: the number of seeds, only once.
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
    """The columns of `pairing_gain` for the complete pairs of one objective, in cells with two or more seeds."""
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
    """The variances of noisy and exposure, and their covariance."""
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
