"""Intervals of a mean over a grid, over seeds.

All cells of a seed share scenes, initial weights and draws (common random numbers), so their errors are not
independent: the unit of replication is the seed, not the cell. Values are in the unit of the metric (F1 as a fraction).
"""

import math
import warnings
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import special, stats

from analysis.names import LEVEL

#: With at least this many seeds the interval is a bootstrap's; with fewer, that would be too narrow.
BOOTSTRAP_FROM = 10

#: With more seeds the bootstrap agrees with t, and is slow.
BOOTSTRAP_UP_TO = 200

#: Number of resamples of the bootstrap, and of sign flips if they are random.
RESAMPLES = 9_999

#: Up to this number of seeds, all sign flips are used (2**14 = 16,384).
FLIPS_UP_TO = 14

#: Seed of the bootstrap and of random sign flips, so that the same records give the same interval.
RANDOM_SEED = 20_221_113

#: Largest number of further seeds that is reported.
FURTHER_UP_TO = 1_000

# Each end of an interval needs this many resamples beyond it.
_TAIL = 10

# Relative differences up to this size are rounding, not spread.
_ROUNDING = 64 * np.finfo(float).eps


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over a grid and its interval; `low` and `high` are NaN if there is none."""

    estimate: float
    low: float = math.nan
    high: float = math.nan
    level: float
    error: float = math.nan
    """Standard error; NaN without an interval."""
    freedom: float = math.nan
    """Degrees of freedom of the error, effective seeds minus 1; NaN without an interval."""
    p: float = math.nan
    """Two-sided p of a mean of 0, from the t distribution; NaN without an interval."""
    p_exact: float = math.nan
    """The same from sign flips of whole seeds, without assuming a normal distribution. At least 2**(1 - seeds)."""
    method: str
    """How the interval was computed, or why there is none."""
    cells: int
    """Cells in the mean."""
    seeds: int
    """Distinct seeds in the mean."""
    values: int
    left_out: int
    """Cells with a value of one seed if others have more; they are excluded from mean and interval."""


def mean_over_grid(values: pd.DataFrame, *, level: float = LEVEL, bootstrap: bool = True) -> Estimate:
    """The mean over cells of each cell's mean over seeds, with an interval over seeds.

    `values` has the columns `cell` (any label), `seed` and `value`; NaN values are ignored. With r the values minus the
    mean of their cell, C cells and n_c seeds in cell c, seed s moves the mean by
    u_s = sum_c sqrt(n_c / (n_c - 1)) r_cs / (C n_c). The error is sqrt(sum_s u_s^2), the effective seeds are
    1 / sum_s w_s^2, where w_s = sum_c 1 / (C n_c) over the cells that have the seed. On a complete grid this is the t
    interval over the seeds' grid means. From `BOOTSTRAP_FROM` to `BOOTSTRAP_UP_TO` seeds the interval is that of `bca`,
    unless `bootstrap` is false.
    Raises `ValueError` for two values of one cell and seed, and for a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level is {level}, use a number between 0 and 1")
    matrix = seed_cell_matrix(values)
    several = (~np.isnan(matrix)).sum(axis=0) > 1
    if not several.any() or several.all():
        return mean_of_matrix(matrix, level=level, bootstrap=bootstrap)
    matrix = matrix[:, several]
    matrix = matrix[~np.isnan(matrix).all(axis=1)]
    return mean_of_matrix(matrix, level=level, left_out=int((~several).sum()), bootstrap=bootstrap)


def seed_cell_matrix(values: pd.DataFrame) -> np.ndarray:
    """`values` (see `mean_over_grid`) as a matrix, seeds x cells, NaN if missing, without empty rows or columns."""
    number = pd.to_numeric(values["value"]).to_numpy(dtype=float, na_value=np.nan)
    known = values[~np.isnan(number)]
    cell, cells = pd.factorize(known["cell"], use_na_sentinel=False)
    seed, seeds = pd.factorize(known["seed"], sort=True)
    counts = np.bincount(seed * len(cells) + cell, minlength=len(seeds) * len(cells)).reshape(len(seeds), len(cells))
    if (counts > 1).any():
        s, c = np.argwhere(counts > 1)[0]
        raise ValueError(f"cell {cells[c]} has {counts[s, c]} values of seed {seeds[s]}: pass one")
    matrix = np.full(counts.shape, np.nan)
    matrix[seed, cell] = number[~np.isnan(number)]
    return matrix


def mean_of_matrix(matrix: np.ndarray, *, level: float = LEVEL, left_out: int = 0, bootstrap: bool = True) -> Estimate:
    """`mean_over_grid` of a matrix, seeds x cells, NaN if missing, without empty rows or columns.

    Either all cells have two or more values, or all have one. `left_out` is copied to the result.
    """
    counts = (~np.isnan(matrix)).sum(axis=0)
    single = Estimate(
        estimate=float(np.nanmean(matrix, axis=0).mean()) if matrix.size else math.nan,
        level=level,
        method="no interval: one seed" if matrix.size else "no value",
        cells=matrix.shape[1],
        seeds=matrix.shape[0],
        values=int(counts.sum()),
        left_out=left_out,
    )
    return single if matrix.size == 0 or counts.max() < 2 else _with_interval(single, matrix, bootstrap)


def seed_influence(matrix: np.ndarray) -> tuple[np.ndarray, float]:
    """The influence of each seed on the mean over cells, and the number of effective seeds.

    The influence is u of `mean_over_grid`; its norm is the error. `matrix` is seeds x cells, NaN if missing; each cell
    has two or more values.
    """
    counts = (~np.isnan(matrix)).sum(axis=0)
    weights = _weights(matrix)
    rests = np.nan_to_num(matrix - np.nanmean(matrix, axis=0))
    return (np.sqrt(counts / (counts - 1)) * weights * rests).sum(axis=1), _effective(weights)


def bca(matrix: np.ndarray, *, level: float = LEVEL, resamples: int = RESAMPLES) -> tuple[float, float]:
    """The ends of the bias-corrected and accelerated bootstrap interval (Efron 1987) of a mean over a grid.

    `matrix` is seeds x cells, NaN if missing, without empty rows or columns. Whole seeds are drawn with all their
    cells, and each cell keeps its weight. A resample without any seed of a cell omits that cell. The level is expanded
    as Hesterberg (2015, The American Statistician 69) does for percentiles, because the variance of a bootstrap is too
    small by (n - 1) / n and its quantiles are normal: at 10 seeds 95% would be 90%. The random seed is `RANDOM_SEED`.
    The result is NaN if all resamples are equal, or if fewer than `_TAIL` are beyond an end.
    """
    effective = _effective(_weights(matrix))
    end = math.sqrt(effective / (effective - 1)) * special.stdtrit(effective - 1, (1 + level) / 2)
    if special.ndtr(-end) * resamples < _TAIL:
        return math.nan, math.nan
    # Cells with the same seeds share their counts, so a complete grid is resampled as a single column.
    patterns, which, cells = np.unique(~np.isnan(matrix), axis=1, return_inverse=True, return_counts=True)
    totals = np.stack([np.nansum(matrix[:, which == i], axis=1) for i in range(len(cells))], axis=1)
    seeds = len(matrix)

    def mean(drawn: np.ndarray, axis: int = -1) -> np.ndarray:
        places = drawn.reshape(-1, drawn.shape[axis])
        places = places + seeds * np.arange(len(places))[:, None]
        counts = np.bincount(places.ravel(), minlength=seeds * len(places)).reshape(*drawn.shape[:-1], seeds)
        present = counts @ patterns
        sums = (counts @ totals / np.maximum(present, 1)).sum(axis=-1)
        return sums / ((present > 0) @ cells)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        result = stats.bootstrap(
            (np.arange(seeds),),
            mean,
            n_resamples=resamples,
            confidence_level=1 - 2 * special.ndtr(-end),
            method="BCa",
            vectorized=True,
            rng=np.random.default_rng(RANDOM_SEED),
        )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def sign_flip_p(shares: np.ndarray) -> float:
    """Two-sided p of a sum of 0, by flipping the signs of the shares of seeds; NaN below two seeds.

    It is exact, from all 2^n flips, up to `FLIPS_UP_TO` shares; with more, it uses `RESAMPLES` random flips. The null
    hypothesis is only that the share of a seed is as likely as its negative.
    """
    seeds = len(shares)
    if seeds < 2:
        return math.nan
    if seeds <= FLIPS_UP_TO:
        signs = 1 - 2 * (np.arange(2**seeds)[:, None] >> np.arange(seeds) & 1)
    else:
        drawn = np.random.default_rng(RANDOM_SEED).integers(2, size=(RESAMPLES + 1, seeds), dtype=np.int8)
        signs = 2 * drawn - 1
        signs[0] = 1
    # Sums that differ only by rounding count as equal.
    slack = _ROUNDING * np.abs(shares).sum()
    return float((np.abs(signs @ shares) >= abs(shares.sum()) - slack).mean())


def further_seeds(estimate: Estimate, *, threshold: float | None = None) -> int | None:
    """The number of further seeds of every cell that would halve the interval or move it off a threshold.

    It assumes that the estimate and the spread between seeds stay the same. 0 if no further seed is needed. None if
    there is one seed (`error` is NaN), or if it takes more than `FURTHER_UP_TO`.
    """
    if math.isnan(estimate.error):
        return None
    if threshold is not None and not estimate.low <= threshold <= estimate.high:
        return 0
    seeds = estimate.freedom + 1 + np.arange(1, FURTHER_UP_TO + 1)
    spread = estimate.error * math.sqrt(estimate.freedom + 1)
    widths = special.stdtrit(seeds - 1, (1 + estimate.level) / 2) * spread / np.sqrt(seeds)
    if threshold is None:
        if estimate.error == 0:
            return 0
        enough = widths <= special.stdtrit(estimate.freedom, (1 + estimate.level) / 2) * estimate.error / 2
    else:
        enough = widths < abs(estimate.estimate - threshold)
    return int(np.argmax(enough)) + 1 if enough.any() else None


def further_seeds_text(estimate: Estimate, *, threshold: float | None = None) -> str:
    """`further_seeds` as a phrase, such as "about 4 further seeds", or why there is no number."""
    number = further_seeds(estimate, threshold=threshold)
    if number is not None:
        return f"about {number} further seed{'' if number == 1 else 's'}" if number else "no further seed"
    if estimate.values == 0:
        return "no value yet"
    if math.isnan(estimate.error):
        return "one seed: run at least two more"
    return f"too close to tell: more than {FURTHER_UP_TO:,} further seeds"


def _weights(matrix: np.ndarray) -> np.ndarray:
    """The weight of each value in the mean over cells; 0 if missing."""
    known = ~np.isnan(matrix)
    return np.where(known, 1 / (matrix.shape[1] * known.sum(axis=0)), 0)


def _effective(weights: np.ndarray) -> float:
    return float(1 / (weights.sum(axis=1) ** 2).sum())


def _with_interval(single: Estimate, matrix: np.ndarray, bootstrap: bool) -> Estimate:
    moved, effective = seed_influence(matrix)
    error, freedom = float(np.sqrt((moved**2).sum())), effective - 1
    flipped = sign_flip_p((np.nan_to_num(matrix) * _weights(matrix)).sum(axis=1))
    known = replace(single, error=error, freedom=freedom, p_exact=flipped, method="t over seeds")
    if error <= _ROUNDING * max(1.0, float(np.nanmax(np.abs(matrix)))):
        p = 1.0 if abs(single.estimate) <= _ROUNDING else 0.0
        return replace(known, error=0.0, low=single.estimate, high=single.estimate, p=p)
    half = special.stdtrit(freedom, (1 + single.level) / 2) * error
    p = float(2 * special.stdtr(freedom, -abs(single.estimate) / error))
    known = replace(known, low=float(single.estimate - half), high=float(single.estimate + half), p=p)
    if not bootstrap or not BOOTSTRAP_FROM <= single.seeds <= BOOTSTRAP_UP_TO:
        return known
    low, high = bca(matrix, level=single.level)
    return known if math.isnan(low + high) else replace(known, low=low, high=high, method="BCa over seeds")
