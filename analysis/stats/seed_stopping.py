"""Looks: how wide the interval of a loss is after so many seeds, for sweeps that add seeds where it is too wide.

What such a sweep has decided stands in its `sweep.yaml` under `grown`: the seeds it added by loss, and the level of
intervals that makes up for looking (see `analysis.stats.sequential`). Values are in the score's unit (a fraction).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from analysis.records.studies import headline
from analysis.stats.differences import against_rho_zero, noisy_minus_exposure
from analysis.stats.intervals import Estimate, mean_over_grid

State = Literal["narrow", "wide", "most", "unfinished", "no value"]


@dataclass(frozen=True, kw_only=True)
class StoppingDecision:
    """What the last look at a loss has shown."""

    loss: str
    seeds: tuple[int, ...]
    """Those looked at."""
    half: float
    """Half the width of the interval; NaN where there is none."""
    state: State
    """Narrow enough; too wide, so that one more seed is to be added; too wide after the most seeds allowed; not all
    cells recorded, so that nothing is decided; no value at all, so that seeds are of no use."""


def monitored_values(records: pd.DataFrame, loss: str, name: str) -> pd.DataFrame:
    """What is watched of a loss, as `mean_over_grid` takes it: columns cell, seed, value.

    `name` is one of `QUANTITIES`. Raises as `analysis.stats.differences.comparable`.
    """
    table = QUANTITIES[name](records[records["objective"] == loss])
    cell = list(zip(table["rho"], table["nu"], strict=True))
    return pd.DataFrame({"cell": pd.Series(cell, dtype=object), "seed": table["seed"], "value": table["difference"]})


def _difference(records: pd.DataFrame) -> pd.DataFrame:
    return noisy_minus_exposure(records, headline(records)).reset_index(drop=True)


def _against_clean(records: pd.DataFrame) -> pd.DataFrame:
    table = against_rho_zero(records, headline(records))
    noisy = (table["pairing"] == "noisy") & (table["nu"] < 1)
    return table[noisy if noisy.any() else table["pairing"] == "false_positive"].reset_index(drop=True)


#: The means over the grid that can be watched: noisy minus mere exposure (the paper's table), and noisy minus rho 0
#: with nu below 1 (or false positives, where there are no other pairs), as the report's first table has them.
QUANTITIES: Mapping[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "difference": _difference,
    "against_clean": _against_clean,
}


def monitored_interval(records: pd.DataFrame, loss: str, name: str, *, level: float) -> Estimate:
    """The mean over the grid of what is watched, as the report shows it."""
    return mean_over_grid(monitored_values(records, loss, name), level=level)


def decide_stopping(
    loss: str,
    seeds: Sequence[int],
    start: int,
    *,
    recorded: Callable[[Sequence[int]], bool],
    watch: Callable[[Sequence[int]], Estimate],
    target: float,
) -> StoppingDecision:
    """StoppingDecision at a loss after `start` of its `seeds`, then after one more, ..., as far as the records lead.

    `recorded` tells whether all cells of some seeds are recorded, `watch` gives the interval over them. The answer
    depends on nothing else, so that a sweep that was cut off goes on as if it had not been.
    """
    seen = StoppingDecision(loss=loss, seeds=tuple(seeds[:start]), half=math.nan, state="unfinished")
    for count in range(start, len(seeds) + 1):
        own = tuple(seeds[:count])
        if not recorded(own):
            break
        found = watch(own)
        half = (found.high - found.low) / 2
        state: State = "narrow" if half < target else "wide" if count < len(seeds) else "most"
        seen = StoppingDecision(loss=loss, seeds=own, half=half, state=state if found.values else "no value")
        if seen.state != "wide":
            break
    return seen
