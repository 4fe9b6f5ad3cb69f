"""Coverage: which cells of the grid are done, failed or missing."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import pandas as pd

from analysis.names import BASELINES, WITHOUT_NU
from analysis.records.plan import added_seeds

COORDINATES = ["objective", "rho", "nu", "pairing", "seed"]


def coverage(records: pd.DataFrame, plans: Sequence[Mapping[str, Any]] = ()) -> pd.DataFrame:
    """One row for each cell that is recorded or planned: its coordinates, `status` and `error`.

    The status is done, failed or missing. Planned cells are those that the axes of `plans` span, with the adaptive
    seeds of each loss. As in figures and claims, every recorded grid point is also planned for every loss and every
    recorded seed (with adaptive seeds: every seed of that loss).

    Args:
        records: of one study.
        plans: see `read_plan`.
    """
    losses = records.loc[~records["objective"].isin(BASELINES), ["objective"]].drop_duplicates()
    noisy = records.loc[records["rho"] > 0, COORDINATES[1:-1]].drop_duplicates()
    points = pd.concat([records[COORDINATES[:-1]], losses.merge(noisy, how="cross")]).drop_duplicates()
    if any(added_seeds(plan) for plan in plans):
        planned = [points.merge(records[["objective", "seed"]].drop_duplicates(), on="objective")]
    else:
        planned = [points.merge(records[["seed"]].drop_duplicates(), how="cross")]
    has_nu = _has_nu(records)
    planned += [pd.DataFrame(_cells(plan, has_nu), columns=COORDINATES) for plan in plans]
    cells = pd.concat(planned, ignore_index=True).drop_duplicates()
    cells = cells.merge(records[[*COORDINATES, "status", "error"]], on=COORDINATES, how="left")
    cells["status"] = cells["status"].fillna("missing")
    return cells.sort_values(COORDINATES, ignore_index=True)


def _has_nu(records: pd.DataFrame) -> bool:
    real = records[(records["rho"] > 0) & ~records["pairing"].isin(WITHOUT_NU)]
    return bool((real["nu"] > 0).any()) or (real.empty and set(records["dataset"]) == {"vts"})


def _cells(plan: Mapping[str, Any], has_nu: bool) -> Iterator[tuple[str, float, float, str, int]]:
    """The cells that the axes of a sweep span, as `sweep.config.grid.expand`; a test compares the two."""
    objectives, *axes, seeds = (plan.get(name) or [] for name in ("objectives", "rho", "pairings", "seeds"))
    grids = [(objectives, seeds), *(([name], own) for name, own in added_seeds(plan).items())]
    for objective, rho, pairing, seed in (point for names, own in grids for point in product(names, *axes, own)):
        for nu in plan.get("nu") or [0.0]:
            own = pairing in WITHOUT_NU
            noise = float(pairing == "false_positive") if own else float(nu) if has_nu else 0.0
            if objective in BASELINES or rho == 0 or (has_nu and noise == 0 and not own):
                yield objective, 0.0, 0.0, "none", seed
            else:
                yield objective, float(rho), noise, pairing, seed
