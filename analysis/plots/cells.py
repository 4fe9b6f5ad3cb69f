"""The cells of a figure: estimate, interval, number of seeds, and whether each is done, failed or missing."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis import names
from analysis.names import BASELINES
from analysis.plots import style
from analysis.records.studies import Study
from analysis.stats import differences
from analysis.stats.inference import by_cell

#: The columns that identify a cell within a study and a pairing.
POINT = ("objective", "rho", "nu")

_VALUES = [*POINT, "seed", "difference"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """The panel of one loss at one nu."""

    loss: str
    nu: float


def losses(study: Study) -> list[str]:
    """The losses of a study without baselines: those of the paper in its order, then the others by name."""
    return names.in_order(set(study.records["objective"]) - set(BASELINES))


def has_nu(study: Study) -> bool:
    """Whether the study varies nu, which real pairs do not have."""
    records = study.records
    return bool(((records["rho"] > 0) & (records["nu"] > 0) & ~records["pairing"].isin(names.WITHOUT_NU)).any())


def pairing_of(study: Study) -> str:
    """The pairing of score figures: see `differences.main_pairing`."""
    return differences.main_pairing(study.records)


def scores(study: Study, pairing: str) -> pd.DataFrame:
    """The score of each cell and seed of a pairing (`none`: without noisy pairs).

    Columns objective, rho, nu, seed, `difference` (the score as a fraction, null if the cell failed; `complete_grid`
    expects this column name).
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
    """One row per cell of the grid, with or without a value, sorted by loss, rho and nu.

    The grid has each loss at each rho and nu that any loss has with one of `pairings`. `values` is as from `scores` or
    `noisy_minus_exposure`. Columns: objective, rho, nu, `estimate`, `low`, `high` (fractions; NaN if missing), `n`
    (number of seeds), `state`: done (at least one seed), failed (none is done and one failed) or missing.
    """
    points = _grid_points(study, pairings)
    values = values[~values["objective"].isin(BASELINES)]
    return _with_states(study, points, values, pairings)


def rows(table: pd.DataFrame) -> Iterable[Any]:
    """The rows of a table as from `complete_grid`, as named tuples."""
    return table.itertuples()


def without_noise(study: Study) -> pd.DataFrame:
    """The cells at rho 0, one row per loss; columns as `complete_grid`."""
    return complete_grid(study, scores(study, "none"), ["none"])


def baselines(study: Study) -> pd.DataFrame:
    """The baselines of the study, one row each in the order of the paper; columns as `complete_grid`."""
    values = scores(study, "none")
    values = values[values["objective"].isin(BASELINES)]
    run = [name for name in BASELINES if name in set(values["objective"])]
    return _with_states(study, _points(run, [0.0], [0.0]), values, ["none"])


def blocks(study: Study) -> list[Block]:
    """The panels, in order: all values of nu of the first loss, then those of the next."""
    noisy = study.records[(study.records["rho"] > 0) & ~study.records["objective"].isin(BASELINES)]
    # A misregistered pair has no nu, so its cells are in all panels.
    nus = sorted(set(noisy.loc[noisy["pairing"] != "misregistration", "nu"])) or [0.0]
    return [Block(loss=loss, nu=nu) for loss, nu in itertools.product(losses(study), nus)]


def columns(blocks: Sequence[Block]) -> int:
    """How many panels stand in a row at most: the values of nu of a loss, or the losses where there is one nu."""
    nus = len({block.nu for block in blocks})
    return nus if nus > 1 else style.ACROSS


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
