"""Checks the rows of a manifest by file names and image headers: usable pairs, and all problems."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from datasets.errors import InputError, one_line
from datasets.images.grid import misplaced
from datasets.images.read import Align, Embedded, Picture, Shape, common_part, identity, shape_of, turned_apart
from datasets.manifest.embedded import holds_images, read_embedded
from datasets.manifest.holdout import HoldOut, hold_out_rows
from datasets.manifest.table import REQUIRED, TRUTH, Row, Table, read_table, truth_word
from datasets.tiles.pairs import PairFiles, Problem, ProblemsError
from datasets.types import SPLITS
from datasets.unread import unread_notes

BITS = {"uint8": "8 bits", "uint16": "16 bits", "float32": "signed or floating-point numbers"}
"""What messages say of the depth of images."""
_REMEDY = "; correct it, use the part that both show (--data.align crop), or trust the pixels (--data.align ignore)"
_FILES = ("image", "partner", "mask", "partner_mask", "change_mask")


@dataclass(frozen=True, kw_only=True)
class Listing:
    """A manifest, checked without reading pixels."""

    path: Path
    pairs: Sequence[PairFiles]
    """The pairs of the rows without problems, in the order of the rows."""
    problems: Sequence[Problem]
    """The problems of the other rows, in the order of the rows."""
    row: Mapping[str, int]
    """Row number of each pair, by the name of the pair."""
    counting: str
    """How rows are counted, for messages."""
    dtype: str
    """Of the images, `uint8`, `uint16` or `float32`; empty if no image can be read."""
    outside: float
    """Share of the pixels that are in no tile."""
    unread: Sequence[str]
    """Lines on columns that are not read, and on images beside those of the rows that no row names."""
    alpha: int
    """Images whose bands of alpha are left out."""
    opaque: bool
    """Whether no image has a band of alpha."""

    def refusal(self, problems: Iterable[Problem]) -> ProblemsError:
        """The error that lists these problems in the order of the rows."""
        remedy = (
            f"correct them, or leave out their rows with --skip-bad, with which `check` lists each ({self.counting})"
        )
        return ProblemsError(self.path, self.in_rows(problems), remedy)

    def in_rows(self, problems: Iterable[Problem]) -> list[Problem]:
        """Problems of rows or of the store with their row numbers, sorted by row; those without a row are last."""
        last = max(self.row.values(), default=0) + 1
        return sorted(map(self._with_row, problems), key=lambda problem: (self.row.get(problem.pair, last), problem))

    def _with_row(self, problem: Problem) -> Problem:
        if problem.pair not in self.row or problem.where.startswith("row "):
            return problem
        return replace(problem, where=f"row {self.row[problem.pair]}", what=f"{problem.where}: {problem.what}")


def read_manifest(
    path: Path,
    *,
    size: int,
    bands: int,
    select: Sequence[int] = (),
    align: Align = "check",
    columns: Mapping[str, str] | None = None,
    holdout: HoldOut | None = None,
) -> Listing:
    """Read a manifest, and check each row by file names and image headers.

    Args:
        path: the CSV or Parquet file that lists the pairs, or Parquet files that hold them (see `embedded`).
        size: side of a tile, px; no image may be smaller.
        bands: number of bands that each image must have.
        select: numbers of the bands that are read, if not all are; then an image may have more.
        align: what the coordinates of images are for.
        columns: names of the columns of Parquet files with images that differ from the usual ones, by role.
        holdout: pairs of split train, or without a split, that are drawn for the other splits.

    Raises:
        InputError: the file cannot be read, its columns are not those of a manifest, or all images have another number
            of bands. Problems of single rows are in `problems` of the listing.
    """
    table = _read_rows(path, columns or {})
    # Absolute, because the working directory may change; links are not resolved, so that names stay as written.
    rows = _name_pairs([_parse_row(path.parent.absolute(), row) for row in hold_out_rows(path, table.rows, holdout)])
    headers = _Headers()
    needed = _Needed(size, bands, tuple(select), align)
    _check_bands(path, _shapes(rows, headers), needed)
    faults = {row.number: [*row.faults, *_size_faults(row, headers, needed)] for row in rows}
    dtype = _usual_dtype(rows, headers)
    for number, fault in (*_depth_faults(rows, headers, dtype), *_repeated_pairs(rows), *_split_leaks(rows)):
        faults[number].append(fault)
    problems = [
        Problem(where=f"row {row.number}", what=one_line(fault, most=500), pair=row.pair.name)
        for row in rows
        for fault in faults[row.number]
    ]
    if lacking := [split for split in SPLITS if all(row.pair.split != split for row in rows)]:
        none = " or ".join(filter(None, [", ".join(lacking[:-1]), lacking[-1]]))
        what = f"no row has {none}; each of {', '.join(SPLITS)} is needed"
        problems.append(Problem(where="column split", what=what))
    usable = [row for row in rows if not faults[row.number]]
    return Listing(
        path=path,
        pairs=[row.pair for row in usable],
        problems=problems,
        row={row.pair.name: row.number for row in rows},
        counting=table.counting,
        dtype=dtype,
        outside=_share_outside(_shapes(usable, headers), size),
        unread=[*table.notes, *_unread(path, rows)],
        opaque=not any(shape.alpha for shape in _shapes(rows, headers)),
        alpha=sum(bool(shape.alpha) and shape.bands == bands and not select for shape in _shapes(usable, headers)),
    )


def _read_rows(path: Path, columns: Mapping[str, str]) -> Table:
    if holds_images(path):
        return read_embedded(path, columns)
    if columns:
        raise InputError(f"--data.columns: {path} is a list, whose columns have fixed names; leave the flag out")
    return read_table(path)


def _share_outside(shapes: Sequence[Shape], size: int) -> float:
    pixels = sum(shape.height * shape.width for shape in shapes)
    inside = sum(shape.height // size * size * (shape.width // size * size) for shape in shapes)
    return 1 - inside / pixels if pixels else 0.0


# --- cells


@dataclass(frozen=True, kw_only=True)
class _ParsedRow:
    """A row with parsed cells."""

    number: int
    files: Mapping[str, tuple[str, Picture]]
    """The files of the row, by column: as written, and the path, or the cell itself that holds the image."""
    pair: PairFiles
    faults: tuple[str, ...]

    @property
    def images(self) -> tuple[tuple[str, str, Picture], ...]:
        """Column, cell and place of the one or two images."""
        return tuple((role, *self.files[role]) for role in ("image", "partner") if role in self.files)


def _parse_row(folder: Path, row: Row) -> _ParsedRow:
    cells = {
        **row.cells,
        **{name: _from_windows(folder, row.cells.get(name, "")) for name in _FILES if name in row.cells},
    }
    faults = [row.fault] if row.fault else [f"no {name}" for name in REQUIRED if not cells[name]]
    split = cells.get("split", "")
    if split and split not in SPLITS:
        faults.append(f"split {split!r}: must be {', '.join(SPLITS[:-1])} or {SPLITS[-1]}")
    noisy = truth_word(cells.get("noisy", ""))
    if noisy not in TRUTH:
        faults.append(f"noisy {cells['noisy']!r}: must be true, false, yes, no, 1, 0 or empty")
    if noisy and cells.get("change_mask"):
        faults.append("noisy and change_mask are both filled in; leave noisy empty: the mask decides for each tile")
    files: dict[str, tuple[str, Picture]] = {
        column: (cells[column], row.pictures.get(column) or folder / cells[column])
        for column in _FILES
        if cells.get(column)
    }
    nowhere = ("", folder)
    pair = PairFiles(
        name=row.name or _portable_name(folder, cells.get("image", "")),
        image=files.get("image", nowhere)[1],
        partner=files.get("partner", nowhere)[1],
        split=split,
        group=cells.get("group", ""),
        mask=files["mask"][1] if "mask" in files else None,
        partner_mask=files["partner_mask"][1] if "partner_mask" in files else None,
        noisy=TRUTH.get(noisy),
        change_mask=files["change_mask"][1] if "change_mask" in files else None,
    )
    return _ParsedRow(number=row.number, files=files, pair=pair, faults=tuple(faults))


def _from_windows(folder: Path, cell: str) -> str:
    """The name of a file with slashes, if it was written on Windows and there is such a file."""
    named = cell.replace("\\", "/")
    return named if named != cell and not (folder / cell).exists() and (folder / named).exists() else cell


def _portable_name(folder: Path, cell: str) -> str:
    """The path relative to the folder of the manifest if possible, so that it is the same on every machine."""
    path = PurePath(cell)
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix() if cell else ""


def _name_pairs(rows: Sequence[_ParsedRow]) -> list[_ParsedRow]:
    """The rows with a unique name for each pair: the image, followed by the partner if an image has several."""
    partners = Counter(image for image, _ in {(row.pair.name, row.pair.partner) for row in rows})
    named: dict[str, _ParsedRow] = {}
    for row in rows:
        name = row.pair.name
        if partners[name] > 1:
            name = f"{name} + {PurePath(row.files.get('partner', ('-',))[0]).as_posix()}"
        if name in named or not row.pair.name:
            name = f"row {row.number}"
        named[name] = replace(row, pair=replace(row.pair, name=name))
    return list(named.values())


# --- files


def _unread(path: Path, rows: Sequence[_ParsedRow]) -> list[str]:
    """At most one line, on images that no row names in the folders of those that rows name."""
    named = (file for row in rows for _, file in row.files.values())
    files = {Path(os.path.normpath(file)) for file in named if isinstance(file, Path)}
    return unread_notes(path.parent.absolute(), {file.parent for file in files}, files)


class _Headers:
    """Shapes of images; each header is read once, however many rows name the image."""

    def __init__(self) -> None:
        self.found: dict[Picture, Shape | str] = {}

    def of(self, path: Picture) -> Shape | str:
        """The shape, or why it is unknown."""
        if path not in self.found:
            try:
                self.found[path] = file_problem(path) or shape_of(path)
            except InputError as error:
                self.found[path] = str(error)
        return self.found[path]


def _shapes(rows: Sequence[_ParsedRow], headers: _Headers) -> list[Shape]:
    """The shapes of all images whose headers can be read."""
    shapes = [headers.of(path) for row in rows for _, _, path in row.images]
    return [shape for shape in shapes if not isinstance(shape, str)]


@dataclass(frozen=True)
class _Needed:
    """What images must be."""

    size: int
    """Side of a tile, px."""
    bands: int
    select: tuple[int, ...]
    """Bands that they must have, if not `bands` in number."""
    align: Align

    def band_fault(self, shape: Shape) -> str:
        if shape.offers(self.bands, self.select):
            return ""
        needed = f"--data.select names band {max(self.select)}" if self.select else f"--data.bands is {self.bands}"
        return f"has {shape.describe_bands()}, but {needed}"


def _check_bands(path: Path, shapes: Sequence[Shape], needed: _Needed) -> None:
    """Report a wrong number of bands once, not for each row."""
    found = {shape.describe_bands(): shape for shape in shapes}
    if len(found) == 1 and not needed.select and needed.band_fault(shapes[0]):
        ((actual, shape),) = found.items()
        keep = f", or {shape.bands + shape.alpha} to keep alpha" * bool(shape.alpha)
        raise InputError(f"{path}: all images have {actual}, not {needed.bands}; set --data.bands {shape.bands}{keep}")


def file_problem(path: Picture) -> str:
    """Why a file cannot be opened; empty if it can."""
    if isinstance(path, Embedded):
        return ""
    try:
        if path.is_file():
            return ""
        return "is not a file" if path.exists() else "does not exist"
    except OSError as error:  # the name is too long, or the folder is not accessible
        return f"cannot be read ({error.strerror})"


def _size_faults(row: _ParsedRow, headers: _Headers, needed: _Needed) -> Iterator[str]:
    """Problems of the files of a row, from their headers."""
    shapes, sizes = dict[str, Shape](), dict[str, tuple[int, int]]()
    for role, cell, path in row.images:
        match headers.of(path):
            case str(reason):
                yield f"{role} {cell}: {reason}"
            case shape:
                shapes[role], sizes[role] = shape, (shape.width, shape.height)
                if fault := needed.band_fault(shape):
                    yield f"{role} {cell}: {fault}"
                if min(sizes[role]) < needed.size:
                    yield f"{role} {cell}: is {_extent(sizes[role])}, smaller than a tile (--data.size {needed.size})"
    if len(shapes) == 2:
        part = common_part(shapes["image"], shapes["partner"], needed.align)
        partner = f"partner {row.files['partner'][0]}"
        if isinstance(part, str):
            yield f"{partner}: {part}{_REMEDY if 'coordinates' in part and needed.align == 'check' else ''}"
        elif min(part.width, part.height) < needed.size <= min(*sizes["image"], *sizes["partner"]):
            common = _extent((part.width, part.height))
            yield f"{partner}: has {common} in common with its image, less than a tile (--data.size {needed.size})"
    for role, of in (("mask", "image"), ("partner_mask", "partner"), ("change_mask", "image")):
        if role in row.files:
            cell, path = row.files[role]
            if path.suffix.lower() == ".json" and role != "change_mask":
                fault = file_problem(path)
            else:
                fault = _mask_fault(headers.of(path), shapes.get(of), of, needed.align)
            if fault:
                yield f"{role} {cell}: {fault}"


def _mask_fault(mask: Shape | str, image: Shape | None, of: str, align: Align) -> str:
    """Why a mask does not fit its image; empty if it does. Its values are checked when it is read."""
    if isinstance(mask, str) or image is None:
        return mask if isinstance(mask, str) else ""
    size = (image.width, image.height)
    if (mask.width, mask.height) != size:
        return f"is {_extent((mask.width, mask.height))}, but its {of} {_extent(size)}"
    if align == "ignore":
        return ""
    reason = turned_apart(image, mask, of) or misplaced(image.grid, mask.grid, size[::-1], of)
    return f"{reason}; correct it, or trust the pixels as they are stored (--data.align ignore)" if reason else ""


def _usual_dtype(rows: Sequence[_ParsedRow], headers: _Headers) -> str:
    """The most frequent dtype of the images; the first if several are equally frequent."""
    usual = Counter(shape.dtype for shape in _shapes(rows, headers)).most_common(1)
    return usual[0][0] if usual else ""


def _depth_faults(rows: Sequence[_ParsedRow], headers: _Headers, dtype: str) -> Iterator[tuple[int, str]]:
    for row in rows:
        for role, cell, path in row.images:
            shape = headers.of(path)
            if not isinstance(shape, str) and shape.dtype != dtype:
                yield row.number, f"{role} {cell}: has {_bits(shape.dtype)} per value, but most images {_bits(dtype)}"


def _repeated_pairs(rows: Sequence[_ParsedRow]) -> Iterator[tuple[int, str]]:
    """Pairs of one image with itself, and repeated pairs."""
    before: dict[frozenset[str], int] = {}
    for row in rows:
        if len(row.images) < 2:
            continue
        both = frozenset(identity(path) for _, _, path in row.images)
        if len(both) == 1:
            yield row.number, "image and partner are the same file; a pair needs two images"
        elif both in before:
            yield row.number, f"has the same two images as row {before[both]}"
        before.setdefault(both, row.number)


def _split_leaks(rows: Sequence[_ParsedRow]) -> Iterator[tuple[int, str]]:
    """Images that are in two splits."""
    first: dict[str, tuple[int, str]] = {}
    for row in rows:
        if row.pair.split not in SPLITS:
            continue
        for role, cell, path in row.images:
            number, split = first.setdefault(identity(path), (row.number, row.pair.split))
            if split != row.pair.split:
                yield row.number, f"{role} {cell}: is also in {split} (row {number}); a file must be in one split only"


def _bits(dtype: str) -> str:
    return BITS[dtype]


def _extent(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]} px"
