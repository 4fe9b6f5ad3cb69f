"""The columns of a record. `Record` defines them; everything else is derived from it."""

import operator
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from analysis.errors import RecordsError

#: Version of the schema, stored in every record. Increase it when the meaning of a column changes.
SCHEMA = 1

Required = Literal["always", "done", "failed", "never"]
"""In which records a column must not be null."""

CLASS_PREFIX = "test_f1_"
"""The column of a class has this prefix before its name."""


def _column(unit: str, meaning: str, *, required: Required = "never", default: Any = MISSING) -> Any:
    """A field of `Record`: a column with a unit (may be empty) and a meaning."""
    metadata = {"unit": unit, "meaning": meaning, "required": required}
    if default is MISSING and required != "always":
        default = None
    return field(metadata=metadata, default=default)


@dataclass(frozen=True, kw_only=True)
class Record:
    """The result of one cell. Each field is a column, in this order; `test_f1_classes` is one column per class.

    A field that may be None is a nullable column. `to_row` converts a record to a row.
    """

    key: str = _column("16 hex digits", "names the cell: hash of its coordinates and recipe", required="always")
    status: Literal["done", "failed"] = _column(
        "done, failed", "whether the cell reached its test score", required="always"
    )
    dataset: str = _column("name", "data set, such as vts, xbd, cifar10", required="always")
    objective: str = _column(
        "name", "loss (moco, ...) or baseline (random, pretrained, imagenet, supervised)", required="always"
    )
    rho: float = _column("0-1", "noisy-pairs rate: share of positive pairs that are noisy", required="always")
    nu: float = _column(
        "0-1",
        "noisy share of a noisy image; 0 for rho 0, real and misregistered pairs, 1 for false positives",
        required="always",
    )
    pairing: str = _column(
        "name", "noisy, exposure, irrelevant, false_positive, misregistration; none where rho is 0", required="always"
    )
    seed: int = _column("", "replicate: every random stream derives from it", required="always")
    settings: Mapping[str, float | str] = field(
        default_factory=dict,
        metadata={"unit": "", "meaning": "a setting that the sweep varies; null if the objective does not use it"},
    )
    test_f1_macro: float | None = _column("0-1", "test F1, mean over the classes that test masks show", required="done")
    test_f1_classes: Mapping[str, float | None] = field(
        default_factory=dict,
        metadata={"unit": "0-1", "meaning": "test F1 of a class, one column per class; null if no test mask shows it"},
    )
    test_miou: float | None = _column(
        "0-1", "test intersection over union, mean over the same classes", required="done"
    )
    test_accuracy: float | None = _column(
        "0-1", "share of test pixels (or images) classified correctly", required="done"
    )
    test_xview2: float | None = _column(
        "0-1", "xView2 score, for xBD: .3 localisation F1 + .7 harmonic mean of damage F1s"
    )
    val_f1_macro: float | None = _column("0-1", "macro F1 on the validation images")
    pretrain_loss: float | None = _column("of the loss", "last training loss")
    pretrain_val_loss: float | None = _column("of the loss", "best noise-free validation loss: the weights kept")
    pretrain_plateau: float | None = _column("of the loss", "the loss when all features are equal: nothing learnt")
    pretrain_floor: float | None = _column("of the loss", "the least loss that the validation labels allow")
    collapsed: bool | None = _column(
        "", "whether the loss ended at its plateau, or all features are practically equal; null without pretraining"
    )
    feature_std: float | None = _column("0-1", "spread of the unit features of validation images; 0: all equal")
    feature_rank: float | None = _column("", "effective rank of these features, 1 to the number of channels")
    pretrain_best_step: int | None = _column("steps", "optimiser step of pretrain_val_loss")
    pretrain_steps: int | None = _column("steps", "optimiser steps of pretraining")
    noisy_pairs: float | None = _column("0-1", "realised share of the pairs shown that were noisy")
    noise_pixels: float | None = _column("0-1", "realised pixel share of noise in a noisy image")
    nu_measured: float | None = _column(
        "0-1", "measured nu: share of pixels whose class differs between a noisy image and its clean one"
    )
    recipe: str = _column("fingerprint", "everything held fixed over the grid", required="always")
    base: str | None = _column("fingerprint", "the recipe of a sweep that varies settings, before it changes them")
    data: str | None = _column("fingerprint", "the data as they were read")
    source: str | None = _column("", "what the data were made from, such as folder textures (wool, ...)")
    task: str | None = _column(
        "name",
        "what the probe learns: segmentation, classification (scores count images, else pixels), change, "
        "classes_from_pair",
    )
    weights: str | None = _column("file, fingerprint", "the file of weights that the encoder starts from")
    commit: str | None = _column("git hash", "source code that ran")
    version: str = _column("", "version of noisy-pairs", required="always")
    versions: str | None = _column("JSON", "versions of the libraries: name -> version")
    device: str | None = _column("name", "processor or accelerator")
    precision: str | None = _column("name", "arithmetic of the encoder, such as fp32, bf16")
    layout: str | None = _column("name", "order of the encoder's features in memory, such as channels_last")
    compile: str | None = _column("name", "torch.compile's mode for the encoder; no where it was not compiled")
    threads: int | None = _column("threads", "CPU threads the cell could use")
    seconds: float | None = _column("s", "wall time of the whole cell")
    pretrain_seconds: float | None = _column("s", "wall time of pretraining")
    probe_seconds: float | None = _column("s", "wall time of training and testing the probe")
    images_per_second: float | None = _column("images/s", "source images a second in pretraining, data included")
    started: str = _column("ISO 8601, UTC", "when the cell began", required="always")
    error: str | None = _column("", "why it failed; null where done", required="failed")
    schema: int = _column(
        "", f"version of these columns, now {SCHEMA}; filled in on writing", required="always", default=SCHEMA
    )

    def with_values(self, values: Mapping[str, Any]) -> "Record":
        """A copy with these values, by column name: `test_f1_<class>` is the score of a class.

        Raises `RecordsError` for an unknown column.
        """
        own = {name: value for name, value in values.items() if name in _NAMES}
        classes = {name: value for name, value in values.items() if name not in _NAMES}
        _raise_if_any(
            f"record {self.key}", "has unknown columns", [n for n in classes if not n.startswith(CLASS_PREFIX)]
        )
        scores = {name.removeprefix(CLASS_PREFIX): value for name, value in classes.items()}
        return replace(self, test_f1_classes={**self.test_f1_classes, **scores}, **own)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a record; `required` says in which records it must not be null."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    required: Required


_TYPES = {str: pa.string(), float: pa.float64(), int: pa.int64(), bool: pa.bool_()}
_GROUPS = {"test_f1_classes": f"{CLASS_PREFIX}<class>", "settings": "<part>.<setting>"}


def _arrow_type(annotation: Any) -> pa.DataType:
    """The Arrow type for the annotation of a field: `float | None` is a double, a Literal of strings a string."""
    if isinstance(annotation, types.UnionType):
        (annotation,) = (part for part in typing.get_args(annotation) if part is not types.NoneType)
    if typing.get_origin(annotation) is Literal:
        annotation = str
    return _TYPES[annotation]


def _column_of(one: "Field[Any]") -> Column:
    return Column(name=one.name, type=_arrow_type(one.type), **one.metadata)


#: The columns in order. Varied settings follow `seed`, and `test_f1_<class>` follow `test_f1_macro` (see `schema`).
COLUMNS: tuple[Column, ...] = tuple(_column_of(one) for one in fields(Record) if one.name not in _GROUPS)

_NAMES = frozenset(column.name for column in COLUMNS)

_GROUP_METADATA = {one.name: one.metadata for one in fields(Record) if one.name in _GROUPS}

#: Partition columns: folders of `records/`, and columns of each file.
PARTITIONS = ("dataset", "objective")

_NULL: dict[Required, str] = {"always": "never", "done": "if failed", "failed": "if done", "never": "may be"}

# Of the name of a folder, on all common file systems.
_LONGEST_NAME = 255

_SPELLING = {
    "key": re.compile(r"[0-9a-f]{16}"),
    "status": re.compile("done|failed"),
    # These two become folder names. A name that begins with a digit would be read back as a number.
    # A built-in name, or a class of another package: package.module:Class.
    "dataset": re.compile(r"[A-Za-z][A-Za-z0-9_.-]*(:[A-Za-z_][A-Za-z0-9_.]*)?"),
    # The same, with or without settings: package.module:Loss(temperature=0.3).
    "objective": re.compile(r"[A-Za-z][A-Za-z0-9_.-]*(:[A-Za-z_][A-Za-z0-9_.]*)?(\([ -~]*\))?"),
    "pairing": re.compile("noisy|exposure|irrelevant|false_positive|misregistration|none"),
}


_SETTING = re.compile(r"\w+\.\w+")


def schema(classes: Sequence[str], settings: Mapping[str, type] | None = None) -> pa.Schema:
    """The columns of a record for a data set with these classes, in a sweep that varies these settings.

    `settings`: the name of each, such as `pretrain.steps`, with `float` or `str`. Raises `RecordsError` for a class
    named `macro`, an empty name or a duplicate name.
    """
    return _schema(tuple(classes), tuple((settings or {}).items()))


@lru_cache(maxsize=64)  # a folder has thousands of files with the same columns
def _schema(names: tuple[str, ...], settings: tuple[tuple[str, type], ...]) -> pa.Schema:
    if len(set(names)) < len(names) or "macro" in names or "" in names:
        raise RecordsError(f"classes {list(names)}: names must be distinct, not empty and not 'macro'")
    columns = []
    for column in COLUMNS:
        columns.append(pa.field(column.name, column.type, nullable=column.required != "always"))
        if column.name == "seed":
            columns += [pa.field(name, _TYPES[kind]) for name, kind in settings]
        if column.name == "test_f1_macro":
            columns += [pa.field(f"{CLASS_PREFIX}{name}", pa.float64()) for name in names]
    return pa.schema(columns)


def empty_row(classes: Sequence[str], settings: Mapping[str, type] | None = None) -> dict[str, Any]:
    """A row of nulls in the order of `schema`, without the column `schema`, which is added on writing."""
    return dict.fromkeys(name for name in schema(classes, settings).names if name != "schema")


def to_row(record: Record, classes: Sequence[str], settings: Mapping[str, type] | None = None) -> dict[str, Any]:
    """The record as a row for `write_record`, with the columns of `empty_row` in order.

    The score of a class may be missing, and is then null; so is a setting that the objective does not use. Raises
    `RecordsError` for a score of an unknown class, and for an unknown setting.
    """
    unknown = [f"{CLASS_PREFIX}{name}" for name in record.test_f1_classes if name not in classes]
    unknown += [name for name in record.settings if name not in (settings or {})]
    _raise_if_any(f"record {record.key}", "has unknown columns", unknown)
    scores = {f"{CLASS_PREFIX}{name}": value for name, value in record.test_f1_classes.items()}
    columns = {column.name: getattr(record, column.name) for column in COLUMNS if column.name != "schema"}
    values = {name: (settings or {})[name](value) for name, value in record.settings.items()}
    return {**empty_row(classes, settings), **values, **scores, **columns}


def class_columns(names: Sequence[str]) -> list[str]:
    """The classes with a column `test_f1_<class>` among these names, in their order."""
    return [n.removeprefix(CLASS_PREFIX) for n in names if n.startswith(CLASS_PREFIX) and n != "test_f1_macro"]


def setting_columns(table: pa.Schema) -> dict[str, type]:
    """The varied settings among the columns of a table, with `float` or `str`."""
    kinds = {name: table.field(name).type for name in varied_settings(table.names)}
    return {
        name: float if pa.types.is_floating(kind) or pa.types.is_integer(kind) else str for name, kind in kinds.items()
    }


def varied_settings(names: Iterable[str]) -> list[str]:
    """The varied settings among the names of columns."""
    return [name for name in names if _SETTING.fullmatch(name) and not name.startswith(CLASS_PREFIX)]


def is_allowed(name: str, value: object) -> bool:
    """Whether the column may hold the value; any value for columns without a fixed form."""
    if name in PARTITIONS and len(partition_folder(name, value)) > _LONGEST_NAME:
        return False
    return name not in _SPELLING or _SPELLING[name].fullmatch(str(value)) is not None


def partition_folder(name: str, value: object) -> str:
    """The folder of `records/` for a value, such as `dataset=vts`; special characters are %-encoded.

    This is the Hive encoding, which pyarrow, pandas and duckdb decode.
    """
    return f"{name}={quote(str(value), safe='')}"


def described_columns(table: pa.Schema) -> list[Column]:
    """The columns of a table of records, in its order, also those of its classes and varied settings.

    Raises `RecordsError` for a column that no record has.
    """
    known = {column.name: column for column in COLUMNS}
    settings = varied_settings(table.names)
    groups = {name: "settings" if name in settings else "test_f1_classes" for name in table.names if name not in known}
    foreign = [name for name, group in groups.items() if group != "settings" and not name.startswith(CLASS_PREFIX)]
    _raise_if_any("the table", "has unknown columns", foreign)
    return [
        known[one.name]
        if one.name in known
        else Column(name=one.name, type=one.type, required="never", **_GROUP_METADATA[groups[one.name]])
        for one in table
    ]


def columns_markdown(columns: Sequence[Column] | None = None) -> str:
    """A Markdown table of columns (default: all of a record): name, type, unit, meaning, and when they are null."""
    if columns is None:
        columns = [
            Column(name=_GROUPS[one.name], type=pa.float64(), required="never", **one.metadata)
            if one.name in _GROUPS
            else _column_of(one)
            for one in fields(Record)
        ]
    rows = ["| column | type | unit | meaning | null |", "|---|---|---|---|---|"]
    for column in columns:
        cells = (f"`{column.name}`", column.type, column.unit, column.meaning, _NULL[column.required])
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def record_table(
    row: Mapping[str, Any], classes: Sequence[str], settings: Mapping[str, type] | None = None
) -> pa.Table:
    """A table of one record. Raises `RecordsError` with the names of missing, unknown, null or wrong columns.

    `row` holds every column of `schema(classes, settings)`; only `schema` is optional. NaN is stored as null, because
    not all readers distinguish the two.
    """
    target = schema(classes, settings)
    row = {"schema": SCHEMA, **{name: _null_for_nan(value) for name, value in row.items()}}
    where = f"record {row.get('key', 'without key')}"
    # Checked here, because `Table.from_pylist` silently sets a missing key to null and drops an unknown one.
    _raise_if_any(where, "lacks the columns", [n for n in target.names if n not in row])
    _raise_if_any(where, "has unknown columns", [n for n in row if n not in target.names])
    demands = ("always", row["status"])
    _raise_if_any(where, "has null in", [c.name for c in COLUMNS if c.required in demands and row[c.name] is None])
    wrong = [f"{n}={row[n]!r}" for n in _SPELLING if not is_allowed(n, row[n])]
    if row["schema"] != SCHEMA:
        wrong.append(f"schema={row['schema']!r}")
    _raise_if_any(where, "has values that are not allowed:", wrong)
    return pa.Table.from_arrays([_array(where, column, row[column.name]) for column in target], schema=target)


def _null_for_nan(value: Any) -> Any:
    return None if isinstance(value, float | np.floating) and np.isnan(value) else value


def _raise_if_any(where: str, what: str, names: Sequence[str]) -> None:
    if names:
        raise RecordsError(f"{where} {what} {', '.join(names)}")


def _array(where: str, column: pa.Field, value: Any) -> pa.Array:
    try:
        if value is not None and pa.types.is_integer(column.type):
            value = operator.index(value)  # pyarrow would cut 1.5 down to 1
        return pa.array([value], column.type)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise RecordsError(f"{where}: {column.name}={value!r} is not of type {column.type}") from error
