"""Manifests, records, curves and predictions to begin with, and their readers."""

import csv
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import reject
from hypothesis import strategies as st

from analysis.errors import RecordsError
from analysis.records.io import COLUMNS, CURVES, read_curves, read_records, recorded_keys
from analysis.records.predictions import PREDICTIONS, Prediction, read_predictions, write_predictions
from analysis.records.schema import SCHEMA, class_columns, schema
from datasets.errors import UNPRINTABLE, InputError
from datasets.manifest.config import ManifestSettings
from tests.fuzz.law import Reader
from tests.fuzz.mutations import mutated
from tests.helpers.fake_pairs import read_rows, save

KEY = "0" * 16
SETTINGS = ManifestSettings(size=8)
NAMES = ("image", "partner", "split", "mask", "partner_mask", "noisy", "group")
ROWS = [
    dict(zip(NAMES, (f"{n}.png", f"{n}b.png", split, f"m{n}.png", "", "yes", "north"), strict=True))
    for n, split in enumerate(("train", "val", "test"))
]
CELLS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["0.png", "0b.png", "1.png", "m0.png", "train", "val", "1.0", "", " ", ".", "..", "/", "../..", "~"]
    ),
    st.sampled_from(
        ["a\nb.png", "a\x00b", "\x1b[31m", "/dev/null", "x" * 300, "/" + "y/" * 3000, 'a"b', "0.png/", "a\u2028b"]
    ),
)


def _parquet(table: pa.Table, **options: object) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **options)
    return file.getvalue()


def _kinds(table: pa.Table) -> list[bytes]:
    """One table as several kinds of file; without checksums damage gets deeper."""
    return [
        _parquet(table, write_page_checksum=True),
        _parquet(table, compression="none"),
        _parquet(table, use_dictionary=False, data_page_version="2.0", compression="zstd"),
    ]


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    file = io.StringIO()
    csv.writer(file).writerows(rows)
    return file.getvalue().encode(errors="surrogatepass")


@st.composite
def rows(draw: st.DrawFn) -> list[dict[str, str]]:
    found = [dict(row) for row in ROWS * draw(st.integers(1, 2))]
    for _ in range(draw(st.integers(0, 5))):
        found[draw(st.integers(0, len(found) - 1))][draw(st.sampled_from(NAMES))] = draw(CELLS)
    return found


@st.composite
def manifests(draw: st.DrawFn) -> tuple[str, bytes]:
    """Ending and content."""
    match draw(st.integers(0, 4)):
        case 0:
            return "csv", draw(mutated([_csv([NAMES, *([row[n] for n in NAMES] for row in ROWS)])]))
        case 1:
            return "csv", _csv([NAMES, *([row[n] for n in NAMES] for row in draw(rows()))])
        case 2:
            names = draw(st.lists(st.sampled_from([*NAMES, "Image", ""]) | st.text(max_size=6), max_size=8))
            return "csv", _csv([names, *draw(st.lists(st.lists(CELLS, max_size=8), max_size=4))])
        case 3:
            return "parquet", draw(mutated(_kinds(pa.Table.from_pylist(ROWS))))
        case _:
            return "parquet", draw(_strange_manifests())


@st.composite
def _strange_manifests(draw: st.DrawFn) -> bytes:
    """Columns of other types, and text that is none."""
    try:
        table = pa.Table.from_pylist(draw(rows()))
    except UnicodeEncodeError:
        table = pa.Table.from_pylist(ROWS)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(NAMES) - 1))
        table = table.set_column(at, draw(st.sampled_from(NAMES)), _column(draw, len(table)))
    return _parquet(table)


def _column(draw: st.DrawFn, length: int) -> pa.Array:
    unusual = [
        pa.array([b"\xff\xfe"] * length, pa.binary()),
        pa.array([b"\xff\xfe\x80"] * length, pa.binary()).view(pa.string()),
        pa.array([2**62] * length, pa.timestamp("us")),
        pa.array([2**30] * length, pa.date32()),
        pa.array([[{"a": 1}]] * length),
        pa.array(["0.png"] * length).dictionary_encode(),
        pa.array([None] * length, pa.null()),
        pa.array([1.0, *[float("nan")] * (length - 1)]),
        pa.array([True] * length),
        pa.array([10**30] * length, pa.decimal128(38, 0)),
        pa.array([2**63] * length, pa.uint64()),
        pa.array([2**62] * length, pa.time64("ns")),
    ]
    return draw(st.sampled_from(unusual))


def _manifest(folder: Path, given: tuple[str, bytes]) -> None:
    ending, data = given
    if not (folder / "0.png").exists():
        for n in range(3):
            for name in (f"{n}.png", f"{n}b.png"):
                save(folder / name, np.random.default_rng(n).integers(0, 255, (16, 16, 3), np.uint8))
            save(folder / f"m{n}.png", np.zeros((16, 16), np.uint8))
    path = folder / f"pairs.{ending}"
    path.write_bytes(data)
    pairs, problems = read_rows(path, SETTINGS)
    assert all(pair.image.is_file() and pair.partner.is_file() for pair in pairs)
    assert not any(UNPRINTABLE.search(f"{problem.where}{problem.what}") for problem in problems)


def record_rows() -> pa.Table:
    """Two cells, as `write_record` would have them in one table."""
    row: dict[str, object] = dict.fromkeys(schema(("a", "b")).names)
    row |= {"key": KEY, "status": "done", "dataset": "vts", "objective": "moco", "rho": 0.5, "nu": 0.25}
    row |= {"pairing": "noisy", "seed": 0, "recipe": "00ff", "version": "0.1.0", "schema": SCHEMA}
    row |= {"started": "2026-11-01T12:00:00Z", "test_f1_macro": 0.5, "test_f1_a": 0.5, "data": "f00d"}
    row |= {c.name: 2 for c in COLUMNS if c.name.startswith(("pretrain", "noisy_", "noise_"))}
    return pa.Table.from_pylist([row, {**row, "key": "1" * 16, "seed": 1}], schema(("a", "b")))


def predictions() -> pa.Table:
    flat = np.zeros((2, 3), np.uint8)
    one = Prediction(key=KEY, number=1, image=np.zeros((2, 3, 3), np.uint8), truth=flat, predicted=flat)
    with tempfile.TemporaryDirectory() as folder:
        return pq.read_table(write_predictions(folder, KEY, [one])).cast(PREDICTIONS)


@st.composite
def tables(draw: st.DrawFn, table: pa.Table, values: Sequence[object]) -> bytes:
    """Bytes nearly those of the table's file; or the table with other values, columns and types."""
    if draw(st.booleans()):
        return draw(mutated(_kinds(table)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, table.num_columns - 1))
        field = table.schema.field(at)
        match draw(st.integers(0, 3)):
            case 0:
                table = table.remove_column(at) if table.num_columns > 1 else table
            case 1:
                table = table.append_column(
                    draw(st.sampled_from([field.name, "test_f1_c", "x"])), _column(draw, len(table))
                )
            case 2:
                table = table.set_column(at, field.name, _column(draw, len(table)))
            case _:
                value = draw(st.sampled_from(values))
                try:
                    kept = field.with_nullable(field.nullable or value is None)
                    table = table.set_column(at, kept, pa.array([value] * len(table), field.type))
                except (pa.ArrowException, TypeError, ValueError, OverflowError):
                    continue
    try:
        return _parquet(table)
    except pa.ArrowException:  # nulls where the schema has none
        reject()


VALUES = (
    None,
    -1,
    0,
    1,
    2,
    3,
    2**62,
    -(2**63),
    0.5,
    float("nan"),
    float("inf"),
    "",
    "done",
    "noisy",
    "a\nb",
    "\x1b[1m",
)
VALUES += ("../x", "x" * 5000, b"", b"123456", b"\xff" * 18)


def _records(folder: Path, data: bytes) -> None:
    path = folder / "sweep" / "records" / "one.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    found = recorded_keys(folder / "sweep")
    frame = read_records(folder / "sweep")
    assert isinstance(frame, pd.DataFrame)
    assert set(found.status) == set(frame["key"])
    assert list(schema(class_columns(frame.columns)).names) == list(frame.columns)


def _curves(folder: Path, data: bytes) -> None:
    path = folder / "curves" / f"{KEY}.parquet"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    assert list(read_curves(folder).columns) == CURVES.names


def _predictions(folder: Path, data: bytes) -> None:
    path = folder / "predictions" / f"{KEY}.parquet"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    for one in read_predictions(folder, [KEY]):
        assert one.image.shape == (*one.truth.shape, 3)
        assert one.predicted.shape == one.truth.shape


def readers() -> list[Reader]:
    curve = pa.Table.from_pylist([dict(zip(CURVES.names, (KEY, "pretrain", 3, "loss", 0.5), strict=True))] * 3, CURVES)
    return [
        Reader(name="manifest", inputs=manifests(), read=_manifest, errors=(InputError,)),
        Reader(name="records", inputs=tables(record_rows(), VALUES), read=_records, errors=(RecordsError,)),
        Reader(name="curves", inputs=tables(curve, VALUES), read=_curves, errors=(RecordsError,)),
        Reader(name="predictions", inputs=tables(predictions(), VALUES), read=_predictions, errors=(RecordsError,)),
    ]
