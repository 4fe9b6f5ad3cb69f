"""Reads Parquet files whose cells hold images: a row is a pair, as a row of a manifest is."""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from datasets.errors import InputError, one_line
from datasets.files import cache_read, cache_write
from datasets.images import gdal
from datasets.images.grid import Grid
from datasets.images.read import Embedded, Picture, Shape, shape_of_bytes
from datasets.manifest.batches import (
    Cells,
    TableFile,
    Window,
    address_of,
    batches,
    is_pattern,
    table_files,
    telling_damage,
)
from datasets.manifest.table import Row, Table, to_texts, to_values
from datasets.tiles.pairs import Problem, ProblemsError

IMAGES: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "t1_image"),
    "partner": ("partner", "t2_image"),
    "mask": ("mask", "t1_mask"),
    "partner_mask": ("partner_mask", "t2_mask"),
    "change_mask": ("change_mask",),
}
"""The usual names of the columns with images, by what they hold."""
TEXTS: Mapping[str, tuple[str, ...]] = {
    "name": ("name", "image_name"),
    "split": ("split",),
    "noisy": ("noisy",),
    "group": ("group",),
}
"""As `IMAGES`, of the columns with text."""
ROLES = (*IMAGES, *TEXTS)

_FORMAT = 2  # of what is remembered of a file
# Usual names of splits, in columns and in names of files such as train-00000-of-00004.parquet.
_SPLITS = {"training": "train", "validation": "val", "valid": "val", "dev": "val", "testing": "test"}
_IN_NAMES = re.compile(r"(?<![a-z])(train|training|val|validation|valid|dev|test|testing)(?![a-z])")


def holds_images(path: Path) -> bool:
    """Whether a path means Parquet files with images in their cells, rather than a list of files.

    Raises:
        InputError: it is a Parquet file that cannot be read.
    """
    if address_of(path) or path.is_dir() or is_pattern(path):
        return True
    if path.suffix.lower() != ".parquet" or not path.is_file():
        return False
    try:
        with telling_damage():
            schema = pq.read_schema(path)
    except InputError:
        return False  # the reader of lists says what is wrong
    return any(map(_has_bytes, schema.types))


def read_embedded(root: Path, columns: Mapping[str, str]) -> Table:
    """The rows of Parquet files with images in their cells. Each file is read once; what was seen is remembered.

    Args:
        root: a file, a folder, a pattern, or an address on an object store.
        columns: names of columns that differ from the usual ones, by what they hold (see `ROLES`).

    Raises:
        InputError: there is no such file, or the files lack columns.
        ProblemsError: files cannot be read. It lists all of them.
    """
    files = table_files(root)
    listed, problems, unused = [], [], set[str]()
    for file in files:
        try:
            names, rest = _choose_columns(file, columns)
            listed.append((file, names, _remembered(file, names)))
            unused |= rest
        except InputError as error:
            problems.append(Problem(where=file.name, what=str(error)))
    if problems:
        raise ProblemsError(
            address_of(root) or root, problems, "write these files again, correct them, or move them away"
        )
    rows = list(_rows(root, listed))
    if not rows:
        raise InputError(f"{address_of(root) or root}: no rows; add one for each pair of images")
    across = " through all files in the order of their names" if len(files) > 1 else ""
    notes = [f"columns that are not read: {one_line(', '.join(sorted(unused)))}"] if unused else []
    return Table(rows=rows, counting=f"rows are counted from 1{across}", notes=notes)


# --- columns


def _choose_columns(file: TableFile, given: Mapping[str, str]) -> tuple[dict[str, str], set[str]]:
    """The column of each role that the file has, and the columns that have no role."""
    with telling_damage():
        schema = file.open().schema_arrow
    for role, name in given.items():
        if name not in schema.names:
            near = difflib.get_close_matches(name, schema.names, n=1)
            meant = f"; did you mean {near[0]!r}?" if near else f"; it has {one_line(', '.join(schema.names))}"
            raise InputError(f"has no column {one_line(name, most=60)!r} (--data.columns {role}={name}){meant}")
    usual = {role: name for role, names in {**IMAGES, **TEXTS}.items() for name in names[::-1] if name in schema.names}
    found = {**usual, **given}
    if lacking := [role for role in ("image", "partner") if role not in found]:
        bytes_ = [name for name in schema.names if _has_bytes(schema.field(name).type)] or schema.names
        raise InputError(
            f"has no column for {' and '.join(lacking)} ({' and '.join(IMAGES[role][-1] for role in lacking)}): say "
            f"which with --data.columns {' '.join(f'{role}=NAME' for role in lacking)}; it has "
            f"{one_line(', '.join(bytes_))}"
        )
    for role in IMAGES:
        if role in found and not (_has_bytes(kind := schema.field(found[role]).type) or _is_text(kind)):
            raise InputError(
                f"column {found[role]!r} holds {one_line(kind, most=60)}; valid are bytes of a PNG, JPEG or TIFF file, "
                "structs of bytes and path, and names of files"
            )
    if repeated := sorted({name for name in found.values() if list(schema.names).count(name) > 1}):
        raise InputError(f"column {repeated[0]!r} occurs twice; keep one")
    return found, {name for name in schema.names if name not in found.values()}


def _has_bytes(kind: pa.DataType) -> bool:
    if types.is_dictionary(kind):
        return _has_bytes(kind.value_type)
    if types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _has_bytes(kind.field("bytes").type)
    return types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind) or types.is_null(kind)


# --- what is remembered of a file


@dataclass(frozen=True)
class _Seen:
    """What is remembered of a row."""

    texts: dict[str, str]
    """By role."""
    pictures: dict[str, tuple[str, list[Any] | str]]
    """By role: the digest of a picture's bytes, with its shape or why that is unknown; or an empty digest and the name
    of a file."""


def _remembered(file: TableFile, columns: Mapping[str, str]) -> list[_Seen]:
    """What the rows of a file hold, from the cache if the file has not changed since; else it is read."""
    # A file that was not readable without rasterio is looked at again with it.
    key = json.dumps([file.system.type_name, file.path, sorted(columns.items()), gdal.is_installed()])
    name = f"parquet-{blake2b(key.encode(), digest_size=8).hexdigest()}.json"
    try:
        known = json.loads(cache_read(name) or b"{}")
        if (known["format"], *known["stamp"]) == (_FORMAT, *file.stamp):
            pictures = ({role: (seen[0], seen[1]) for role, seen in found.items()} for _, found in known["rows"])
            return [_Seen(texts, found) for (texts, _), found in zip(known["rows"], pictures, strict=True)]
    except (ValueError, KeyError, TypeError):
        pass  # absent, or of another version
    rows = list(_scan(file, columns))
    content = {"format": _FORMAT, "stamp": file.stamp, "rows": [[row.texts, row.pictures] for row in rows]}
    cache_write(name, json.dumps(content).encode())  # one that cannot be written only costs time
    return rows


def _scan(file: TableFile, columns: Mapping[str, str]) -> Iterator[_Seen]:
    """Read a file in batches. Of images only the header is looked at."""
    read = 0
    try:
        with telling_damage():
            for first, batch in batches(file.open(), list(columns.values())):
                cells = {role: to_values(name, batch) for role, name in columns.items()}
                texts = {role: to_texts(columns[role], cells[role]) for role in TEXTS if role in cells}
                pictures = {role: [_see(cell) for cell in cells[role]] for role in IMAGES if role in cells}
                for row in range(batch.num_rows):
                    seen = {role: found[row] for role, found in pictures.items()}
                    yield _Seen(
                        texts={role: values[row] for role, values in texts.items()},
                        pictures={role: one for role, one in seen.items() if one},
                    )
                read = first + batch.num_rows
    except InputError as error:
        raise InputError(f"{error}, after row {read}" if read else str(error)) from error


def _see(value: Any) -> tuple[str, list[Any] | str] | None:
    """What is remembered of the picture in a cell; None if it has none."""
    content = value["bytes"] if isinstance(value, dict) else value
    if isinstance(content, bytes):
        shape = shape_of_bytes(content)
        known = shape if isinstance(shape, str) else list(asdict(shape).values())
        return blake2b(content, digest_size=16).hexdigest(), known
    path = value.get("path") if isinstance(value, dict) else value
    return ("", path.strip()) if path and path.strip() else None


# --- rows


def _rows(root: Path, listed: Sequence[tuple[TableFile, Mapping[str, str], Sequence[_Seen]]]) -> Iterator[Row]:
    number, window = 0, Window()
    for file, columns, seen in listed:
        cells = Cells(file, [columns[role] for role in IMAGES if role in columns], window)
        folder = Path(file.path).parent
        split = _split_in_name(file.name)
        for place, one in enumerate(seen):
            number += 1
            pictures: dict[str, Picture] = {}
            texts = {"image": "", "partner": "", "split": split, **one.texts}
            texts["split"] = _SPLITS.get(texts["split"].lower(), texts["split"]) or split
            for role, (digest, known) in one.pictures.items():
                if digest:
                    where = f"row {place + 1} of {file.name}" if len(listed) > 1 else f"row {place + 1}"
                    texts[role] = f"{columns[role]} ({where})" if len(listed) > 1 else columns[role]
                    pictures[role] = Embedded(
                        name=f"{where}, column {columns[role]}",
                        digest=digest,
                        shape=known if isinstance(known, str) else _shape(known),
                        read=partial(_read_bytes, cells, place, columns[role]),
                    )
                elif address_of(root):
                    texts[role] = str(known)
                    pictures[role] = _refused(
                        str(known), "is a file, which is not read from an object store: put its bytes into the table"
                    )
                else:
                    texts[role] = str(known)
                    pictures[role] = folder / str(known)
            name = texts.pop("name", "") or f"{file.name}:{place + 1}"
            yield Row(number=number, cells=texts, pictures=pictures, name=name)


def _shape(known: Sequence[Any]) -> Shape:
    height, width, bands, alpha, dtype, grid, turned = known
    return Shape(height, width, bands, alpha, dtype, Grid(**grid) if grid else None, turned)


def _read_bytes(cells: Cells, row: int, column: str) -> bytes:
    value = cells.read(row, column)
    return bytes(value["bytes"] if isinstance(value, dict) else value)


def _refused(name: str, why: str) -> Embedded:
    def read() -> bytes:
        raise InputError(why)

    return Embedded(name=name, digest=name, shape=why, read=read)


def _split_in_name(name: str) -> str:
    """The split that the name of a file tells, or that of its folder; empty if they tell none, or several."""
    for part in reversed(name.lower().removesuffix(".parquet").split("/")):
        if found := {_SPLITS.get(word, word) for word in _IN_NAMES.findall(part)}:
            return found.pop() if len(found) == 1 else ""
    return ""
