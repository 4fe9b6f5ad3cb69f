"""Agreement: whether two runs of one recipe say the same, up to what seeds and rounding explain.

A seed is one draw of the same law in both runs. Cells that both have (one key, the same data) should even be the same
numbers, but for rounding. Values are in the score's unit (F1 as a fraction).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats

from analysis.comparisons import holm
from analysis.differences import BASELINES, comparable
from analysis.intervals import LEVEL, mean_over_grid
from analysis.studies import Study
from analysis.tables import in_order

#: From this number of seeds on that both runs have, with the same data, their values are compared seed by seed.
PAIRED_FROM = 3

#: A table's columns: see `Agreement.table`.
COLUMNS = (
    *("kind", "name", "run", "reference", "difference", "low", "high", "p", "p_holm", "verdict"),
    *("method", "seeds", "reference_seeds"),
)

Kind = Literal["over the grid", "cell", "rounding"]
Verdict = Literal["agrees", "differs", "cannot say"]

_POINT = ["objective", "rho", "nu", "pairing"]


class Cell(NamedTuple):
    """A point of the grid."""

    objective: str
    rho: float
    nu: float
    pairing: str

    def __str__(self) -> str:
        if self.objective in BASELINES:
            return self.objective
        noise = f" nu {self.nu:g}" if self.nu else ""
        return f"{self.objective} rho {self.rho:g}{noise}{f' {self.pairing}' if self.rho else ''}"


#: Cells (or what is made of them) -> values by seed.
Values = Mapping[Cell, pd.Series]


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The cells that both runs have: one key, the same data, and a score in both."""

    cells: int
    equal: int
    """Those with the very same score."""
    largest: float
    """The largest difference, without its sign; NaN where no cell is shared."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """What two runs have in common and where they differ."""

    table: pd.DataFrame
    """A row for each number that both have. Columns: `kind` and `name` of it; its mean in the `run` and in the
    `reference`; their `difference` with `low` and `high`, `p` of it being 0, `p_holm` corrected for all rows;
    `verdict`, which rests on `p_holm`; `method`; the `seeds` of the run and `reference_seeds`. `low` to `p_holm` are
    null where there is no interval."""
    shared: Shared
    level: float

    @property
    def verdict(self) -> Verdict:
        """Of the whole: differs if one number does, and cannot say where none has an interval."""
        verdicts = set(self.table["verdict"])
        if "differs" in verdicts:
            return "differs"
        return "agrees" if "agrees" in verdicts or self.same else "cannot say"

    @property
    def same(self) -> bool:
        """Whether all cells are shared and have the very same scores."""
        return 0 < self.shared.cells == self.shared.equal

    @property
    def outside(self) -> int:
        """Numbers whose own interval, not corrected for their number, does not hold 0."""
        return int(((self.table["low"] > 0) | (self.table["high"] < 0)).sum())

    @property
    def intervals(self) -> int:
        """Numbers that have an interval."""
        return int(self.table["low"].notna().sum())


def agreement(run: Study, reference: Study, *, level: float = LEVEL) -> Agreement:
    """Compare the scores of two studies of one recipe, each cell and each loss's means over the cells both have.

    A mean's values are those of the seeds that have all of its cells. Where the data are the same and both runs have
    `PAIRED_FROM` seeds or more, the difference is taken seed by seed, with the t interval over those. Else the runs
    count as independent draws of one law: t with the spread of both pooled, so that a single seed can be held against
    several; seeds they share make that interval too wide, never too narrow. Shared cells have a row of their own: the
    mean of all their differences, each an independent draw of rounding if both programs compute the same.

    Raises `RecordsError` as `analysis.differences.comparable`, `ValueError` for two recipes and for two kinds of score.
    """
    if (run.recipe, run.metric) != (reference.recipe, reference.metric):
        raise ValueError(
            f"recipes {run.recipe} and {reference.recipe} ({run.metric}, {reference.metric}) are two things"
        )
    one, other = (_values(study) for study in (run, reference))
    common = [cell for cell in one if cell in other]
    same_data = of_one_data(run, reference)
    rows = [
        _row(kind, name, mine[name], theirs[name], same_data, level)
        for kind, make in _KINDS.items()
        for mine, theirs in [(make(one, common), make(other, common))]
        for name in mine
        if name in theirs
    ]
    pairs = _shared(run, reference) if same_data else pd.DataFrame(columns=["run", "reference"], dtype=float)
    gaps = (pairs["run"] - pairs["reference"]).to_numpy(dtype=float)
    if len(gaps) > 1:
        rows.insert(0, _rounding(pairs, level))
    table = pd.DataFrame(rows, columns=COLUMNS)
    table["p_holm"] = holm(table["p"].to_numpy(dtype=float))
    table["verdict"] = np.select(
        [table["p_holm"].isna(), table["p_holm"] < 1 - level], ["cannot say", "differs"], default="agrees"
    )
    largest = float(np.abs(gaps).max()) if len(gaps) else math.nan
    return Agreement(
        table=table, shared=Shared(cells=len(gaps), equal=int((gaps == 0).sum()), largest=largest), level=level
    )


def of_one_data(run: Study, reference: Study) -> bool:
    """Whether both say what data they saw, and saw the same."""
    one, other = (study.records["data"].iloc[0] for study in (run, reference))
    return isinstance(one, str) and one == other


def _values(study: Study) -> dict[Cell, pd.Series]:
    """Each cell's scores by seed; without those that have none."""
    records = comparable(study.records, study.metric).dropna(subset=study.metric)
    groups = records.set_index("seed").groupby(_POINT)[study.metric]
    found = {Cell._make(point): scores.astype(float).sort_index() for point, scores in groups}
    order = {name: place for place, name in enumerate(in_order({cell.objective for cell in found}))}
    return dict(sorted(found.items(), key=lambda item: (order[item[0].objective], *item[0][1:])))


def _cells(values: Values, common: Sequence[Cell]) -> dict[str, pd.Series]:
    return {str(cell): values[cell] for cell in common}


def _means(values: Values, common: Sequence[Cell]) -> dict[str, pd.Series]:
    """What a reader asks of a sweep, by seed: gains over random and over rho 0, noisy minus exposure."""
    random = Cell("random", 0.0, 0.0, "none")
    found = {}
    for loss in dict.fromkeys(cell.objective for cell in common if cell != random):
        zero = Cell(loss, 0.0, 0.0, "none")
        noisy = [cell for cell in common if cell.objective == loss and cell.rho > 0]
        twins = [(c, c._replace(pairing="exposure")) for c in noisy if c.pairing == "noisy"]
        twins = [(cell, twin) for cell, twin in twins if twin in common]
        if {zero, random} <= {*common}:
            found[f"{loss}{'' if loss in BASELINES else ' rho 0'} minus random"] = _minus(values, [(zero, random)])
        for pairing in dict.fromkeys(cell.pairing for cell in noisy) if zero in common else ():
            pairs = [(cell, zero) for cell in noisy if cell.pairing == pairing]
            found[f"{loss} {pairing.replace('_', ' ')} minus rho 0"] = _minus(values, pairs)
        if twins:
            found[f"{loss} noisy minus exposure"] = _minus(values, twins)
    return {name: by_seed for name, by_seed in found.items() if len(by_seed)}


_KINDS = {"over the grid": _means, "cell": _cells}


def _minus(values: Values, pairs: Sequence[tuple[Cell, Cell]]) -> pd.Series:
    """The mean of the pairs' differences by seed, of the seeds that have all of them."""
    return pd.concat([values[a] - values[b] for a, b in pairs], axis=1).dropna().mean(axis=1)


def _row(kind: str, name: str, run: pd.Series, reference: pd.Series, same_data: bool, level: float) -> dict:
    seeds = run.index.intersection(reference.index)
    paired = same_data and len(seeds) >= PAIRED_FROM
    if paired:
        run, reference = run[seeds], reference[seeds]
    found = _paired(run - reference, level) if paired else _pooled(run.to_numpy(), reference.to_numpy(), level)
    return {
        "kind": kind,
        "name": name,
        "run": run.mean(),
        "reference": reference.mean(),
        "difference": run.mean() - reference.mean(),
        **found,
        "method": "seed by seed" if paired else "as independent runs",
        "seeds": len(run),
        "reference_seeds": len(reference),
    }


def _paired(gaps: pd.Series, level: float) -> dict[str, float]:
    values = pd.DataFrame({"cell": 0, "seed": range(len(gaps)), "value": gaps.to_numpy()})
    found = mean_over_grid(values, level=level)
    return {"low": found.low, "high": found.high, "p": found.p}


def _pooled(run: np.ndarray, reference: np.ndarray, level: float) -> dict[str, float]:
    """Student's two samples, whose spreads are one under the null; NaN where neither has two values."""
    freedom = len(run) + len(reference) - 2
    if freedom < 1:
        return {"low": math.nan, "high": math.nan, "p": math.nan}
    squares = sum(((values - values.mean()) ** 2).sum() for values in (run, reference))
    error = math.sqrt(squares / freedom * (1 / len(run) + 1 / len(reference)))
    gap = float(run.mean() - reference.mean())
    half = float(special.stdtrit(freedom, (1 + level) / 2) * error)
    if error == 0:
        return {"low": gap, "high": gap, "p": float(gap == 0)}
    return {"low": gap - half, "high": gap + half, "p": float(2 * stats.t.sf(abs(gap) / error, freedom))}


def _rounding(pairs: pd.DataFrame, level: float) -> dict:
    return {
        "kind": "rounding",
        "name": "all cells that both have",
        "run": pairs["run"].mean(),
        "reference": pairs["reference"].mean(),
        "difference": (pairs["run"] - pairs["reference"]).mean(),
        **_paired(pairs["run"] - pairs["reference"], level),
        "method": "cell by cell",
        "seeds": pairs["seed"].nunique(),
        "reference_seeds": pairs["seed"].nunique(),
    }


def _shared(run: Study, reference: Study) -> pd.DataFrame:
    """Scores of the cells that both have: columns seed, run, reference."""
    sides = []
    for name, study in {"run": run, "reference": reference}.items():
        done = study.records[study.records["status"] == "done"]
        sides.append(done.set_index("key")[study.metric].astype(float).rename(name))
    both = pd.concat([*sides, run.records.set_index("key")["seed"]], axis=1, join="inner")
    return both.dropna()
