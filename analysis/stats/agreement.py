"""Agreement: whether two runs of one recipe give the same results, up to seeds and rounding.

A seed is a draw from the same distribution in both runs. Cells in both (same key, same data) should have the same
scores up to rounding. Values are in the unit of the score (F1 as a fraction).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats

from analysis.names import BASELINES, LEVEL, in_order
from analysis.records.studies import Study
from analysis.stats.differences import comparable
from analysis.stats.inference import holm

#: With at least this many values, runs on the same data are compared seed by seed, and shared cells cell by cell. Fewer
#: values, which may differ by one or two test images, do not determine the spread.
PAIRED_FROM = 6

#: The columns of `Agreement.table`.
COLUMNS = (
    *("kind", "name", "run", "reference", "difference", "low", "high", "p", "p_holm", "verdict"),
    *("method", "seeds", "reference_seeds"),
)

Kind = Literal["over the grid", "cell", "rounding"]
Verdict = Literal["agrees", "differs", "cannot say"]

# Sums of scores that differ by less are equal except for the order of addition.
_ROUNDING = 1e-12

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


#: Cell -> values by seed.
Values = Mapping[Cell, pd.Series]


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Counts of the cells of two runs. Shared cells have the same key and data, and a score in both."""

    shared: int
    equal: int
    """Shared cells with identical scores."""
    typical: float
    """Root mean square of the differences of unequal shared cells; NaN if there are none."""
    largest: float
    """The largest absolute difference; NaN likewise."""
    run_only: int
    """Done in the run but not shared."""
    reference_only: int
    """Done in the reference but not shared."""
    failed: int
    """Failed in the run but done in the reference, on any data."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """What two runs have in common and where they differ."""

    table: pd.DataFrame
    """One row for each number in both runs. Columns: its `kind` and `name`; its mean in the `run` and in the
    `reference`; their `difference` with the ends `low` and `high` of its interval; `p` of a difference of 0, and
    `p_holm`, corrected for all rows; `verdict`, from `p_holm`; `method`; the numbers of `seeds` of the run and of
    `reference_seeds`. `low` to `p_holm` are null without an interval."""
    cells: Cells
    level: float

    @property
    def verdict(self) -> Verdict:
        """The overall verdict: differs if any row differs or a cell failed; cannot say if no row has an interval."""
        verdicts = set(self.table["verdict"])
        if self.cells.failed or "differs" in verdicts:
            return "differs"
        return "agrees" if "agrees" in verdicts or self.same else "cannot say"

    @property
    def same(self) -> bool:
        """Whether both have the same cells with identical scores."""
        one = self.cells
        return one.shared > 0 and (one.equal, one.run_only, one.reference_only, one.failed) == (one.shared, 0, 0, 0)

    @property
    def outside(self) -> int:
        """Count of intervals, not corrected for their number, that exclude 0."""
        return int(((self.table["low"] > 0) | (self.table["high"] < 0)).sum())

    @property
    def intervals(self) -> int:
        """Count of rows with an interval."""
        return int(self.table["low"].notna().sum())


def agreement(run: Study, reference: Study, *, level: float = LEVEL) -> Agreement:
    """Compare the scores of two studies of one recipe: each common cell, and the means of each loss over these cells.

    A mean uses the seeds that have all of its cells. If both runs have `PAIRED_FROM` or more seeds of the same data,
    the difference is taken seed by seed, with the t interval over them. Otherwise the runs count as independent draws
    from one distribution, with Student's t and a pooled spread, so one seed can be compared with several. Common seeds
    make that interval too wide, never too narrow.

    Shared cells have additional rows of kind "rounding": the mean difference of all of them, of those of each loss, and
    of each loss and pairing, if there are `PAIRED_FROM` or more. Their t interval is over cells and seeds: if both
    programs compute the same, each difference is an independent rounding error around 0.

    Holm's correction is over the cells, and separately over all other rows, each with half of 1 - level.

    Raises:
        RecordsError: as `differences.comparable`.
        ValueError: the recipes or the kinds of score differ.
    """
    if (run.recipe, run.metric) != (reference.recipe, reference.metric):
        raise ValueError(
            f"recipes {run.recipe} and {reference.recipe} ({run.metric}, {reference.metric}) cannot be compared"
        )
    one, other = (_values(study) for study in (run, reference))
    common = [cell for cell in one if cell in other]
    same_data = of_one_data(run, reference)
    shared = _shared(run, reference) if same_data else _shared(run, reference).iloc[:0]
    rows = list(_rounding(shared, level))
    for kind, make in _KINDS.items():
        own, others = make(one, common), make(other, common)
        both = [name for name in own if name in others]
        rows += [_row(kind, name, own[name], others[name], same_data, level) for name in both]
    table = pd.DataFrame(rows, columns=COLUMNS)
    single = (table["kind"] == "cell").to_numpy()
    for part in (single, ~single):
        table.loc[part, "p_holm"] = np.minimum(2 * holm(table.loc[part, "p"].to_numpy(dtype=float)), 1)
    table["p_holm"] = table["p_holm"].astype(float)
    table["verdict"] = np.select(
        [table["p_holm"].isna(), table["p_holm"] < 1 - level], ["cannot say", "differs"], default="agrees"
    )
    return Agreement(table=table, cells=_count(run, reference, shared), level=level)


def of_one_data(run: Study, reference: Study) -> bool:
    """Whether both have a recorded fingerprint of their data, and it is the same."""
    one, other = (study.records["data"].iloc[0] for study in (run, reference))
    return isinstance(one, str) and one == other


def _values(study: Study) -> dict[Cell, pd.Series]:
    """The scores of each cell by seed, without missing ones."""
    records = comparable(study.records, study.metric).dropna(subset=study.metric)
    groups = records.set_index("seed").groupby(_POINT)[study.metric]
    by_cell = {Cell._make(point): scores.astype(float).sort_index() for point, scores in groups}
    order = {name: index for index, name in enumerate(in_order({cell.objective for cell in by_cell}))}
    return dict(sorted(by_cell.items(), key=lambda item: (order[item[0].objective], *item[0][1:])))


def _cells(values: Values, common: Sequence[Cell]) -> dict[str, pd.Series]:
    return {str(cell): values[cell] for cell in common}


def _means(values: Values, common: Sequence[Cell]) -> dict[str, pd.Series]:
    """The main contrasts of a sweep by seed: gains over random and over rho 0, noisy minus exposure."""
    random = Cell("random", 0.0, 0.0, "none")
    means = {}
    for loss in dict.fromkeys(cell.objective for cell in common if cell != random):
        zero = Cell(loss, 0.0, 0.0, "none")
        noisy = [cell for cell in common if cell.objective == loss and cell.rho > 0]
        twins = [(c, c._replace(pairing="exposure")) for c in noisy if c.pairing == "noisy"]
        twins = [(cell, twin) for cell, twin in twins if twin in common]
        if {zero, random} <= {*common}:
            means[f"{loss}{'' if loss in BASELINES else ' rho 0'} minus random"] = _minus(values, [(zero, random)])
        for pairing in dict.fromkeys(cell.pairing for cell in noisy) if zero in common else ():
            pairs = [(cell, zero) for cell in noisy if cell.pairing == pairing]
            means[f"{loss} {pairing.replace('_', ' ')} minus rho 0"] = _minus(values, pairs)
        if twins:
            means[f"{loss} noisy minus exposure"] = _minus(values, twins)
    return {name: by_seed for name, by_seed in means.items() if len(by_seed)}


_KINDS = {"over the grid": _means, "cell": _cells}


def _minus(values: Values, pairs: Sequence[tuple[Cell, Cell]]) -> pd.Series:
    """The mean of the differences by seed, for the seeds that have all pairs."""
    return pd.concat([values[a] - values[b] for a, b in pairs], axis=1).dropna().mean(axis=1)


def _row(kind: str, name: str, run: pd.Series, reference: pd.Series, same_data: bool, level: float) -> dict:
    seeds = run.index.intersection(reference.index)
    paired = same_data and len(seeds) >= PAIRED_FROM
    if paired:
        run, reference = run[seeds], reference[seeds]
    interval = _paired(run - reference, level) if paired else _pooled(run, reference, level)
    how = "seed by seed" if paired else "as independent runs"
    return {**_means_of(kind, name, run, reference), **interval, "method": how} | _seeds(run.index, reference.index)


def _rounding(shared: pd.DataFrame, level: float) -> Iterator[dict]:
    """Rows of the shared cells: all, those of each loss, and those of each loss and pairing."""
    parts = {"all cells in both": shared}
    for loss in in_order(shared["objective"]):
        own = shared[shared["objective"] == loss]
        parts[f"{loss}, cell by cell"] = own
        if own["pairing"].nunique() > 1:
            for pairing, part in own.groupby("pairing"):
                kind = "rho 0" if pairing == "none" else str(pairing).replace("_", " ")
                parts[f"{loss} {kind}, cell by cell"] = part
    for name, part in parts.items():
        if len(part) >= PAIRED_FROM:
            means = _means_of("rounding", name, part["run"], part["reference"])
            interval = _paired(part["run"] - part["reference"], level)
            yield {**means, **interval, "method": "cell by cell"} | _seeds(part["seed"], part["seed"])


def _means_of(kind: str, name: str, run: pd.Series, reference: pd.Series) -> dict:
    one, other = run.mean(), reference.mean()
    return {"kind": kind, "name": name, "run": one, "reference": other, "difference": one - other}


def _seeds(run: "pd.Series | pd.Index", reference: "pd.Series | pd.Index") -> dict[str, int]:
    return {"seeds": run.nunique(), "reference_seeds": reference.nunique()}


def _paired(gaps: pd.Series, level: float) -> dict[str, float]:
    """The t interval of differences."""
    n = len(gaps)
    return _interval(float(gaps.mean()), float(gaps.std() / math.sqrt(n)), n - 1, level)


def _pooled(run: pd.Series, reference: pd.Series, level: float) -> dict[str, float]:
    """Student's two-sample interval with a pooled spread; NaN if neither run has two values."""
    freedom = len(run) + len(reference) - 2
    squares = sum(float(((values - values.mean()) ** 2).sum()) for values in (run, reference))
    error = math.sqrt(squares / freedom * (1 / len(run) + 1 / len(reference))) if freedom else math.nan
    return _interval(float(run.mean() - reference.mean()), error, freedom, level)


def _interval(gap: float, error: float, freedom: int, level: float) -> dict[str, float]:
    """The t interval. If all values differ by the same amount, it is known only if that amount is 0."""
    if math.isnan(error) or error <= _ROUNDING:
        equal = not math.isnan(error) and abs(gap) <= _ROUNDING
        return {"low": gap, "high": gap, "p": 1.0} if equal else dict.fromkeys(("low", "high", "p"), math.nan)
    half = float(special.stdtrit(freedom, (1 + level) / 2) * error)
    return {"low": gap - half, "high": gap + half, "p": float(2 * stats.t.sf(abs(gap) / error, freedom))}


def _shared(run: Study, reference: Study) -> pd.DataFrame:
    """The scores of cells that are done in both: columns objective, pairing, seed, run, reference."""
    sides = [_done(study).set_index("key")[study.metric].astype(float) for study in (run, reference)]
    names = run.records.set_index("key")[["objective", "pairing", "seed"]]
    scores = [side.rename(name) for name, side in zip(("run", "reference"), sides, strict=True)]
    return pd.concat([names, *scores], axis=1, join="inner").dropna()


def _count(run: Study, reference: Study, shared: pd.DataFrame) -> Cells:
    gaps = (shared["run"] - shared["reference"]).to_numpy()
    unequal = gaps[gaps != 0]
    failed = run.records.loc[run.records["status"] == "failed", "key"]
    return Cells(
        shared=len(gaps),
        equal=len(gaps) - len(unequal),
        typical=float(np.sqrt((unequal**2).mean())) if len(unequal) else math.nan,
        largest=float(np.abs(unequal).max()) if len(unequal) else math.nan,
        run_only=len(_done(run)) - len(gaps),
        reference_only=len(_done(reference)) - len(gaps),
        failed=int(failed.isin(_done(reference)["key"]).sum()),
    )


def _done(study: Study) -> pd.DataFrame:
    return study.records[(study.records["status"] == "done") & study.records[study.metric].notna()]
