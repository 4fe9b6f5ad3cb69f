"""Adaptive seeds (`--until`): whether the interval of a loss is narrow enough, or another seed is needed.

The sweep stores its decisions in `sweep.yaml` under `grown`: the seeds added for each loss, and the raised confidence
level (see `analysis.stats.sequential`). Values are in the unit of the score (a fraction).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analysis.records.studies import headline
from analysis.stats.differences import against_rho_zero, noisy_minus_exposure, of_noisy_pairs
from analysis.stats.intervals import Estimate, mean_over_grid

State = Literal["narrow", "wide", "most", "unfinished", "no value"]


@dataclass(frozen=True, kw_only=True)
class StoppingDecision:
    """The latest decision on a loss: whether it needs another seed."""

    loss: str
    seeds: tuple[int, ...]
    """The seeds that the decision uses."""
    half: float
    """Half the width of the interval; NaN if there is none."""
    state: State
    """narrow: enough seeds. wide: one more seed. most: too wide, but no more seeds are allowed. unfinished: not all
    cells are recorded, so nothing is decided. no value: no cell has a score, so more seeds would not help."""


def monitored_values(records: pd.DataFrame, loss: str, name: str) -> pd.DataFrame:
    """The values of a monitored quantity (one of `QUANTITIES`) of a loss, as `mean_over_grid` takes them.

    Raises as `analysis.stats.differences.comparable`.
    """
    table = QUANTITIES[name](records[records["objective"] == loss])
    cell = list(zip(table["rho"], table["nu"], strict=True))
    return pd.DataFrame({"cell": pd.Series(cell, dtype=object), "seed": table["seed"], "value": table["difference"]})


def _difference(records: pd.DataFrame) -> pd.DataFrame:
    return noisy_minus_exposure(records, headline(records)).reset_index(drop=True)


def _against_clean(records: pd.DataFrame) -> pd.DataFrame:
    table = against_rho_zero(records, headline(records))
    partial = table[(table["pairing"] != "noisy") | (table["nu"] < 1)]
    return of_noisy_pairs(partial).reset_index(drop=True)


#: The quantities that can be monitored, means over the grid: noisy minus mere exposure (the table of the paper), and
#: noisy minus rho 0 with nu below 1 (or the `main_pairing` if there are no such pairs), as in the report's first table.
QUANTITIES: Mapping[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "difference": _difference,
    "against_clean": _against_clean,
}


def monitored_interval(records: pd.DataFrame, loss: str, name: str, *, level: float) -> Estimate:
    """The mean over the grid of a monitored quantity, with the interval that the report shows.

    If the sweep varies settings that the loss uses: the one with the widest interval.
    """
    parts = [part for _, part in records[records["objective"] == loss].groupby("recipe")]
    estimates = [mean_over_grid(monitored_values(part, loss, name), level=level) for part in parts or [records]]
    return max(estimates, key=lambda one: math.inf if math.isnan(one.high - one.low) else one.high - one.low)


def decide_stopping(
    loss: str,
    seeds: Sequence[int],
    start: int,
    *,
    recorded: Callable[[Sequence[int]], bool],
    watch: Callable[[Sequence[int]], Estimate],
    target: float,
) -> StoppingDecision:
    """Decide on a loss after `start` of its `seeds`, then after one more, and so on, as far as records exist.

    The decision depends on records only, so an interrupted sweep resumes with the same decisions.

    Args:
        loss: its name.
        seeds: all that are allowed, in order.
        start: the number of seeds before the first decision.
        recorded: whether all cells of some seeds are recorded.
        watch: the interval over some seeds.
        target: enough seeds are recorded once half the width of the interval is below it.
    """
    decision = StoppingDecision(loss=loss, seeds=tuple(seeds[:start]), half=math.nan, state="unfinished")
    for count in range(start, len(seeds) + 1):
        used = tuple(seeds[:count])
        if not recorded(used):
            break
        estimate = watch(used)
        half = (estimate.high - estimate.low) / 2
        state: State = "narrow" if half < target else "wide" if count < len(seeds) else "most"
        decision = StoppingDecision(loss=loss, seeds=used, half=half, state=state if estimate.values else "no value")
        if decision.state != "wide":
            break
    return decision
