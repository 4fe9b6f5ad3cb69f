"""Inference: corrected tests of each cell, non-inferiority, the gain over random, the trend in rho.

Values are in the unit of the metric (F1 as a fraction); slopes are per unit of rho, the change from rho 0 to rho 1.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import special, stats

from analysis.names import BASELINES, LEVEL, MARGIN
from analysis.stats.differences import against_random, comparable, difference_by_objective
from analysis.stats.intervals import Estimate, further_seeds, mean_over_grid
from analysis.stats.variance import components

#: The columns of a grid point. With a seed, it is a row of `analysis.stats.differences.noisy_minus_exposure`.
CELL = ("dataset", "objective", "rho", "nu")

_GROUP = ["dataset", "objective"]

# Values of a cell that differ by less than this are equal except for rounding.
_ROUNDING = 64 * np.finfo(float).eps

Verdict = Literal["better", "not worse", "worse", "undecided"]


def noninferiority(estimate: Estimate, *, margin: float = MARGIN) -> Verdict:
    """The verdict on a difference from its interval: low > 0, low > -margin, high < -margin, or none of these.

    A 95% interval errs with 2.5% at each end. Without an interval the verdict is undecided. Raises `ValueError` for a
    margin that is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin is {margin}, use a number above 0, such as {MARGIN} for one point")
    if estimate.low > 0:
        return "better"
    if estimate.low > -margin:
        return "not worse"
    return "worse" if estimate.high < -margin else "undecided"


def by_cell(
    differences: pd.DataFrame, *, by: Sequence[str] = CELL, value: str = "difference", level: float = LEVEL
) -> pd.DataFrame:
    """One row per cell: its mean over seeds with the t interval, and p of a mean of 0, corrected for the cells.

    Columns: those of `by`; `estimate`, `low`, `high`, `error`; the numbers `n` of values and `missing` of rows without
    a value; `p`; `p_holm` (controls any false finding among all cells, for any dependence); `p_bh` (controls the
    expected share of false findings). `low` to `p_bh` are null for n < 2. Corrections are over the rows with a p.

    Args:
        differences: with a column `seed`.
        by: the columns that identify a cell.
        value: the column of values.
        level: of the interval.

    Raises:
        ValueError: a cell has two rows of one seed.
    """
    if differences.duplicated([*by, "seed"]).any():
        raise ValueError(f"{', '.join(by)} do not identify cells: a cell has two rows of one seed")
    grouped = differences.astype({value: float}).groupby([*by], dropna=False)[value]
    statistics = {
        "estimate": "mean",
        "spread": "std",
        "largest": "max",
        "smallest": "min",
        "n": "count",
        "rows": "size",
    }
    table = grouped.agg(list(statistics.values())).set_axis(list(statistics), axis=1).reset_index()
    spread = table["spread"].to_numpy(copy=True)
    size = np.maximum(np.maximum(table["largest"].abs(), table["smallest"].abs()), 1)
    spread[(table["largest"] - table["smallest"] <= _ROUNDING * size).to_numpy() & ~np.isnan(spread)] = 0
    n, estimate = table["n"].to_numpy(), table["estimate"].to_numpy()
    error = spread / np.sqrt(np.maximum(n, 1))
    freedom = np.maximum(n - 1, 1)
    half = special.stdtrit(freedom, (1 + level) / 2) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * special.stdtr(freedom, -np.abs(estimate) / error)
    p[(error == 0) & (np.abs(estimate) <= _ROUNDING)] = 1
    table = table.assign(low=estimate - half, high=estimate + half, error=error, missing=table["rows"] - n, p=p)
    table["p_holm"], table["p_bh"] = holm(p), benjamini_hochberg(p)
    return table[[*by, "estimate", "low", "high", "error", "n", "missing", "p", "p_holm", "p_bh"]]


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of p-values, in their order; NaN is not a comparison and remains NaN."""
    corrected = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return corrected


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's correction for the false discovery rate; NaN is not a comparison and remains NaN."""
    corrected = np.full(len(p), np.nan)
    known = ~np.isnan(p)
    if known.any():
        corrected[known] = stats.false_discovery_control(p[known])
    return corrected


def by_objective(differences: pd.DataFrame, *, level: float = LEVEL) -> pd.DataFrame:
    """The paper's table, with intervals over seeds: one row for each dataset and objective of `noisy_minus_exposure`.

    Columns: those of `difference_by_objective` (`mean` and `std` over the grid, as in the paper); `low`, `high`, `p`
    and `p_exact` of `mean_over_grid`; `between_cells`, `between_seeds` and `residual` of `components`; `further_low`
    and `further_high`, its interval for other cells and seeds of this kind; `halve`, the number of further seeds that
    would halve the first interval (null if there is no spread to judge by, or if it takes too many).
    """
    table = difference_by_objective(differences)
    cell = differences.groupby(["rho", "nu"], dropna=False).ngroup()
    values = differences[[*_GROUP, "seed"]].assign(cell=cell, value=differences["difference"])
    parts = dict(iter(values.groupby(_GROUP)))
    rows = [_statistics(parts[key], level) for key in zip(table["dataset"], table["objective"], strict=True)]
    statistics = pd.DataFrame(rows, columns=list(_statistics(values.iloc[:0], level)), index=table.index)
    return table.join(statistics.astype({"halve": "Int64"}))


def _statistics(values: pd.DataFrame, level: float) -> dict[str, Any]:
    estimate, parts = mean_over_grid(values, level=level), components(values, level=level)
    halve = further_seeds(estimate)
    return {
        **{name: getattr(estimate, name) for name in ("low", "high", "p", "p_exact")},
        **{name: getattr(parts, name) for name in ("between_cells", "between_seeds", "residual")},
        "further_low": parts.low,
        "further_high": parts.high,
        "halve": pd.NA if halve is None else halve,
    }


def gain_over_random(records: pd.DataFrame, metric: str = "test_f1_macro", *, level: float = LEVEL) -> pd.DataFrame:
    """The score at rho 0 minus that of the random encoder, over seeds: one row for each loss and other baseline.

    Columns: objective, `estimate`, `low`, `high` (null without an interval), `seeds`. Raises as `comparable`.
    """
    rows = []
    for objective, part in against_random(records, metric).groupby("objective"):
        gain = mean_over_grid(part[["seed"]].assign(cell=0, value=part["difference"]), level=level)
        rows.append({**vars(gain), "objective": objective})
    return pd.DataFrame(rows, columns=["objective", "estimate", "low", "high", "seeds"])


def losses_without_gain(records: pd.DataFrame, metric: str = "test_f1_macro", *, level: float = LEVEL) -> list[str]:
    """The losses not shown to beat the random encoder: their interval (or one seed) reaches 0 or below.

    Empty without a random encoder.
    """
    gains = gain_over_random(records, metric, level=level)
    gains = gains[~gains["objective"].isin(BASELINES) & gains["estimate"].notna()]
    return gains.loc[gains["low"].fillna(gains["estimate"]) <= 0, "objective"].tolist()


def trend_in_rho(records: pd.DataFrame, metric: str = "test_f1_macro", *, level: float = LEVEL) -> pd.DataFrame:
    """The least-squares slope of the score in rho, including rho 0: of each seed, then their mean with its interval.

    One row for each dataset, objective, pairing and nu, and one with null nu for the mean slope over nu. A loss without
    noisy pairs has one row with pairing `none`. The cell at rho 0 is used for each nu and pairing. If a level has one
    seed and others have more, it is left out; then seeds without all levels are left out, because their slope would be
    a different quantity. Columns: `estimate`, `low`, `high`, `p` and `method` (or the reason for a null) of
    `mean_over_grid` over nu; `p_page`, of Page's test for a monotone trend, two-sided, exact up to 12 seeds and 8
    levels, of the mean over nu (null below 3 levels or 2 seeds); the numbers of `levels` of rho, of `seeds` and of
    `missing` values. Raises as `comparable`.
    """
    cells = comparable(records, metric)
    cells = cells[~cells["objective"].isin(BASELINES)].rename(columns={metric: "value"})
    rows = []
    for (dataset, objective), part in cells.groupby(_GROUP):
        clean, noisy = part[part["rho"] == 0], part[part["rho"] > 0]
        if noisy.empty:
            rows.append({"dataset": dataset, "objective": objective, "pairing": "none", **_slope([clean], level)})
        for pairing, same in noisy.groupby("pairing"):
            curves = {nu: pd.concat([clean, curve]) for nu, curve in same.groupby("nu")}
            where = {"dataset": dataset, "objective": objective, "pairing": pairing}
            rows += [{**where, "nu": nu, **_slope([curve], level)} for nu, curve in curves.items()]
            rows.append({**where, **_slope(list(curves.values()), level)})
    columns = ["dataset", "objective", "pairing", "nu", *_slope([cells.iloc[:0]], level)]
    return pd.DataFrame(rows, columns=columns)


def _slope(curves: Sequence[pd.DataFrame], level: float) -> dict[str, Any]:
    """The mean slope of curves, each a frame of seed, rho and value with one value per seed and rho."""
    tables = [curve.pivot(index="seed", columns="rho", values="value").astype(float) for curve in curves]
    wholes = [whole for table in tables if (whole := _complete(table)).size and whole.shape[1] > 1]
    slopes = [pd.DataFrame({"cell": i, "value": whole @ _contrast(whole)}) for i, whole in enumerate(wholes)]
    values = pd.concat([pd.DataFrame({"cell": [], "value": []}), *slopes]) if not slopes else pd.concat(slopes)
    slope = mean_over_grid(values.rename_axis("seed").reset_index(), level=level)
    known = any(table.notna().any(axis=None) for table in tables)
    several = max(table.count().astype(bool).sum() for table in tables) > 1
    reason = "no value" if not known else "no slope: " + ("no seed has all levels" if several else "one level of rho")
    return {
        **{name: getattr(slope, name) for name in ("estimate", "low", "high", "p")},
        "p_page": _page(wholes),
        "levels": len(set().union(*(whole.columns for whole in wholes))),
        "seeds": slope.seeds,
        "missing": sum(int(table.isna().to_numpy().sum()) for table in tables),
        "method": slope.method if wholes else reason,
    }


def _complete(table: pd.DataFrame) -> pd.DataFrame:
    """The seeds with all levels (columns), after dropping levels with one seed if others have more."""
    counts = table.count()
    return table.loc[:, counts > int((counts > 1).any())].dropna()


def _contrast(table: pd.DataFrame) -> np.ndarray:
    """The weights of the columns, which are levels of rho, in the least-squares slope."""
    rho = table.columns.to_numpy(dtype=float)
    return (rho - rho.mean()) / ((rho - rho.mean()) ** 2).sum()


def _page(wholes: Sequence[pd.DataFrame]) -> float:
    """Two-sided p of Page's test on the mean of tables (seeds x levels); NaN if they have too few in common."""
    if not wholes:
        return float("nan")
    seeds = set.intersection(*(set(whole.index) for whole in wholes))
    levels = set.intersection(*(set(whole.columns) for whole in wholes))
    if len(seeds) < 2 or len(levels) < 3:
        return float("nan")
    mean = np.mean([whole.loc[sorted(seeds), sorted(levels)] for whole in wholes], axis=0)
    sides = [stats.page_trend_test(table).pvalue for table in (mean, mean[:, ::-1])]
    return float(min(1.0, 2 * min(sides)))
