"""The cells of a figure: estimate, interval, number of seeds, and whether each is done, failed or missing."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import names
from analysis.names import BASELINES
from analysis.records.studies import Study
from analysis.stats import differences
from analysis.stats.inference import by_cell

#: What names a cell within a study and a pairing.
POINT = ("objective", "rho", "nu")

_VALUES = [*POINT, "seed", "difference"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One loss at one nu, and its row and column among the panels."""

    loss: str
    nu: float
    row: int
    column: int


def losses(study: Study) -> list[str]:
    """The losses of a study, baselines left out, in the paper's order and others behind by name."""
    return names.in_order(set(study.records["objective"]) - set(BASELINES))


def other_losses(study: Study) -> list[str]:
    """The losses of a study that are not the paper's."""
    return names.other_losses(study.records["objective"])


def has_nu(study: Study) -> bool:
    """Whether noisy images differ in a share that is swept; real pairs have none, false positives are all noise."""
    records = study.records
    return bool(((records["rho"] > 0) & (records["nu"] > 0) & (records["pairing"] != "false_positive")).any())


def pairing_of(study: Study) -> str:
    """The pairing whose score the paper shows: `noisy`, or `false_positive` where there is no other (CIFAR-10)."""
    return "noisy" if (study.records["pairing"] == "noisy").any() else "false_positive"


def scores(study: Study, pairing: str) -> pd.DataFrame:
    """The study's score of each cell and seed of a pairing (`none`: without noisy pairs), as column `difference`.

    Columns objective, rho, nu, seed, `difference` (a fraction, null where it failed; `complete_grid` reads that name).
    """
    known = differences.comparable(study.records, study.metric).rename(columns={study.metric: "difference"})
    return known.loc[known["pairing"] == pairing, _VALUES]


def noisy_minus_exposure(study: Study) -> pd.DataFrame:
    """Noisy minus exposure of each cell and seed; columns as `scores`."""
    return differences.noisy_minus_exposure(study.records, study.metric)[_VALUES]


def noisy_minus_rho_zero(study: Study) -> pd.DataFrame:
    """Each cell of `pairing_of` minus the cell of rho 0 of the same seed; columns as `scores`."""
    table = differences.against_rho_zero(study.records, study.metric)
    return table.loc[table["pairing"] == pairing_of(study), _VALUES]


def complete_grid(study: Study, values: pd.DataFrame, pairings: Sequence[str]) -> pd.DataFrame:
    """A row per cell of the study's grid, with or without a value, sorted by loss, rho and nu.

    `values` as from `scores` or `noisy_minus_exposure`. It has each loss at each rho and nu that any loss has with
    one of `pairings`. Columns: objective, rho, nu, `estimate`, `low`, `high` (fractions; NaN where there is none), `n`
    seeds, `state`: done (at least one seed), failed (none is done and one failed), missing.
    """
    points = _grid_points(study, pairings)
    values = values[~values["objective"].isin(BASELINES)]
    return _with_states(study, points, values, pairings)


def rows(table: pd.DataFrame) -> Iterable[Any]:
    """The rows of a table as from `complete_grid`, as named tuples."""
    return table.itertuples()


def without_noise(study: Study) -> pd.DataFrame:
    """The cells of rho 0, a row per loss: columns as `complete_grid`."""
    return complete_grid(study, scores(study, "none"), ["none"])


def baselines(study: Study) -> pd.DataFrame:
    """The baselines that the study has, a row each in the paper's order: columns as `complete_grid`."""
    values = scores(study, "none")
    values = values[values["objective"].isin(BASELINES)]
    run = [name for name in BASELINES if name in set(values["objective"])]
    return _with_states(study, _points(run, [0.0], [0.0]), values, ["none"])


def blocks(study: Study) -> list[Block]:
    """A block per loss and nu: a row per loss and a column per nu, or one row of losses where there is one nu."""
    noisy = study.records[(study.records["rho"] > 0) & ~study.records["objective"].isin(BASELINES)]
    run, nus = losses(study), sorted(set(noisy["nu"])) or [0.0]
    places = [(i, j) if len(nus) > 1 else (0, i) for i in range(len(run)) for j in range(len(nus))]
    points = itertools.product(run, nus)
    return [
        Block(loss=loss, nu=nu, row=row, column=column)
        for (row, column), (loss, nu) in zip(places, points, strict=True)
    ]


def shape(placed: Sequence[Block]) -> tuple[int, int]:
    """Rows and columns of panels for at least one block."""
    return 1 + max(block.row for block in placed), 1 + max(block.column for block in placed)


def _grid_points(study: Study, pairings: Sequence[str]) -> pd.DataFrame:
    if list(pairings) == ["none"]:
        return _points(losses(study), [0.0], [0.0])
    records = study.records
    run = records[records["pairing"].isin(pairings) & (records["rho"] > 0)]
    return _points(losses(study), sorted(set(run["rho"])), sorted(set(run["nu"])))


def _points(objectives: Sequence[str], rhos: Sequence[float], nus: Sequence[float]) -> pd.DataFrame:
    table = pd.DataFrame(list(itertools.product(objectives, rhos, nus)), columns=list(POINT))
    return table.astype({"objective": object, "rho": float, "nu": float})


def _with_states(study: Study, points: pd.DataFrame, values: pd.DataFrame, pairings: Sequence[str]) -> pd.DataFrame:
    point = list(POINT)
    if values.empty:
        nothing = dict.fromkeys(["estimate", "low", "high"], np.nan)
        table = points.assign(**nothing, n=0)
    else:
        known = by_cell(values, by=point, level=study.level)[[*point, "estimate", "low", "high", "n"]]
        table = points.merge(known, on=point, how="left")
        table["n"] = table["n"].fillna(0).astype(int)
    records = study.records
    failed = records[(records["status"] == "failed") & records["pairing"].isin(pairings)]
    has_failed = pd.MultiIndex.from_frame(table[point]).isin(list(failed[point].itertuples(index=False, name=None)))
    table["state"] = np.where(table["n"] > 0, "done", np.where(has_failed, "failed", "missing"))
    return table
