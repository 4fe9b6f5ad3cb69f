"""The records of a sweep: one row a cell, one Parquet file a row.

A sweep's folder holds `records/dataset=<d>/objective=<o>/<key>.parquet` (names %-encoded), `curves/<key>.parquet` and
`summary.parquet` (all records in one table). Each is plain Parquet and can be read without this project.
The columns are in `analysis.records.schema`.
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

#: What records are sorted by: the cell's coordinates.
ORDER = ("dataset", "objective", "rho", "nu", "pairing", "seed")

#: A curve file's columns; `step` counts optimiser steps of its stage, `value` has the unit of its `name`.
CURVES = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("step", pa.int64(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
    ]
)

#: The stages of a curve: training steps, noise-free validation during pretraining, the probe's training.
STAGES = ("pretrain", "probe")

_RERUN = "delete it and run the same command again, the cell is then run anew"
_RECOMPACT = "make it again with `python -m analysis.summary DIR`"
_HOW_TO_MAKE = "run a sweep into it with `python -m sweep.run`, or name another folder"


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a sweep's folder holds: key -> 'done' or 'failed', and the files that could not be read."""

    status: Mapping[str, str]
    unreadable: tuple[Path, ...]


def write_record(folder: str | PathLike[str], row: Mapping[str, Any], classes: Sequence[str]) -> Path:
    """Write one cell's record and return its path; a record of the same key is replaced.

    `row` maps every column of `schema(classes)` to its value (`schema` itself may be left out). Raises
    `RecordsError` for missing or unknown columns, a null in a required one and values of another type;
    `OSError` when the disk is full or read-only, and then no part of the file is visible.
    """
    table = record_table(row, classes)
    place = Path(folder, "records", *(partition_folder(name, row[name]) for name in PARTITIONS))
    return parquet.write(place / f"{row['key']}.parquet", _encode_partitions(table))


def read_records(folder: str | PathLike[str]) -> pd.DataFrame:
    """The records of a sweep's folder or address, or of a summary.parquet, a row per cell, sorted by `ORDER`.

    Columns as in `schema`, with a `test_f1_<class>` for every class met, null where a data set lacks it. A column
    that was added after a record was written is null there; the folders of a hive layout count as columns.
    Raises `RecordsError` where there are no records, a file cannot be read or is no record, a record is of
    another schema, or a key occurs twice. In a summary of several sweeps a key may occur once for each `data`.
    """
    path = local_copy(folder)
    if path.is_file():
        frame = _load([path], remedy=_RECOMPACT, distinct=("key", "data")).to_pandas()
    else:
        frame = _load(_record_files(path), remedy=_RERUN, distinct=("key",)).to_pandas()
    # They name cells, and may have been computed: .1 + .2 is .3.
    frame = frame.assign(rho=frame["rho"].round(9), nu=frame["nu"].round(9))
    # With a null they would turn to floats: a column's type shall not depend on its content.
    steps = {c.name: "Int64" for c in COLUMNS if c.type == pa.int64() and c.required != "always"}
    return frame.astype(steps)


def recorded_keys(folder: str | PathLike[str]) -> Recorded:
    """Which cells are recorded in a folder or at an address, read quickly; an absent folder has none.

    A file that is cut off or no record is not counted, so that its cell runs again, and is listed in
    `unreadable`. Raises `RecordsError` for a record of a newer schema or a key that occurs twice.
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
        if sorted(table.column_names) != ["key", "schema", "status"]:  # one is absent, or there twice
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
    """Put all records into `<folder>/summary.parquet`, one row a cell, sorted by `ORDER`; return its path.

    Raises what `read_records` raises, and `OSError` when the file cannot be written.
    """
    table = _load(_record_files(Path(folder)), remedy=_RERUN, distinct=("key",))
    return parquet.write(Path(folder, "summary.parquet"), table)


def write_curves(folder: str | PathLike[str], key: str, points: Iterable[tuple[str, int, str, float | None]]) -> Path:
    """Write a cell's curves, points of (stage, step, name, value), and return the path; replaces older ones.

    Raises `RecordsError` for an unknown stage or a point of other types, `OSError` as `write_record`.
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
    """The curves of a sweep's folder in long format, columns as in `CURVES`, cells sorted by key.

    Raises `RecordsError` where there are none or a file cannot be read.
    """
    place = local_copy(folder) / "curves"
    paths = parquet.files(place)
    if not paths:
        raise RecordsError(f"no curves in {place}: {_HOW_TO_MAKE}")
    tables = []
    for path in paths:
        table = parquet.read(path, remedy="delete it to do without this cell's curves")
        if table.schema != CURVES:
            raise RecordsError(f"{path} holds no curves: move it elsewhere")
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
    """One sorted table of the schema of all classes met; no two records have the same `distinct` columns."""
    tables = []
    for path in paths:
        table = _with_partitions(path, parquet.read(path, remedy=remedy))
        names = table.column_names
        absent = [c.name for c in COLUMNS if c.required == "always" and c.name not in names]
        if absent:
            raise RecordsError(f"{path} is not a record, it lacks {', '.join(absent)}: move it elsewhere")
        if len(set(names)) < len(names):
            raise RecordsError(f"{path} is not a record, it has two columns of one name: move it elsewhere")
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
    """With the columns that the folders say, as in `dataset=vts/`: other tools leave them out of the files."""
    partitions = dict(part.split("=", 1) for part in path.parent.parts if "=" in part)
    for name in PARTITIONS:
        if name not in table.column_names and name in partitions:
            value = pa.scalar(unquote(partitions[name]), pa.string())
            table = table.append_column(name, pa.repeat(value, len(table)))
    return table


def _conform(path: Path, table: pa.Table) -> pa.Table:
    """The table in the schema's types and order; a column it lacks is null, a foreign one is left out."""
    target = schema(class_columns(table.column_names))
    columns = []
    for field in target:
        column = table[field.name] if field.name in table.column_names else pa.nulls(len(table), field.type)
        try:
            # Most have the type already, and a cast takes more time than reading the file.
            columns.append(column if column.type == field.type else column.cast(field.type))
        except pa.ArrowException as error:
            raise RecordsError(f"{path} is not a record: {field.name} is {column.type}: move it elsewhere") from error
    return pa.Table.from_arrays(columns, schema=target)


def _check_values(path: Path, table: pa.Table) -> None:
    """Refuse a file of another tool's making where a record's coordinates are null or no such values exist."""
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
    # pandas and `pyarrow.parquet.read_table` take partition folders for dictionary columns, and refuse the
    # folder when the files hold plain strings of the same name.
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
    # There is no older schema than 1; when there is, it is migrated here.
    if strange := versions - {SCHEMA}:
        raise RecordsError(
            f"{path} has schema {strange.pop()}, which no version of noisy-pairs has written: move it elsewhere"
        )
