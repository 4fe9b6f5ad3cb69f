"""Coverage: which cells of the grid are done, failed or missing."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from analysis.differences import BASELINES

_AXES = {"objectives": (str,), "rho": (int, float), "nu": (int, float), "pairings": (str,), "seeds": (int,)}
COORDINATES = ["objective", "rho", "nu", "pairing", "seed"]


def coverage(records: pd.DataFrame, plans: Sequence[Mapping[str, Any]] = ()) -> pd.DataFrame:
    """A row for each cell of a study that is recorded or planned: its coordinates, `status`, `error`.

    `status` is done, failed or missing. Planned is what the axes of `plans` span (see `read_plan`), with the seeds that
    were added to single losses, and, beside that, every recorded grid point with every loss and every seed that is
    recorded (of the loss itself, where seeds were added): so do figures and claims count.
    `records` are those of one study.
    """
    losses = records.loc[~records["objective"].isin(BASELINES), ["objective"]].drop_duplicates()
    noisy = records.loc[records["rho"] > 0, COORDINATES[1:-1]].drop_duplicates()
    points = pd.concat([records[COORDINATES[:-1]], losses.merge(noisy, how="cross")]).drop_duplicates()
    if any(added_of(plan) for plan in plans):
        planned = [points.merge(records[["objective", "seed"]].drop_duplicates(), on="objective")]
    else:
        planned = [points.merge(records[["seed"]].drop_duplicates(), how="cross")]
    has_nu = _has_nu(records)
    planned += [pd.DataFrame(_cells(plan, has_nu), columns=COORDINATES) for plan in plans]
    cells = pd.concat(planned, ignore_index=True).drop_duplicates()
    found = cells.merge(records[[*COORDINATES, "status", "error"]], on=COORDINATES, how="left")
    found["status"] = found["status"].fillna("missing")
    return found.sort_values(COORDINATES, ignore_index=True)


def read_plan(folder: Path) -> dict[str, Any]:
    """What the last command in a sweep's folder was asked for, from `sweep.yaml`; {} where that cannot be read."""
    try:
        found = yaml.safe_load((folder / "sweep.yaml").read_text(encoding="utf-8"))
    except Exception:  # PyYAML raises many kinds
        return {}
    return found if isinstance(found, dict) and _sound(found) else {}


def added_of(plan: Mapping[str, Any]) -> dict[str, list[int]]:
    """The seeds that were added by looking, by loss or baseline; {} where there are none, or not as they should be."""
    grown = plan.get("grown")
    added = grown.get("added") if isinstance(grown, dict) else None
    if not isinstance(added, dict):
        return {}
    return {
        str(name): seeds
        for name, seeds in added.items()
        if isinstance(seeds, list) and seeds and all(isinstance(seed, int) for seed in seeds)
    }


def _sound(plan: Mapping[str, Any]) -> bool:
    """Whether each axis that it has is a list of values of its type."""
    axes = [(plan.get(name) or [], kinds) for name, kinds in _AXES.items()]
    return all(isinstance(axis, list) and all(isinstance(value, kinds) for value in axis) for axis, kinds in axes)


def _has_nu(records: pd.DataFrame) -> bool:
    real = records[(records["rho"] > 0) & (records["pairing"] != "false_positive")]
    return bool((real["nu"] > 0).any()) or (real.empty and set(records["dataset"]) == {"vts"})


def _cells(plan: Mapping[str, Any], has_nu: bool) -> Iterator[tuple[str, float, float, str, int]]:
    """The distinct cells that a sweep's axes span: as `sweep.grid.expand`, which a test holds it to."""
    objectives, *axes, seeds = (plan.get(name) or [] for name in ("objectives", "rho", "pairings", "seeds"))
    grids = [(objectives, seeds), *(([name], own) for name, own in added_of(plan).items())]
    for objective, rho, pairing, seed in (point for names, own in grids for point in product(names, *axes, own)):
        for nu in plan.get("nu") or [0.0]:
            noise = 1.0 if pairing == "false_positive" else float(nu) if has_nu else 0.0
            if objective in BASELINES or rho == 0 or (has_nu and noise == 0):
                yield objective, 0.0, 0.0, "none", seed
            else:
                yield objective, float(rho), noise, pairing, seed
