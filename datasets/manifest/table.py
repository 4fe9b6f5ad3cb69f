"""Reads the table of a manifest from a CSV or Parquet file as text, with the row numbers that an editor shows."""

import csv
import difflib
import io
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from datasets.errors import InputError, describe_error, one_line, refuse_pointer
from datasets.images.read import Picture

REQUIRED = ("image", "partner", "split")
OPTIONAL = ("mask", "partner_mask", "change_mask", "noisy", "group")
VALID = f"{', '.join(REQUIRED)}, and optionally {', '.join(OPTIONAL)}"

TRUTH = {"": None, "true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
"""What the words of the column `noisy` mean."""

MAX_ROWS = 10_000_000  # of a Parquet file; a few bytes can claim any number
MAX_BYTES = 2**31

# The column that pandas writes to Parquet for an index without a name.
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")
_EXCEL = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
"""A first line that says what separates the columns."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row as written."""

    number: int
    """CSV: the line where it begins; the header is line 1. Parquet: 1 for the first row."""
    cells: Mapping[str, str]
    """Text of each column, without surrounding white space."""
    fault: str = ""
    """Why the row cannot be split into cells; empty if it can."""
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    """What the row itself holds or finds, by column; the cells of other columns name files."""
    name: str = ""
    """Of the pair; empty: that of its first image."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A manifest as written."""

    rows: Sequence[Row]
    counting: str
    """How rows are counted, for messages."""
    notes: Sequence[str] = ()
    """What of the file is not read."""


def truth_word(cell: str) -> str:
    """A cell as a word of `TRUTH`, if it is one: pandas writes 1.0 if another cell of the column is empty."""
    return cell.lower().removesuffix(".0")


def read_table(path: Path) -> Table:
    """The rows of a `.csv` (UTF-8, commas) or a `.parquet` file.

    Raises:
        InputError: the file is absent or cannot be read, or its columns are not those of a manifest.
    """
    try:
        data = path.read_bytes()
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder; name the CSV or Parquet file that lists the pairs") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name the file that lists the pairs") from error
    try:
        refuse_pointer(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    match path.suffix.lower():
        case ".csv":
            rows = list(_csv_rows(path, data))
            counting = "rows are lines of the file, the header is line 1"
        case ".parquet":
            rows = list(_parquet_rows(path, data))
            counting = "the first row is row 1"
        case other:
            raise InputError(f"{path}: a manifest is a .csv or .parquet file, not {other or 'one without a suffix'}")
    if not rows:
        raise InputError(f"{path}: no rows; add one for each pair of images, with the columns {VALID}")
    return Table(rows=rows, counting=counting)


def _csv_rows(path: Path, data: bytes) -> Iterator[Row]:
    text = _decode(path, data)
    lines = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=_delimiter(text))
    names: list[str] | None = None
    begins = 1
    try:
        for cells in lines:
            stripped = [cell.strip() for cell in cells]
            if begins == 1 and _EXCEL.match(text):
                stripped = []
            if any(stripped) or len(stripped) > 1:  # an empty line is not a row, but a line of commas is
                if names is None:
                    names = _check_columns(path, stripped)
                else:
                    yield _make_row(begins, names, stripped)
            begins = lines.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}: invalid CSV from line {begins} on ({error}); quotes must come in pairs") from error
    if names is None:
        raise InputError(f"{path}: empty; the first line must name the columns: {VALID}")


def _delimiter(text: str) -> str:
    """A comma, or what a spreadsheet of another country separates columns by: no name of a column has either."""
    if told := _EXCEL.match(text):
        return told[1]
    head = text.lstrip().partition("\n")[0]
    return next((mark for mark in (";", "\t") if mark in head and "," not in head), ",")


def _make_row(number: int, names: Sequence[str], cells: Sequence[str]) -> Row:
    if len(cells) != len(names):
        fault = f"{len(cells)} cells for {len(names)} columns; a value with a comma needs quotes around it"
        return Row(number=number, cells={}, fault=fault)
    for name, cell in zip(names, cells, strict=True):
        if "\0" in cell:  # no file can have such a name
            fault = f"{name} {one_line(repr(cell), most=60)}: has a zero byte; write the name of a file"
            return Row(number=number, cells={}, fault=fault)
    return Row(number=number, cells=dict(zip(names, cells, strict=True)))


def _decode(path: Path, data: bytes) -> str:
    try:
        text = data.decode("utf-8-sig")  # spreadsheets write a byte-order mark
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line} is not UTF-8; save the file as CSV in UTF-8") from error
    if "\0" in text:
        raise InputError(f"{path}: has binary data; a .csv file is text in UTF-8")
    return text


def _check_columns(path: Path, names: Sequence[str]) -> list[str]:
    """The names of the columns, if they are those of a manifest."""
    if len(names) == 1 and "|" in names[0]:
        raise InputError(f"{path}: columns are separated by bars; save it with commas")
    if "" in names:
        place = names.index("") + 1
        raise InputError(f"{path}: column {place} has no name (pandas: write with index=False); valid: {VALID}")
    if unknown := [name for name in names if name not in REQUIRED + OPTIONAL]:
        near = difflib.get_close_matches(unknown[0][:50].lower(), REQUIRED + OPTIONAL, n=1)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        listing = one_line(", ".join(map(repr, unknown)))
        raise InputError(f"{path}: unknown column{'s' * (len(unknown) > 1)} {listing}{meant}; valid: {VALID}")
    if repeated := sorted(name for name, count in Counter(names).items() if count > 1):
        raise InputError(f"{path}: column {repeated[0]!r} occurs twice; keep one")
    if lacking := [name for name in REQUIRED if name not in names]:
        raise InputError(f"{path}: lacks the column{'s' * (len(lacking) > 1)} {', '.join(lacking)}; valid: {VALID}")
    return list(names)


def _parquet_rows(path: Path, data: bytes) -> Iterator[Row]:
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        _check_size(path, file.metadata)
        table = file.read()
        table.validate(full=True)
    except InputError:
        raise
    except Exception as error:  # pyarrow raises errors of many kinds for damaged data
        raise InputError(f"{path}: not a valid Parquet file ({describe_error(error)}); write it again") from error
    kept = [name for name in table.column_names if not _PANDAS_INDEX.fullmatch(name)]
    names = _check_columns(path, kept)
    try:
        columns = [to_texts(name, to_values(name, table)) for name in names]
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    for number, cells in enumerate(zip(*columns, strict=True), start=1):
        yield _make_row(number, names, cells)


def _check_size(path: Path, claimed: pq.FileMetaData) -> None:
    """Refuse a file whose metadata claim more rows or bytes than are read."""
    size = sum(claimed.row_group(group).total_byte_size for group in range(claimed.num_row_groups))
    if not 0 <= claimed.num_rows <= MAX_ROWS or not 0 <= size <= MAX_BYTES:
        raise InputError(
            f"{path}: {claimed.num_rows:,} rows and {size:,} bytes; at most {MAX_ROWS:,} and {MAX_BYTES:,} are read"
        )


def to_values(name: str, table: pa.Table | pa.RecordBatch) -> list[object]:
    """A column as objects of Python.

    Raises:
        InputError: Python has no such values. The message does not name the file.
    """
    try:
        return table.column(name).to_pylist()
    except (ValueError, OverflowError, pa.ArrowException) as error:  # a date beyond those of Python
        raise InputError(f"column {name!r} cannot be read ({describe_error(error)}); write it as text") from error


def _shortest(value: float) -> str:
    """The shortest text of a number that is that number, of 32 bits if it has no more."""
    if value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    with np.errstate(over="ignore"):
        narrow = np.float32(value)
    return str(narrow) if float(narrow) == value else repr(value)


def to_texts(name: str, values: Sequence[object]) -> list[str]:
    """A column as a CSV file would hold it.

    Raises:
        InputError: it holds values other than text, numbers and truth. The message does not name the file.
    """
    texts = []
    for value in values:
        match value:
            case None:
                texts.append("")
            case bool() | int():
                texts.append(str(value))
            case float():  # pandas converts integers to floats if one is missing
                texts.append("" if math.isnan(value) else _shortest(value))
            case str():
                texts.append(value.strip())
            case _:
                raise InputError(f"column {name!r} has values of type {type(value).__name__}; write it as text")
    return texts
