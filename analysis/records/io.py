"""The records of a sweep: one row and one Parquet file for each cell.

The folder of a sweep holds `records/dataset=<d>/objective=<o>/<key>.parquet` (names are %-encoded),
`curves/<key>.parquet` and `summary.parquet` (all records in one table). All are plain Parquet, readable without this
project. `analysis.records.schema` defines the columns. A folder may also hold `summary.parquet` alone, as a copy does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analysis.errors import RecordsError
from analysis.records import parquet
from analysis.records.remote import local_copy
from analysis.records.schema import (
    COLUMNS,
    PARTITIONS,
    SCHEMA,
    class_columns,
    is_allowed,
    partition_folder,
    record_table,
    schema,
    setting_columns,
    varied_settings,
)
from analysis.text import one_line

#: The file of all records.
SUMMARY = "summary.parquet"

#: Records are sorted by the coordinates of the cell.
ORDER = ("dataset", "objective", "rho", "nu", "pairing", "seed")

#: The columns of a curve file; `step` counts optimiser steps of its stage, the unit of `value` depends on `name`.
CURVES = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
    ]
)

#: The stages of a curve: pretraining, with its validation, and training of the probe.
STAGES = ("pretrain", "probe")

_RERUN = "delete it and run the same command again, which runs the cell again"
_RECOMPACT = "rebuild it with `python -m analysis.summary DIR` from the folder that holds its records"
_HOW_TO_MAKE = "run a sweep there with `python -m sweep.run`, or name another folder"


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The recorded cells of a folder: key -> 'done' or 'failed', and the files that could not be read."""

    status: Mapping[str, str]
    unreadable: tuple[Path, ...]


def write_record(
    folder: str | PathLike[str],
    row: Mapping[str, Any],
    classes: Sequence[str],
    settings: Mapping[str, type] | None = None,
) -> Path:
    """Write the record of one cell, replacing one with the same key, and return its path.

    Args:
        folder: of the sweep.
        row: a value for every column of `schema(classes, settings)`; `schema` itself is optional.
        classes: names of the classes.
        settings: the settings that the sweep varies, each with `float` or `str`.

    Raises:
        RecordsError: columns are missing or unknown, a required one is null, or a value has another type.
        OSError: the disk is full or read-only. Then no part of the file is visible.
    """
    # Without the partition columns, as Spark and Hive write. pandas and `pyarrow.parquet` take these from folder names
    # as dictionaries, `pyarrow.dataset` takes them as strings, and each fails if the file has the other type.
    table = record_table(row, classes, settings).drop_columns(list(PARTITIONS))
    return parquet.write(_record_file(folder, row), table)


def is_recorded(folder: str | PathLike[str], cell: Mapping[str, Any]) -> bool:
    """Whether a folder has a readable record of the cell with this key, data set and objective."""
    try:
        return bool(len(parquet.read(_record_file(folder, cell), columns=("key", "status", "schema"), remedy=_RERUN)))
    except (RecordsError, FileNotFoundError):
        return False


def _record_file(folder: str | PathLike[str], row: Mapping[str, Any]) -> Path:
    place = Path(folder, "records", *(partition_folder(name, row[name]) for name in PARTITIONS))
    return place / f"{row['key']}.parquet"


def read_records(folder: str | PathLike[str]) -> pd.DataFrame:
    """The records of a folder, an address or a summary.parquet: one row per cell, sorted by `ORDER`.

    Columns are those of `schema`, with a `test_f1_<class>` for every class found, null for data sets without that
    class. A column that is newer than a record is null there. The partition folders of other tools count as columns. In
    a summary of several sweeps a key may occur once for each value of `data`.

    Raises:
        RecordsError: there are no records, a file cannot be read or is not a record, a record has another schema, or a
            key occurs twice.
    """
    frame = _load(local_copy(folder)).to_pandas()
    # They identify cells, and may have been computed: .1 + .2 is .3.
    frame = frame.assign(rho=frame["rho"].round(9), nu=frame["nu"].round(9))
    # With nulls, pandas would convert them to other types. The type of a column must not depend on its content.
    nullable = {pa.int64(): "Int64", pa.bool_(): "boolean"}
    return frame.astype({c.name: nullable[c.type] for c in COLUMNS if c.type in nullable and c.required != "always"})


def recorded_keys(folder: str | PathLike[str]) -> Recorded:
    """The cells recorded in a folder or at an address, from three columns only; none if the folder does not exist.

    A damaged or foreign file is listed in `unreadable`, and its cell runs again. Raises `RecordsError` for a record
    with a newer schema or a key that occurs twice.
    """
    status: dict[str, str] = {}
    origin: dict[str, Path] = {}
    unreadable = []
    for path in record_files(local_copy(folder)):
        try:
            table = parquet.read(path, columns=("key", "status", "schema"), remedy=_RERUN)
        except RecordsError:
            unreadable.append(path)
            continue
        if sorted(table.column_names) != ["key", "schema", "status"]:  # one is absent or occurs twice
            unreadable.append(path)
            continue
        _check_version(path, table)
        try:
            keys, states = (table[name].cast(pa.string()).to_pylist() for name in ("key", "status"))
        except pa.ArrowException:
            unreadable.append(path)
            continue
        for key in keys:
            if key in origin:
                raise _duplicate_key_error(key, (origin[key], path))
            origin[key] = path
        status.update(zip(keys, states, strict=True))
    return Recorded(status=status, unreadable=tuple(unreadable))


def compact(folder: str | PathLike[str]) -> Path:
    """Write all records to `<folder>/summary.parquet`, one row per cell, sorted by `ORDER`, and return its path.

    A summary without other records remains as it is. Raises as `read_records`, and `OSError` if the file cannot be
    written.
    """
    summary = Path(folder, SUMMARY)
    return summary if has_summary_alone(Path(folder)) else parquet.write(summary, _load(Path(folder)))


def column_types(records: pd.DataFrame) -> pa.Schema:
    """The columns of a table of records, such as that of `read_records`, with their types in a Parquet file."""
    settings = {
        name: str if pd.api.types.is_string_dtype(records[name]) else float for name in varied_settings(records.columns)
    }
    return schema(class_columns(list(records.columns)), settings)


def write_curves(folder: str | PathLike[str], key: str, points: Iterable[tuple[str, int, str, float | None]]) -> Path:
    """Write the curves of a cell, points of (stage, step, name, value), replacing older ones; return the path.

    Raises `RecordsError` for an unknown stage or a malformed point, `OSError` as `write_record`.
    """
    try:
        rows = [dict(zip(CURVES.names, (key, *point), strict=True)) for point in points]
        table = pa.Table.from_pylist(rows, schema=CURVES)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise RecordsError(f"curves of {key}: {error}; a point is (stage, step, name, value)") from error
    strange = sorted(set(table["stage"].to_pylist()) - set(STAGES))
    if strange:
        raise RecordsError(f"curves of {key}: unknown stages {strange}, use {', '.join(STAGES)}")
    return parquet.write(Path(folder, "curves", f"{key}.parquet"), table)


def read_curves(folder: str | PathLike[str]) -> pd.DataFrame:
    """The curves of a folder in long format, with the columns of `CURVES`, cells sorted by key.

    Raises `RecordsError` if there are none or a file cannot be read.
    """
    place = local_copy(folder) / "curves"
    paths = parquet.files(place)
    if not paths:
        raise RecordsError(f"no curves in {place}: {_HOW_TO_MAKE}")
    tables = []
    for path in paths:
        table = parquet.read(path, remedy="delete it to continue without the curves of this cell")
        if table.schema != CURVES:
            raise RecordsError(f"{path} does not hold curves: move it elsewhere")
        tables.append(table)
    return pa.concat_tables(tables).to_pandas()


def record_files(folder: Path) -> list[Path]:
    """The files that hold the records of a folder: those in `records/`, else its `summary.parquet`; [] for neither."""
    summary = folder / SUMMARY
    return parquet.files(folder / "records") or ([summary] if summary.is_file() else [])


def has_summary_alone(folder: Path) -> bool:
    """Whether the folder has its records in `summary.parquet` alone, as a copy or a folder of docs/results."""
    return record_files(folder) == [folder / SUMMARY]


def _load(path: Path) -> pa.Table:
    """One sorted table of a folder or a summary, with all classes found; no two rows may be of one cell and data."""
    paths = [path] if path.is_file() else record_files(path)
    if not paths:
        raise RecordsError(f"no records in {path / 'records'}: {_HOW_TO_MAKE}")
    in_summary = paths in ([path], [path / SUMMARY])
    tables = [_with_partitions(one, parquet.read(one, remedy=_RECOMPACT if in_summary else _RERUN)) for one in paths]
    by_schema: dict[pa.Schema, list[int]] = {}
    for place, table in enumerate(tables):
        by_schema.setdefault(table.schema, []).append(place)
    groups = list(by_schema.values())
    try:
        # Most files have the same columns. Checks of the joined table take as long as those of one file.
        checked = [_checked(paths[group[0]], pa.concat_tables([tables[i] for i in group])) for group in groups]
    except RecordsError:  # which file is wrong?
        groups = [[place] for place in range(len(tables))]
        checked = [_checked(one, table) for one, table in zip(paths, tables, strict=True)]
    owners = [paths[place] for group in groups for place in group for _ in range(len(tables[place]))]
    # A summary may join sweeps, and then holds a cell once for each set of data.
    _check_distinct(owners, checked, ("key", "data") if in_summary else ("key",))
    whole = pa.concat_tables(_with_equal_settings(checked), promote_options="default")
    if not len(whole):
        raise RecordsError(f"no records in {paths[0]}: {_HOW_TO_MAKE}")
    return _sorted(whole.select(schema(class_columns(whole.column_names), setting_columns(whole.schema)).names))


def _checked(path: Path, table: pa.Table) -> pa.Table:
    """The table with the columns of the schema, if it holds records that this version can read."""
    names = table.column_names
    absent = [c.name for c in COLUMNS if c.required == "always" and c.name not in names]
    if absent:
        raise RecordsError(f"{path} is not a record, it lacks {', '.join(absent)}: {_where_to_move(absent)}")
    if len(set(names)) < len(names):
        raise RecordsError(f"{path} is not a record, it has two columns with one name: move it elsewhere")
    _check_version(path, table)
    table = _conform(path, table)
    _check_values(path, table)
    return table


def _with_equal_settings(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """A varied setting is text in all tables if it is text in one of them."""
    texts = {name for table in tables for name, kind in setting_columns(table.schema).items() if kind is str}
    equal = []
    for table in tables:
        for name in texts & set(table.column_names):
            place = table.column_names.index(name)
            table = table.set_column(place, name, table[name].cast(pa.string()))
        equal.append(table)
    return equal


def _where_to_move(absent: Sequence[str]) -> str:
    if set(absent) <= set(PARTITIONS):
        return f"move it back to records/{'/'.join(f'{name}=NAME' for name in PARTITIONS)}/"
    return "move it elsewhere"


def _with_partitions(path: Path, table: pa.Table) -> pa.Table:
    """With the columns from folder names such as `dataset=vts/`. Older files have them, too."""
    partitions = dict(part.split("=", 1) for part in path.parent.parts if "=" in part)
    for name in PARTITIONS:
        if name not in table.column_names and name in partitions:
            value = pa.scalar(unquote(partitions[name]), pa.string())
            table = table.append_column(name, pa.repeat(value, len(table)))
    return table


def _conform(path: Path, table: pa.Table) -> pa.Table:
    """The table with the types and order of the schema. Missing columns are null, foreign ones are dropped."""
    target = schema(class_columns(table.column_names), setting_columns(table.schema))
    columns = []
    for field in target:
        column = table[field.name] if field.name in table.column_names else pa.nulls(len(table), field.type)
        try:
            # Most columns have the type already, and a cast takes longer than reading the file.
            columns.append(column if column.type == field.type else column.cast(field.type))
        except pa.ArrowException as error:
            raise RecordsError(f"{path} is not a record: {field.name} is {column.type}: move it elsewhere") from error
    return pa.Table.from_arrays(columns, schema=target)


def _check_values(path: Path, table: pa.Table) -> None:
    """Reject a file from another tool with null or unknown values in required columns."""
    empty = []
    for column in (c for c in COLUMNS if c.required == "always"):
        values = table[column.name]
        if values.null_count or (column.type == pa.float64() and pc.any(pc.is_nan(values)).as_py()):
            empty.append(column.name)
    if empty:
        raise RecordsError(f"{path} is not a record, it has null in {', '.join(empty)}: move it elsewhere")
    for name in ("status", "pairing", *PARTITIONS):
        strange = sorted(v for v in pc.unique(table[name]).to_pylist() if not is_allowed(name, v))
        if strange:
            values = one_line(", ".join(map(repr, strange[:3])), most=120)
            raise RecordsError(
                f"{path} has {name} {values}, which this version does not know: "
                "install a newer noisy-pairs, or move it elsewhere"
            )


def _check_distinct(owners: Sequence[Path], tables: Sequence[pa.Table], by: Sequence[str]) -> None:
    """No two rows may be of one cell; `owners` is the file of each row."""
    cells = pa.concat_tables([table.select(by) for table in tables]).to_pandas().fillna("")
    again = cells.duplicated()
    if again.any():
        first = cells[again].iloc[0]
        rows = cells.index[(cells == first).all(axis=1)]
        raise _duplicate_key_error(first["key"], sorted(owners[row] for row in rows)[:2])


def _duplicate_key_error(key: str, paths: Sequence[Path]) -> RecordsError:
    places = " and ".join(dict.fromkeys(map(str, paths)))
    return RecordsError(f"the key {one_line(key, most=60)} occurs twice, in {places}: delete one of them")


def _sorted(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in (*ORDER, "key")])


def _check_version(path: Path, table: pa.Table) -> None:
    kind = table["schema"].type
    if not (pa.types.is_integer(kind) or pa.types.is_null(kind)):
        raise RecordsError(f"{path} is not a record: schema is {kind}: move it elsewhere")
    versions = set(pc.unique(table["schema"]).to_pylist())
    newest = max((v for v in versions if isinstance(v, int)), default=SCHEMA)
    if newest > SCHEMA:
        raise RecordsError(
            f"{path} has schema {newest}, newer than this version's {SCHEMA}: install a newer noisy-pairs"
        )
    # No schema is older than 1. Later, older records are to be migrated here.
    if strange := versions - {SCHEMA}:
        raise RecordsError(
            f"{path} has schema {strange.pop()}, which no version of noisy-pairs has written: move it elsewhere"
        )
