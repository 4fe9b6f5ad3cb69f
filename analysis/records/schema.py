"""What a record holds: its columns, their types and units, and which of them must be there."""

import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from analysis.errors import RecordsError

#: The schema's version, stored in every record. Raise it when a column changes its meaning.
SCHEMA = 1

Required = Literal["always", "done", "failed", "never"]


@dataclass(frozen=True)
class Column:
    """One column of a record: name, type, unit, meaning, and in which records it must not be null."""

    name: str
    type: pa.DataType
    unit: str
    meaning: str
    required: Required = "never"


_text, _real, _whole = pa.string(), pa.float64(), pa.int64()

#: The columns in order; `test_f1_<class>`, one a class, stand behind `test_f1_macro` (see `schema`).
COLUMNS: tuple[Column, ...] = (
    Column("key", _text, "16 hex digits", "names the cell: hash of its coordinates and recipe", "always"),
    Column("status", _text, "done, failed", "whether the cell reached its test score", "always"),
    Column("dataset", _text, "name", "data set, such as vts, xbd, cifar10", "always"),
    Column("objective", _text, "name", "loss (moco, ...) or baseline (random, imagenet, supervised)", "always"),
    Column("rho", _real, "0-1", "noisy-pairs rate: share of positive pairs that are noisy", "always"),
    Column(
        "nu",
        _real,
        "0-1",
        "noisy share of a noisy image; 0 for rho 0 and real pairs, 1 for false positives",
        "always",
    ),
    Column("pairing", _text, "name", "noisy, exposure, irrelevant, false_positive; none where rho is 0", "always"),
    Column("seed", _whole, "", "replicate: every random stream derives from it", "always"),
    Column("test_f1_macro", _real, "0-1", "test F1, mean over all classes", "done"),
    Column("test_miou", _real, "0-1", "test intersection over union, mean over all classes", "done"),
    Column("test_accuracy", _real, "0-1", "share of test pixels (or images) classified correctly", "done"),
    Column("test_xview2", _real, "0-1", "xView2 score, for xBD: .3 localisation F1 + .7 harmonic mean of damage F1s"),
    Column("val_f1_macro", _real, "0-1", "macro F1 on the validation images"),
    Column("pretrain_loss", _real, "nats", "last training loss"),
    Column("pretrain_val_loss", _real, "nats", "best noise-free validation loss: the weights kept"),
    Column("pretrain_plateau", _real, "nats", "the loss when all features are equal: nothing learnt"),
    Column("pretrain_best_step", _whole, "steps", "optimiser step of pretrain_val_loss"),
    Column("pretrain_steps", _whole, "steps", "optimiser steps of pretraining"),
    Column("noisy_pairs", _real, "0-1", "realised share of the pairs shown that were noisy"),
    Column("noise_pixels", _real, "0-1", "realised pixel share of noise in a noisy image"),
    Column("recipe", _text, "fingerprint", "everything held fixed over the grid", "always"),
    Column("data", _text, "fingerprint", "the data as they were read"),
    Column("source", _text, "", "what the data were made from, such as folder textures (wool, ...)"),
    Column("task", _text, "segmentation, classification", "what the probe learns; scores count pixels, or images"),
    Column("weights", _text, "file, fingerprint", "the weights of the baseline imagenet"),
    Column("commit", _text, "git hash", "source code that ran"),
    Column("version", _text, "", "version of noisy-pairs", "always"),
    Column("versions", _text, "JSON", "versions of the libraries: name -> version"),
    Column("device", _text, "name", "processor or accelerator"),
    Column("precision", _text, "name", "arithmetic of the encoder, such as fp32, bf16"),
    Column("layout", _text, "name", "order of the encoder's features in memory, such as channels_last"),
    Column("compile", _text, "name", "torch.compile's mode for the encoder; no where it was not compiled"),
    Column("threads", _whole, "threads", "CPU threads the cell could use"),
    Column("seconds", _real, "s", "wall time of the whole cell"),
    Column("pretrain_seconds", _real, "s", "wall time of pretraining"),
    Column("probe_seconds", _real, "s", "wall time of training and testing the probe"),
    Column("images_per_second", _real, "images/s", "source images a second in pretraining, data included"),
    Column("started", _text, "ISO 8601, UTC", "when the cell began", "always"),
    Column("error", _text, "", "why it failed; null where done", "failed"),
    Column("schema", _whole, "", f"version of these columns, now {SCHEMA}; filled in on writing", "always"),
)

#: Partition columns: folders of `records/`, and columns of each file.
PARTITIONS = ("dataset", "objective")

_NULL: dict[Required, str] = {"always": "never", "done": "if failed", "failed": "if done", "never": "may be"}

_SPELLING = {
    "key": re.compile(r"[0-9a-f]{16}"),
    "status": re.compile("done|failed"),
    # They become folder names. A name that begins with a digit would be read back as a number.
    # Ours, or the class of one from outside: package.module:Class.
    "dataset": re.compile(r"[A-Za-z][A-Za-z0-9_.-]*(:[A-Za-z_][A-Za-z0-9_.]*)?"),
    "objective": re.compile(r"[A-Za-z][A-Za-z0-9_.-]*"),
    "pairing": re.compile("noisy|exposure|irrelevant|false_positive|none"),
}


def schema(classes: Sequence[str]) -> pa.Schema:
    """The columns of a record of a data set with these classes.

    Raises `RecordsError` for a class named `macro`, an empty name or a name given twice.
    """
    names = list(classes)
    if len(set(names)) < len(names) or "macro" in names or "" in names:
        raise RecordsError(f"classes {names}: give each a name of its own, and none the name 'macro'")
    fields = []
    for column in COLUMNS:
        fields.append(pa.field(column.name, column.type, nullable=column.required != "always"))
        if column.name == "test_f1_macro":
            fields += [pa.field(f"test_f1_{name}", pa.float64()) for name in names]
    return pa.schema(fields)


def class_columns(names: Sequence[str]) -> list[str]:
    """The classes whose `test_f1_<class>` stands among these column names, in their order."""
    return [n.removeprefix("test_f1_") for n in names if n.startswith("test_f1_") and n != "test_f1_macro"]


def allowed(name: str, value: object) -> bool:
    """Whether a column that is spelt in a fixed way (key, status, dataset, objective, pairing) may hold the value."""
    return name not in _SPELLING or _SPELLING[name].fullmatch(str(value)) is not None


def markdown() -> str:
    """The columns as a table in Markdown: column, type, unit, meaning, and which records have a null there."""
    rows = ["| column | type | unit | meaning | null |", "|---|---|---|---|---|"]
    for column in COLUMNS:
        rows.append(
            f"| `{column.name}` | {column.type} | {column.unit} | {column.meaning} | {_NULL[column.required]} |"
        )
        if column.name == "test_f1_macro":
            rows.append(
                f"| `test_f1_<class>` | {column.type} | {column.unit} | test F1 of a class, a column each | may be |"
            )
    return "\n".join(rows)


def record_table(row: Mapping[str, Any], classes: Sequence[str]) -> pa.Table:
    """A table of one record; `RecordsError` names the columns that are missing, unknown, null or wrong.

    `row` holds every column of `schema(classes)`; only `schema` may be left out. NaN means null: one
    way of being absent, since readers differ in telling the two apart.
    """
    target = schema(classes)
    row = {"schema": SCHEMA, **{name: _null_for_nan(value) for name, value in row.items()}}
    where = f"record {row.get('key', 'without key')}"
    # Compared here because `Table.from_pylist` nulls a missing key and drops an unknown one, silently.
    _refuse(where, "lacks the columns", [n for n in target.names if n not in row])
    _refuse(where, "has unknown columns", [n for n in row if n not in target.names])
    demands = ("always", row["status"])
    _refuse(where, "has null in", [c.name for c in COLUMNS if c.required in demands and row[c.name] is None])
    odd = [f"{n}={row[n]!r}" for n in _SPELLING if not allowed(n, row[n])]
    if row["schema"] != SCHEMA:
        odd.append(f"schema={row['schema']!r}")
    _refuse(where, "has values that are not allowed:", odd)
    return pa.Table.from_arrays([_array(where, field, row[field.name]) for field in target], schema=target)


def _null_for_nan(value: Any) -> Any:
    return None if isinstance(value, float | np.floating) and np.isnan(value) else value


def _refuse(where: str, what: str, names: Sequence[str]) -> None:
    if names:
        raise RecordsError(f"{where} {what} {', '.join(names)}")


def _array(where: str, field: pa.Field, value: Any) -> pa.Array:
    try:
        if value is not None and pa.types.is_integer(field.type):
            value = operator.index(value)  # pyarrow would cut 1.5 down to 1
        return pa.array([value], field.type)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        raise RecordsError(f"{where}: {field.name}={value!r} is not of type {field.type}") from error
