"""Grouped statistics: a score by any columns of the records, with counts of missing cells and an interval over seeds.

Values are in the unit of the metric (F1 as a fraction); only `render_groups` prints percent.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.errors import RecordsError
from analysis.names import LEVEL, in_paper_order, table_name
from analysis.records.schema import COLUMNS, varied_settings
from analysis.records.studies import STUDY, base_recipe, headline
from analysis.stats.intervals import mean_over_grid
from analysis.text import aligned, printable

#: The columns of a grid point. With a seed, it is a cell of a study.
POINT = ["objective", "rho", "nu", "pairing"]

#: The columns of `group_statistics` after those of the study and of `by`.
STATISTICS = (
    *("metric", "n", "failed", "missing", "points", "seeds", "mean", "std", "min", "max"),
    *("estimate", "low", "high", "left_out", "method"),
)

_PRINTED = ("n", "failed", "missing", "points", "seeds", "estimate", "low", "high", "std", "min", "max")


def group_statistics(
    records: pd.DataFrame, by: Sequence[str] = (), *, metric: str | None = None, level: float = LEVEL
) -> pd.DataFrame:
    """Statistics of a score for each study and each combination of the columns `by`.

    If a sweep varies settings, they are added to `by`, because their values must not be mixed, and the recipe is that
    of the sweep. Columns of the result: dataset, source, recipe, data, those of `by`, and

    - `metric`, its name; the numbers `n` of done cells that have it, of `failed` cells, and of `missing` ones (without
      it, or not recorded although the study has their grid point and seed); of `points` and `seeds` of the n cells;
    - `mean`, `std` (ddof 1, null below two), `min`, `max` of the n values;
    - `estimate`, `low`, `high`, `left_out`, `method` of `mean_over_grid`, which gives all grid points the same weight,
      with the t interval over seeds for any number of seeds.

    Args:
        records: as from `read_records`.
        by: any columns.
        metric: a column of numbers; by default that of `headline`.
        level: of the interval. Above `LEVEL`, seeds were added to some losses, so only the seeds of a loss itself can
            be missing.

    Raises:
        RecordsError: a column or the metric is unknown, or a study has a cell twice.
    """
    settings = [name for name in varied_settings(records.columns) if records[name].notna().any()]
    by = [name for name in dict.fromkeys([*settings, *by]) if name not in STUDY]
    _check_columns(records, by, metric)
    records = records.assign(recipe=base_recipe(records))
    point = [*POINT, *settings]
    study = records[STUDY].fillna("").groupby(STUDY).ngroup()
    names = {number: metric or headline(part) for number, part in records[["task"]].groupby(study)}
    rows = records[list(dict.fromkeys([*STUDY, *point, "seed", "status", *by]))].assign(
        study=study, point=records[point].groupby(point, dropna=False).ngroup(), metric=study.map(names), value=np.nan
    )
    for name in set(names.values()):
        here = (rows["metric"] == name) & (rows["status"] == "done")
        rows["value"] = rows["value"].where(~here, records[name].astype(float))
    twice = rows.duplicated(["study", "point", "seed"])
    if twice.any():
        raise RecordsError(f"the cell {records.loc[twice, 'key'].iloc[0]} occurs twice, under two keys: keep one")
    absent = _absent(rows, point, ragged=level > LEVEL)
    rows = rows if absent.empty else pd.concat([rows, absent], ignore_index=True)
    groups = rows.groupby(["study", *by], dropna=False)
    rows["group"] = groups.ngroup()
    table = rows.groupby("group")[[*STUDY, *by, "metric"]].first(skipna=False)
    table = table.join(_describe(rows)).join(_intervals(rows[["group", "point", "seed", "value"]], level))
    return in_paper_order(table[[*STUDY, *by, *STATISTICS]], [*STUDY, *by])


def render_groups(table: pd.DataFrame) -> str:
    """The table of `group_statistics` as text, with a section for each study; a score in 0-1 is shown in %."""
    by = [name for name in table.columns if name not in (*STUDY, *STATISTICS)]
    units = {column.name: column.unit for column in COLUMNS}
    sections = []
    for _, part in table.groupby([*STUDY, "metric"], dropna=False, sort=False):
        head = part.iloc[0].fillna("")
        unit = units.get(head["metric"], "0-1")
        what = f"{head['metric']}, {'%' if unit == '0-1' else unit}".removesuffix(", ")
        place = " on ".join(text for text in (head["dataset"], head["source"]) if text)
        data = f", data {head['data']}" if head["data"] else ""
        rows = [[*by, *_PRINTED], []] if by else [list(_PRINTED), []]
        for row in part.to_dict("records"):
            rows.append([_text(table_name(row[name]) if name == "objective" else row[name]) for name in by])
            rows[-1] += [_number(row[name], 100 if unit == "0-1" else 1) for name in _PRINTED]
        title = printable(f"{place}, recipe {head['recipe']}{data}: {what}, 95% interval over seeds")
        sections.append("\n".join([title, *aligned(rows), *_reasons(part)]))
    return "\n\n".join(sections)


def _check_columns(records: pd.DataFrame, by: Sequence[str], metric: str | None) -> None:
    if unknown := [name for name in by if name not in records.columns]:
        raise RecordsError(f"no column {unknown[0]!r} to group by: use some of {', '.join(records.columns)}")
    numbers = [str(name) for name in records.columns if pd.api.types.is_numeric_dtype(records[name])]
    if metric is not None and metric not in numbers:
        raise RecordsError(f"no column {metric!r} of numbers: use one of {', '.join(numbers)}")


def _absent(rows: pd.DataFrame, point: Sequence[str], *, ragged: bool) -> pd.DataFrame:
    """One row of coordinates for each combination of a recorded grid point and seed that has no record.

    With `ragged`, the seeds are those of the loss of the point, because losses have different seeds by design.
    """
    points = rows.drop_duplicates(["study", "point"])[["study", "point", *STUDY, *point, "metric"]]
    recorded = rows[["study", "point", "seed"]]
    shared = ["study", "objective"] if ragged else ["study"]
    spanned = points[["point", *shared]].merge(rows[[*shared, "seed"]].drop_duplicates(), on=shared)
    spanned = spanned[["study", "point", "seed"]]
    spanned = spanned.merge(recorded, how="left", indicator=True)
    absent = spanned[spanned["_merge"] == "left_only"][["study", "point", "seed"]]
    return absent.merge(points, on=["study", "point"]).assign(status="missing", value=np.nan)


def _describe(rows: pd.DataFrame) -> pd.DataFrame:
    scored = rows[rows["value"].notna()].groupby("group")
    failed = (rows["status"] == "failed").groupby(rows["group"]).sum()
    numbers = {name: ("value", name) for name in ("mean", "std", "min", "max", "size")}
    table: pd.DataFrame = rows.groupby("group").agg(n=("value", "count"), **numbers)
    table["failed"], table["missing"] = failed, table["size"] - table["n"] - failed
    for name, column in {"points": "point", "seeds": "seed"}.items():
        table[name] = scored[column].nunique().reindex(table.index, fill_value=0)
    return table.drop(columns="size")


def _intervals(rows: pd.DataFrame, level: float) -> pd.DataFrame:
    """Estimate and t interval of each group, without the bootstrap, which would take minutes for many groups."""
    names = ("estimate", "low", "high", "left_out", "method")
    estimates = {
        group: mean_over_grid(part.rename(columns={"point": "cell"}), level=level, bootstrap=False)
        for group, part in rows.groupby("group")
    }
    return pd.DataFrame([{name: getattr(one, name) for name in names} for one in estimates.values()], [*estimates])


def _reasons(part: pd.DataFrame) -> list[str]:
    lines = []
    if (part["method"] == "no interval: one seed").any():
        lines.append("  with one seed there is no interval")
    if left_out := int(part["left_out"].sum()):
        lines.append(f"  not in the estimates: {left_out} grid points with one seed, in groups where others have more")
    return lines


def _text(value: Any) -> str:
    text = "-" if pd.isna(value) else f"{value:g}" if isinstance(value, float) else str(value)
    return printable(text)[:40]


def _number(value: float, scale: int) -> str:
    if isinstance(value, int):
        return str(value)
    return "-" if pd.isna(value) else f"{scale * value:.2f}"
