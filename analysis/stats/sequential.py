"""Sequential intervals: the confidence level that keeps coverage when the width decides how many seeds are run.

Seeds are added until the half-width of a t interval is below a target. With normal errors the mean is independent of
the variances seen so far, so its sign and size have no influence. But seeds stop when the variance happens to be small,
and then the interval covers less than its level (Chow & Robbins 1965, Annals of Mathematical Statistics 36; Starr 1966,
the same 37). So the level is raised, for every interim interval and the final one, until coverage is at least nominal
for any spread of seeds. The coverage is computed, not simulated.
"""

import math
from functools import lru_cache

import numpy as np
from scipy import optimize, special, stats

from analysis.names import LEVEL

#: Largest number of seeds for which levels are computed.
MOST = 100

# Numbers of bins of the sum of squares, and of ratios of target to spread, at which coverage is computed.
_BINS = 400
_RATIOS = 40

# The level is rounded up to a multiple of this.
_STEP = 1e-4


@lru_cache
def adjusted_level(first: int, most: int, level: float = LEVEL) -> float:
    """The level of t intervals that cover at least `level` when seeds are added until the interval is narrow enough.

    The sweep starts with `first` seeds and has at most `most`; the interval is computed after each. The level holds for
    the worst ratio of target to spread. Raises `ValueError` unless 2 <= first <= most <= `MOST`.
    """
    if not 2 <= first <= most <= MOST:
        raise ValueError(f"first {first} and most {most}: need 2 <= first <= most <= {MOST}")
    if first == most:
        return level

    def excess(logit: float) -> float:
        return float(interval_coverage(first, most, special.expit(logit)).min()) - level

    low, high = (
        special.logit(level),
        special.logit(1 - (1 - level) / (most - first + 1)),
    )  # Bonferroni is an upper bound
    adjusted = special.expit(optimize.brentq(excess, low, high, xtol=1e-4))
    return min(math.ceil(adjusted / _STEP) * _STEP, 1 - _STEP)


def interval_coverage(first: int, most: int, level: float, ratios: np.ndarray | None = None) -> np.ndarray:
    """Coverage of t intervals of this level if seeds are added as for `adjusted_level`, with normal errors.

    Let Y_n be the sum of squares of n seeds about their mean, in units of the variance. Each seed adds an independent
    chi-square with one degree of freedom. The sweep stops at n if Y_n < n (n - 1) (ratio / t_(n-1))^2. Given Y_n, the
    interval covers with probability 2 Phi(t_(n-1) sqrt(Y_n / (n - 1))) - 1. The distribution of Y_n of the sweeps that
    continue is updated from seed to seed in bins.

    Args:
        first: the number of seeds at the start.
        most: the largest number of seeds.
        level: of each interval.
        ratios: targets (half-widths) in standard deviations between seeds; by default the relevant ones.

    Returns:
        Coverage for each ratio, shape (ratios,).
    """
    numbers = np.arange(first, most + 1)
    t = special.stdtrit(numbers - 1, (1 + level) / 2)
    if ratios is None:
        ratios = _relevant_ratios(numbers, t)
    stops = numbers * (numbers - 1) * (np.asarray(ratios, dtype=float)[:, None] / t) ** 2
    edges, middles, moves = _grid(most)
    widths = np.diff(edges)
    law = np.tile(np.diff(stats.chi2.cdf(edges, first - 1)), (len(stops), 1))
    held = np.zeros(len(stops))
    for place, number in enumerate(numbers):
        ends = np.clip((stops[:, place, None] - edges[:-1]) / widths, 0, 1) if number < most else np.ones_like(law)
        hold = 2 * special.ndtr(t[place] * np.sqrt(middles / (number - 1))) - 1
        held += (law * ends) @ hold
        law = (law * (1 - ends)) @ moves
    return held


@lru_cache(maxsize=4)
def _grid(most: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bins of the sum of squares, finer towards 0: edges, middles, and transition probabilities for one more seed.

    The shapes are (bins + 1,), (bins,) and (bins, bins).
    """
    roots = np.linspace(0, math.sqrt(stats.chi2.isf(1e-9, most - 1)), _BINS + 1)
    edges, middles = roots**2, ((roots[1:] + roots[:-1]) / 2) ** 2
    gains = np.maximum(edges - middles[:, None], 0)
    return edges, middles, np.diff(special.chdtr(1, gains), axis=1)


def _relevant_ratios(numbers: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Ratios of target to spread, from almost never stopping before the last seed to almost always at the first."""

    def ratio(place: int, share: float) -> float:
        n = numbers[place]
        return float(t[place] * math.sqrt(stats.chi2.ppf(share, n - 1) / (n * (n - 1))))

    lows = [ratio(place, 1e-3) for place in range(len(numbers) - 1)]
    return np.geomspace(min(lows), ratio(0, 0.999), _RATIOS)
