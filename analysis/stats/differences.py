"""The differences of the paper: noisy pairs against mere exposure, against no noise, against no pretraining.

All functions map a tidy frame to a tidy frame, in the unit of the metric (F1 as a fraction, not in points). Only cells
with status 'done' have a value. A difference that lacks one of its two values is null, not omitted.
"""

from collections.abc import Sequence

import pandas as pd

from analysis.errors import RecordsError

_SEVERAL = {"recipe": "recipes", "data": "sets of data"}

_GROUP = ["dataset", "objective"]
_POINT = [*_GROUP, "rho", "nu"]


def noisy_minus_exposure(records: pd.DataFrame, metric: str = "test_f1_macro") -> pd.DataFrame:
    """Pairing `noisy` minus pairing `exposure` (figures 7-9): see `noisy_minus`."""
    return noisy_minus(records, "exposure", metric)


def noisy_minus(records: pd.DataFrame, other: str, metric: str = "test_f1_macro") -> pd.DataFrame:
    """Pairing `noisy` minus pairing `other`, paired by dataset, objective, rho, nu and seed.

    Columns: these five, `noisy`, the name of `other`, `difference`. If a cell of a pair failed or was not run, the pair
    has nulls. A false positive has nu 1. Raises `RecordsError` for an unknown metric and for records that cannot be
    compared.
    """
    pairs = comparable(records, metric)
    pairs = pairs[pairs["pairing"].isin(["noisy", other])]
    halves = pairs.pivot(index=[*_POINT, "seed"], columns="pairing", values=metric)
    halves = halves.reindex(columns=["noisy", other]).astype(float)
    halves["difference"] = halves["noisy"] - halves[other]
    return halves.rename_axis(columns=None).reset_index()


def difference_by_objective(differences: pd.DataFrame) -> pd.DataFrame:
    """Mean and spread of `noisy_minus_exposure` over the grid: one row for each dataset and objective.

    Each grid point (rho, nu) is first averaged over its seeds. Then `mean` and `std` (sample standard deviation, ddof
    1, null below two points) are over grid points, as in the paper, which has one seed. Columns: dataset, objective,
    `mean`, `std`, and the numbers `n` of complete pairs, `cells` of grid points with a value, `seeds`, and `missing` of
    incomplete pairs.
    """
    points = differences.groupby(_POINT)["difference"].mean().groupby(_GROUP)
    whole = differences.dropna(subset="difference")
    table = differences.groupby(_GROUP)["difference"].agg(n="count", runs="size")
    table = table.join(points.agg(mean="mean", std="std", cells="count"))
    table["seeds"] = whole.groupby(_GROUP)["seed"].nunique().reindex(table.index, fill_value=0)
    table["missing"] = table["runs"] - table["n"]
    return table.drop(columns="runs").reset_index()


def against_rho_zero(records: pd.DataFrame, metric: str = "test_f1_macro") -> pd.DataFrame:
    """Each cell with noisy pairs minus the cell at rho 0 of the same dataset, objective and seed.

    Columns: dataset, objective, rho, nu, pairing, seed, `value`, `rho_zero`, `difference` (null if one of the two is
    missing). Raises as `noisy_minus`.
    """
    cells = comparable(records, metric)
    clean = cells[cells["rho"] == 0]
    return _minus(cells[cells["rho"] > 0], clean, [*_GROUP, "seed"], metric, "rho_zero")


def against_random(records: pd.DataFrame, metric: str = "test_f1_macro") -> pd.DataFrame:
    """Each cell at rho 0 minus the random encoder of the same dataset and seed, also for the other baselines.

    Columns as `against_rho_zero`, with `random` in place of `rho_zero`. Raises as `noisy_minus`.
    """
    cells = comparable(records, metric)
    random = cells["objective"] == "random"
    return _minus(cells[(cells["rho"] == 0) & ~random], cells[random], ["dataset", "seed"], metric, "random")


def one_grid(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with nu below 1, or all if there are none: the grid of tables that show several differences.

    With nu 1, noisy pairs are false positives. A mean with them and a mean without them must not be compared.
    """
    partial = rows["nu"] < 1
    return rows[partial] if partial.any() else rows


def main_pairing(rows: pd.DataFrame) -> str:
    """The pairing of noisy pairs in tables and figures that show one: the first that was run.

    `noisy`; or `false_positive` (CIFAR-10), then `misregistration`, if no cell of those before was run.
    """
    run = set(rows["pairing"])
    return next((name for name in ("noisy", "false_positive", "misregistration") if name in run), "noisy")


def of_noisy_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the `main_pairing`."""
    return rows[rows["pairing"] == main_pairing(rows)]


def grid_text(rows: pd.DataFrame) -> str:
    """The grid of records or differences, such as "rho 0.5, 1; nu 0.5"; real pairs have no nu."""
    levels = {name: sorted(set(rows.loc[rows["rho"] > 0, name])) for name in ("rho", "nu")}
    named = [f"{name} {', '.join(f'{v:g}' for v in found)}" for name, found in levels.items() if any(found)]
    return "; ".join(named)


def comparable(records: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The records with `metric` null for failed cells, if the cells are distinct and can be compared.

    Raises:
        RecordsError: `metric` is not a column, a cell occurs twice, or the cells of one dataset and objective have
            several recipes or data, which would add to their differences.
    """
    if metric not in records.columns:
        known = ", ".join(name for name in records.columns if name.startswith(("test_", "val_")))
        raise RecordsError(f"the records have no metric {metric!r}: use one of {known}")
    for name in ("recipe", "data"):
        groups = records.groupby(_GROUP)[name]
        several = groups.nunique(dropna=False)
        for dataset, objective in several.index[several > 1]:
            values = sorted(set(groups.get_group((dataset, objective)).fillna("not recorded")))
            raise RecordsError(
                f"the records of {dataset} {objective} come from {len(values)} {_SEVERAL[name]} "
                f"({', '.join(values)}): keep one, as in records[records['{name}'] == ...]"
            )
    twice = records.duplicated([*_POINT, "pairing", "seed"])
    if twice.any():
        key = records.loc[twice, "key"].iloc[0]
        raise RecordsError(f"the cell {key} occurs twice, under two keys: keep one of them")
    return records.assign(**{metric: records[metric].where(records["status"] == "done")})


def _minus(cells: pd.DataFrame, reference: pd.DataFrame, by: Sequence[str], metric: str, name: str) -> pd.DataFrame:
    reference = reference[[*by, metric]].rename(columns={metric: name})
    cells = cells[[*_POINT, "pairing", "seed", metric]].rename(columns={metric: "value"})
    table = cells.merge(reference, on=list(by), how="left", validate="many_to_one")
    return table.assign(difference=table["value"] - table[name])
