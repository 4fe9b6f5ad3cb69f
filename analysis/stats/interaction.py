"""The interaction of noisy pairs with a setting that a sweep varies: their effect at each value, and its change.

All cells of a seed share images, initial weights and draws at all values of a setting, so a change between two values
is taken within a seed, as the effect itself. Values are in the unit of the score (a fraction).
"""

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from analysis.names import BASELINES, in_order
from analysis.records.studies import Study, headline
from analysis.stats.collapse import without_collapsed
from analysis.stats.differences import against_rho_zero, grid_text, noisy_minus_exposure, of_noisy_pairs, one_grid
from analysis.stats.intervals import Estimate, mean_over_grid


def _against_zero(records: pd.DataFrame) -> pd.DataFrame:
    return one_grid(of_noisy_pairs(against_rho_zero(records, headline(records))))


def _against_exposure(records: pd.DataFrame) -> pd.DataFrame:
    return one_grid(noisy_minus_exposure(records, headline(records)))


#: The effects, each with its values by rho, nu and seed. Both are on one grid: see `one_grid`.
QUANTITIES: Mapping[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "noisy minus rho 0": _against_zero,
    "noisy minus exposure": _against_exposure,
}

_ESTIMATE = ("estimate", "low", "high", "cells", "seeds", "values")


def interaction(study: Study) -> pd.DataFrame:
    """The effects of noisy pairs on each loss at each level of the settings that vary.

    One row for each effect, loss and combination of the values of the settings that the loss uses, in the order of the
    paper and of the values. Effects and losses without any value have no row.

    Columns:
        quantity, objective: one of `QUANTITIES`, a loss.
        those of `study.varied`: the values; null if the loss does not use the setting.
        estimate, low, high, cells, seeds, values: the mean over the grid as in `mean_over_grid`.
        collapsed: how many of the values rest on a collapsed cell.
        `<setting> change`, `<setting> low`, `<setting> high`: the change of the effect from the first value of this
            setting, with the same values of the others: the mean over the cells that both have, paired by seed. Null at
            the first value.
    """
    losses = in_order(set(study.records["objective"]) - set(BASELINES))
    rows = [row for name in QUANTITIES for loss in losses for row in _rows(study, name, loss)]
    head = ["quantity", "objective", *study.varied, *_ESTIMATE, "collapsed"]
    return pd.DataFrame(rows, columns=[*head, *(name for setting in study.varied for name in change_columns(setting))])


def grid_of_effects(study: Study) -> str:
    """The grid points of both effects, as text."""
    return grid_text(one_grid(of_noisy_pairs(study.records)))


def collapsed_values(name: str, records: pd.DataFrame) -> int:
    """How many values of the effect `name` of a loss at a level rest on a collapsed cell."""
    counts = [QUANTITIES[name](some)["difference"].count() for some in (records, without_collapsed(records))]
    return int(counts[0] - counts[1])


def change_columns(setting: str) -> tuple[str, str, str]:
    """The names of the columns with the change along a setting: estimate, low, high."""
    return f"{setting} change", f"{setting} low", f"{setting} high"


def _rows(study: Study, name: str, loss: str) -> list[dict[str, Any]]:
    records = study.records[study.records["objective"] == loss]
    used = [setting for setting in study.varied if records[setting].notna().any()]
    parts: dict[tuple, pd.DataFrame] = dict(list(records.groupby(used))) if used else {(): records}
    effects = {values: QUANTITIES[name](part) for values, part in parts.items()}
    if all(effect["difference"].isna().all() for effect in effects.values()):
        return []
    rows = []
    for values, effect in effects.items():
        row = {"quantity": name, "objective": loss, **dict(zip(used, values, strict=True))}
        row |= {key: getattr(_mean(effect, study.level), key) for key in _ESTIMATE}
        row["collapsed"] = collapsed_values(name, parts[values])
        for place, setting in enumerate(used):
            first = (*values[:place], min(other[place] for other in effects), *values[place + 1 :])
            if first != values and first in effects:
                change = _mean(_paired(effect, effects[first]), study.level)
                row |= dict(zip(change_columns(setting), (change.estimate, change.low, change.high), strict=True))
        rows.append(row)
    return rows


def _paired(effect: pd.DataFrame, first: pd.DataFrame) -> pd.DataFrame:
    both = effect.merge(first, on=["rho", "nu", "seed"], suffixes=("", "_first"))
    return both.assign(difference=both["difference"] - both["difference_first"])


def _mean(effect: pd.DataFrame, level: float) -> Estimate:
    cell = effect.groupby(["rho", "nu"]).ngroup()
    return mean_over_grid(effect[["seed"]].assign(cell=cell, value=effect["difference"]), level=level)
