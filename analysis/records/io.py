"""The records of a sweep: one row and one Parquet file for each cell.

The folder of a sweep holds `records/dataset=<d>/objective=<o>/<key>.parquet` (names are %-encoded),
`curves/<key>.parquet` and `summary.parquet` (all records in one table). All are plain Parquet, readable without this
project. `analysis.records.schema` defines the columns.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
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
)
from analysis.text import one_line

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
_RECOMPACT = "rebuild it with `python -m analysis.summary DIR`"
_HOW_TO_MAKE = "run a sweep there with `python -m sweep.run`, or name another folder"


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """The recorded cells of a folder: key -> 'done' or 'failed', and the files that could not be read."""

    status: Mapping[str, str]
    unreadable: tuple[Path, ...]


def write_record(folder: str | PathLike[str], row: Mapping[str, Any], classes: Sequence[str]) -> Path:
    """Write the record of one cell, replacing one with the same key, and return its path.

    Args:
        folder: of the sweep.
        row: a value for every column of `schema(classes)`; `schema` itself is optional.
        classes: names of the classes.

    Raises:
        RecordsError: columns are missing or unknown, a required one is null, or a value has another type.
        OSError: the disk is full or read-only. Then no part of the file is visible.
    """
    table = record_table(row, classes)
    place = Path(folder, "records", *(partition_folder(name, row[name]) for name in PARTITIONS))
    return parquet.write(place / f"{row['key']}.parquet", _encode_partitions(table))


def read_records(folder: str | PathLike[str]) -> pd.DataFrame:
    """The records of a folder, an address or a summary.parquet: one row per cell, sorted by `ORDER`.

    Columns are those of `schema`, with a `test_f1_<class>` for every class found, null for data sets without that
    class. A column that is newer than a record is null there. The partition folders of other tools count as columns. In
    a summary of several sweeps a key may occur once for each value of `data`.

    Raises:
        RecordsError: there are no records, a file cannot be read or is not a record, a record has another schema, or a
            key occurs twice.
    """
    path = local_copy(folder)
    if path.is_file():
        frame = _load([path], remedy=_RECOMPACT, distinct=("key", "data")).to_pandas()
    else:
        frame = _load(_record_files(path), remedy=_RERUN, distinct=("key",)).to_pandas()
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
    for path in parquet.files(local_copy(folder) / "records"):
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

    Raises as `read_records`, and `OSError` if the file cannot be written.
    """
    table = _load(_record_files(Path(folder)), remedy=_RERUN, distinct=("key",))
    return parquet.write(Path(folder, "summary.parquet"), table)


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


def _record_files(folder: Path) -> list[Path]:
    paths = parquet.files(folder / "records")
    if not paths:
        summary = folder / "summary.parquet"
        remedy = f"name {summary} instead" if summary.is_file() else _HOW_TO_MAKE
        raise RecordsError(f"no records in {folder / 'records'}: {remedy}")
    return paths


def _load(paths: Sequence[Path], *, remedy: str, distinct: Sequence[str]) -> pa.Table:
    """One sorted table with all classes found; no two records may have equal `distinct` columns."""
    tables = []
    for path in paths:
        table = _with_partitions(path, parquet.read(path, remedy=remedy))
        names = table.column_names
        absent = [c.name for c in COLUMNS if c.required == "always" and c.name not in names]
        if absent:
            raise RecordsError(f"{path} is not a record, it lacks {', '.join(absent)}: move it elsewhere")
        if len(set(names)) < len(names):
            raise RecordsError(f"{path} is not a record, it has two columns with one name: move it elsewhere")
        _check_version(path, table)
        table = _conform(path, table)
        _check_values(path, table)
        tables.append(table)
    _check_distinct(paths, tables, distinct)
    whole = pa.concat_tables(tables, promote_options="default")
    if not len(whole):
        raise RecordsError(f"no records in {paths[0]}: {_HOW_TO_MAKE}")
    return _sorted(whole.select(schema(class_columns(whole.column_names)).names))


def _with_partitions(path: Path, table: pa.Table) -> pa.Table:
    """With the columns from folder names such as `dataset=vts/`, which other tools omit from the files."""
    partitions = dict(part.split("=", 1) for part in path.parent.parts if "=" in part)
    for name in PARTITIONS:
        if name not in table.column_names and name in partitions:
            value = pa.scalar(unquote(partitions[name]), pa.string())
            table = table.append_column(name, pa.repeat(value, len(table)))
    return table


def _conform(path: Path, table: pa.Table) -> pa.Table:
    """The table with the types and order of the schema. Missing columns are null, foreign ones are dropped."""
    target = schema(class_columns(table.column_names))
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


def _check_distinct(paths: Sequence[Path], tables: Sequence[pa.Table], by: Sequence[str]) -> None:
    cells = pa.concat_tables([table.select(by) for table in tables]).to_pandas().fillna("")
    again = cells.duplicated()
    if again.any():
        first = cells[again].iloc[0]
        ends = list(accumulate(len(table) for table in tables))
        rows = cells.index[(cells == first).all(axis=1)]
        raise _duplicate_key_error(first["key"], [paths[bisect_right(ends, row)] for row in rows[:2]])


def _duplicate_key_error(key: str, paths: Sequence[Path]) -> RecordsError:
    places = " and ".join(dict.fromkeys(map(str, paths)))
    return RecordsError(f"the key {one_line(key, most=60)} occurs twice, in {places}: delete one of them")


def _sorted(table: pa.Table) -> pa.Table:
    return table.sort_by([(name, "ascending") for name in (*ORDER, "key")])


def _encode_partitions(table: pa.Table) -> pa.Table:
    # pandas and `pyarrow.parquet.read_table` read partition folders as dictionary columns. They fail if the files hold
    # plain strings under the same name.
    for name in PARTITIONS:
        index = table.schema.get_field_index(name)
        field = pa.field(name, pa.dictionary(pa.int32(), pa.string()), nullable=False)
        table = table.set_column(index, field, table[name].dictionary_encode())
    return table


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
