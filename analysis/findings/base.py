"""Findings: what a sentence of the paper predicts for the cells of a grid.

A finding has parts, such as one per loss. A part is a contrast of cells, and the region of its mean over the grid if
the sentence is true.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from scipy import stats

from analysis.findings.contrasts import Contrast, Grid
from analysis.names import LEVEL
from analysis.stats.intervals import FURTHER_UP_TO, Estimate, further_seeds, mean_over_grid

#: The expected range of three normal values (seeds), in standard deviations.
RANGE_OF_THREE = 3 / math.sqrt(math.pi)

Kind = Literal["vts", "real", "cifar10"]


@dataclass(frozen=True, kw_only=True)
class Region:
    """The open interval of a mean, between `above` and `below`, if the claim is true; in the unit of the score."""

    above: float = -math.inf
    below: float = math.inf

    def __post_init__(self) -> None:
        if not self.above < self.below or (math.isinf(self.above) and math.isinf(self.below)):
            raise ValueError(f"a region above {self.above} and below {self.below} contains nothing or everything")

    def __str__(self) -> str:
        """In points, such as "> -1" or "-2.4 to 2.4"."""
        low, high = (f"{100 * bound + 0.0:.4g}" for bound in (self.above, self.below))
        if math.isinf(self.below):
            return f"> {low}"
        return f"< {high}" if math.isinf(self.above) else f"{low} to {high}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """A measured contrast, and the region that the claim predicts for it."""

    name: str
    region: Region
    values: pd.DataFrame
    """Columns cell, seed, value (NaN if missing); no rows if the study has no such cell."""
    estimate: Callable[..., Estimate] = mean_over_grid
    """Called with `values` and the keyword `level`."""
    further: Callable[..., int | None] = further_seeds
    """Called with the estimate and the keyword `threshold`: the number of further seeds to move the interval off it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Finding:
    """A sentence of the paper that records can support (if all its parts hold) or contradict (if one does not)."""

    key: str
    sentence: str
    """The words of the paper, shortened."""
    where: str
    """Section or figure of the paper."""
    about: tuple[Kind, ...]
    needs: str
    """Description of the cells that it needs."""
    parts: Callable[[Grid, float], list[Part]]
    """Called with a grid and the margin (a fraction)."""
    unit: str = "points"


def kind_of(dataset: str) -> Kind:
    """Which sentences of the paper apply to a data set: those on VTS, on CIFAR-10, or on real data."""
    return "vts" if dataset == "vts" else "cifar10" if dataset == "cifar10" else "real"


def seed_span(values: pd.DataFrame, *, level: float = LEVEL) -> Estimate:
    """The expected range of three seeds of a cell: 1.693 standard deviations, pooled over cells.

    Its interval comes from chi-square with the degrees of freedom of one cell (seeds - 1, averaged over cells), as if
    all cells of a seed shared one error. It is too wide if they do not. NaN below two seeds.
    """
    by_cell = values.dropna(subset="value").groupby("cell", sort=False)["value"].agg(["count", "var"])
    several = by_cell[by_cell["count"] > 1]
    within = values["cell"].isin(several.index) & values["value"].notna()
    seeds = int(values.loc[within, "seed"].nunique())
    span = low = high = freedom = math.nan
    if seeds:
        deviation = math.sqrt(float(np.average(several["var"], weights=several["count"] - 1)))
        span = RANGE_OF_THREE * deviation
        freedom = float((several["count"] - 1).mean())
        tails = stats.chi2.ppf([(1 + level) / 2, (1 - level) / 2], freedom)
        low, high = (float(span * math.sqrt(freedom / tail)) for tail in tails)
    return Estimate(
        estimate=span,
        low=low,
        high=high,
        level=level,
        freedom=freedom,
        method="chi-square over seeds" if seeds else "no interval: one seed" if len(by_cell) else "no value",
        cells=len(several),
        seeds=seeds,
        values=int(several["count"].sum()),
        left_out=len(by_cell) - len(several),
    )


def further_seeds_for_span(estimate: Estimate, *, threshold: float) -> int | None:
    """`analysis.stats.intervals.further_seeds` for `seed_span`, assuming that the span stays the same."""
    freedom = estimate.freedom + np.arange(1, FURTHER_UP_TO + 1)
    tail = (1 - estimate.level) / 2
    ends = estimate.estimate * np.sqrt(freedom / stats.chi2.ppf([[1 - tail], [tail]], freedom))
    enough = (ends[0] > threshold) | (ends[1] < threshold)
    return int(np.argmax(enough)) + 1 if enough.any() else None


#: The regions of most claims: noisy pairs help, or hurt.
POSITIVE, NEGATIVE = Region(above=0.0), Region(below=0.0)

#: The unit of 100 times a slope: see `contrasts.slopes`.
SLOPE = "points per unit of rho"


def one_part(grid: Grid, name: str, region: Region, contrast: Contrast) -> list[Part]:
    """One part: the mean over all cells of the contrast."""
    return [Part(name=name, region=region, values=grid.frame(contrast))]


def part_per_loss(grid: Grid, losses: Iterable[str], region: Region, make: Callable[[str], Contrast]) -> list[Part]:
    """A part for each loss: the mean over the cells of `make(loss)`."""
    return [Part(name=loss, region=region, values=grid.frame(make(loss))) for loss in losses]


def part_per_cell(grid: Grid, region: Region, contrast: Contrast) -> list[Part]:
    """A part for each cell of the contrast."""
    return [Part(name=str(cell), region=region, values=grid.frame({cell: v})) for cell, v in contrast.items()]
