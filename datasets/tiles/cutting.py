"""Reads one pair of images and cuts it into tiles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from PIL import Image
from skimage.util import view_as_blocks

from datasets.errors import InputError
from datasets.images.masks import Unclassified, read_changes, read_mask
from datasets.images.read import Align, Embedded, Picture, Shape, common_part, read_image, read_opacity, shape_of
from datasets.tiles.pairs import PairFiles, Problem
from datasets.types import IGNORED

IMAGES, PARTNERS, MASKS, PARTNER_MASKS, CHANGES = ("images", "partners", "masks", "partner_masks", "changes")
"""The arrays of a store, one row for each tile; the last three only if a pair has such a mask."""

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How images become tiles."""

    size: int
    """Side of a tile, px. Tiles do not overlap; the rest at the right and at the bottom is dropped."""
    bands: int
    """Bands that every image must have, with or without alpha."""
    noisy_classes: tuple[int, ...]
    """A tile is noisy if the mask of the partner shows one of these, and the mask of the image none of them."""
    unclassified: Unclassified = "no-damage"
    """xBD: the class of un-classified buildings."""
    select: tuple[int, ...] = ()
    """Numbers of the bands to read, from 1; empty: all."""
    align: Align = "ignore"
    """What the coordinates of images are for."""
    nodata: tuple[str, ...] = ()
    """What has no data: numbers, of pixels all of whose bands have one; `alpha`: pixels that are wholly transparent."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.size < 1 or self.bands < 1:
            raise InputError(f"tiles of {self.size} px with {self.bands} bands: both must be 1 or more")
        if not all(0 <= number < IGNORED for number in self.noisy_classes):
            raise InputError(f"noisy classes {self.noisy_classes}: class numbers are 0 to {IGNORED - 1}")

    @property
    def described(self) -> dict[str, Any]:
        """For digests: what was added later, such as `select`, counts only if it is set."""
        unset = {name for name in ("select", "nodata") if not getattr(self, name)}
        unset |= {"align"} if self.align != "crop" else set()  # only cropping changes what is read
        return {name: value for name, value in asdict(self).items() if name not in unset}

    def without_data(self, pixels: np.ndarray, picture: Picture) -> Bool[np.ndarray, "h w"]:
        """Where an image has no data: NaN, and what `nodata` says."""
        absent = np.isnan(pixels).any(axis=2) if pixels.dtype.kind == "f" else np.zeros(pixels.shape[:2], bool)
        for value in self.nodata:
            if value == "alpha":
                opaque = read_opacity(picture)
                absent |= False if opaque is None else ~opaque
            else:
                absent |= (pixels == float(value)).all(axis=2)
        return absent

    def tiles(self, shape: Shape) -> int:
        """How many tiles an image of this shape gives."""
        return (shape.height // self.size) * (shape.width // self.size)


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The shape of both images of a pair, from their headers."""

    shape: Shape | None
    """Of both images; None if there are problems."""
    problems: tuple[Problem, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairTiles:
    """The tiles of a pair, row by row from the upper left."""

    blocks: Mapping[str, np.ndarray]
    """The tiles of each array of the store: (tiles, size, size) or (tiles, size, size, bands)."""
    counts: Int64[np.ndarray, "2 tiles classes"]
    """Pixels of each class in the mask of the image and in that of the partner; 0 without a mask.

    Ignored pixels are not counted. The last column is the largest class in these masks.
    """
    buildings: Mapping[str, int]
    """xBD: number of polygons of each subtype; those of the partner if it has a mask."""
    digest: str
    """Of the blocks, from `digest_tiles`."""
    changed: Sequence[int] | None = None
    """Changed pixels of each tile, with or without data; None without a mask of changes."""


class UnusablePair(Exception):
    """A pair cannot be used because of `problems`."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{len(problems)} problems")


class PairReader:
    """Reads the files of one pair and collects all problems with them."""

    def __init__(self, pair: PairFiles, root: Path) -> None:
        self.pair, self.root, self.problems = pair, root, list[Problem]()

    def add_problem(self, path: Picture, what: str) -> None:
        """Add a problem with a file."""
        self.problems.append(Problem(where=relative(path, self.root), what=what, pair=self.pair.name))

    def try_read(self, function: Callable[[Picture], Result], path: Picture) -> Result | None:
        """The result of `function(path)`; None after an `InputError`, which becomes a problem."""
        try:
            return function(path)
        except InputError as error:
            self.add_problem(path, str(error))
            return None


def relative(path: Picture, root: Path) -> str:
    """The path relative to the root if it is below it, else unchanged; the name of what is in a table."""
    if isinstance(path, Embedded):
        return path.name
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def survey_pair(pair: PairFiles, cut: Cut, root: Path) -> Survey:
    """Read the headers of both images of a pair, and check that they fit each other and the cut."""
    reader = PairReader(pair, root)
    image, partner = (reader.try_read(shape_of, path) for path in (pair.image, pair.partner))
    for path, shape in ((pair.image, image), (pair.partner, partner)):
        if shape is not None and not shape.offers(cut.bands, cut.select):
            needed = f"band {max(cut.select)} is" if cut.select else f"{cut.bands} are"
            reader.add_problem(path, f"has {shape.describe_bands()}; {needed} needed")
    if image and partner:
        if isinstance(part := common_part(image, partner, cut.align), str):
            reader.add_problem(pair.partner, f"{part}; they must agree")
        else:
            image = replace(image, height=part.height, width=part.width)
        if min(image.height, image.width) < cut.size:
            size = f"is {image.width} x {image.height} px"
            reader.add_problem(pair.image, f"{size}, smaller than a tile of {cut.size} px")
        if image.dtype != partner.dtype:
            reader.add_problem(pair.partner, f"is {partner.dtype}, but its first image {image.dtype}; they must agree")
    return Survey(shape=None if reader.problems else image, problems=tuple(reader.problems))


def cut_pair(pair: PairFiles, shape: Shape, cut: Cut, arrays: Sequence[str], root: Path) -> PairTiles:
    """Read the files of a pair and cut them into tiles.

    Args:
        pair: the files.
        shape: of both images, from their headers.
        cut: how to cut them.
        arrays: names of the arrays of the store; a mask that the pair lacks is ignored everywhere.
        root: folder below which problems name files.

    Raises:
        UnusablePair: a file cannot be used, or has another shape than `shape`.
    """
    reader = PairReader(pair, root)
    files = {IMAGES: pair.image, PARTNERS: pair.partner}
    parts = _parts(pair, shape, cut)
    images = {
        name: reader.try_read(partial(read_image, bands=cut.bands, select=cut.select), path)
        for name, path in files.items()
    }
    for name, pixels in images.items():
        wanted = (*parts[name].size, cut.bands)
        if pixels is not None and (pixels.shape != wanted or pixels.dtype.name != shape.dtype):
            reader.add_problem(files[name], "differs from its header, or changed while it was read")
    masks = {}
    for name, of, path in ((MASKS, IMAGES, pair.mask), (PARTNER_MASKS, PARTNERS, pair.partner_mask)):
        height, width = parts[of].size
        read = partial(read_mask, height=height, width=width, unclassified=cut.unclassified)
        if path is not None:
            masks[name] = reader.try_read(read, path)
    changes = None
    if pair.change_mask is not None:
        height, width = parts[IMAGES].size
        changes = reader.try_read(partial(read_changes, height=height, width=width), pair.change_mask)
    if reader.problems:
        raise UnusablePair(reader.problems)
    labels = {name: mask.labels for name, mask in masks.items() if mask}
    absent = {}
    for name, of in ((MASKS, IMAGES), (PARTNER_MASKS, PARTNERS)):
        pixels, used = images[of], name in labels or changes is not None
        if used and pixels is not None and (cut.nodata or pixels.dtype.kind == "f"):
            absent[of] = cut.without_data(pixels, files[of])
        if name in labels and of in absent:
            labels[name] = np.where(absent[of], np.uint8(IGNORED), labels[name])
    images = {name: None if pixels is None else parts[name].of(pixels, shape) for name, pixels in images.items()}
    labels = {name: parts[IMAGES if name == MASKS else PARTNERS].of(mask, shape) for name, mask in labels.items()}
    if changes is not None and pair.change_mask is not None:
        changes = parts[IMAGES].of(changes, shape)
        if reason := _contradiction(changes, labels):
            reader.add_problem(pair.change_mask, reason)
            raise UnusablePair(reader.problems)
    known = changes
    for of, where in absent.items():
        if known is not None:
            known = np.where(parts[of].of(where, shape), np.uint8(IGNORED), known)
    found = {**images, **labels, CHANGES: known}
    blocks = {name: _cut(pixels, cut.size) for name, pixels in found.items() if pixels is not None}
    no_mask = np.full((cut.tiles(shape), cut.size, cut.size), IGNORED, np.uint8)
    blocks = {name: blocks.get(name, no_mask) for name in arrays}
    counts = np.stack([_count_classes(blocks.get(name, no_mask)) for name in (MASKS, PARTNER_MASKS)])
    classes = int(np.flatnonzero(counts.any(axis=(0, 1))).max(initial=-1)) + 1
    last = masks.get(PARTNER_MASKS) or masks.get(MASKS)
    return PairTiles(
        blocks=blocks,
        counts=counts[..., :classes],
        buildings=last.buildings if last else {},
        digest=digest_tiles(blocks),
        changed=None if changes is None else _cut(changes, cut.size).sum(axis=(1, 2), dtype=np.int64).tolist(),
    )


def _contradiction(changes: UInt8[np.ndarray, "h w"], labels: Mapping[str, np.ndarray]) -> str:
    """How the classes before and after contradict a mask of changes; empty if they agree, or one is missing."""
    if MASKS not in labels or PARTNER_MASKS not in labels:
        return ""
    first, second = labels[MASKS], labels[PARTNER_MASKS]
    known, differing = (first != IGNORED) & (second != IGNORED), first != second
    unsaid, said = ((known & (differing != changes) & which).sum() for which in (differing, ~differing))
    if not unsaid and not said:
        return ""
    return (
        f"contradicts mask and partner_mask: {unsaid:,} px whose classes differ are unchanged in it, and {said:,} px "
        "of equal classes are changed; correct one of the three, or leave out change_mask"
    )


@dataclass(frozen=True)
class _Part:
    """The part of an image that makes a pair."""

    size: tuple[int, int]
    """Height and width of the whole image."""
    corner: tuple[int, int]

    def of(self, pixels: np.ndarray, shape: Shape) -> np.ndarray:
        """The part of an image or mask."""
        row, column = self.corner
        return pixels[row : row + shape.height, column : column + shape.width]


def _parts(pair: PairFiles, shape: Shape, cut: Cut) -> dict[str, _Part]:
    """The parts of both images that have `shape`."""
    if cut.align != "crop":
        whole = _Part((shape.height, shape.width), (0, 0))
        return {IMAGES: whole, PARTNERS: whole}
    try:
        image, partner = shape_of(pair.image), shape_of(pair.partner)
        part = common_part(image, partner, cut.align)
    except InputError as error:
        raise UnusablePair([Problem(where=pair.name, what=str(error), pair=pair.name)]) from error
    if isinstance(part, str) or (part.height, part.width) != (shape.height, shape.width):
        raise UnusablePair([Problem(where=pair.name, what="changed while it was read", pair=pair.name)])
    return {
        IMAGES: _Part((image.height, image.width), part.image),
        PARTNERS: _Part((partner.height, partner.width), part.partner),
    }


def digest_tiles(blocks: Mapping[str, np.ndarray]) -> str:
    """32 hex digits of tiles."""
    digest = blake2b(digest_size=16)
    for block in blocks.values():
        digest.update(block.data)
    return digest.hexdigest()


def _cut(pixels: np.ndarray, size: int) -> np.ndarray:
    """Cut an image (h, w) or (h, w, bands) into (tiles, size, size) or (tiles, size, size, bands)."""
    height, width = (side // size * size for side in pixels.shape[:2])
    shape = (size, size, *pixels.shape[2:])
    return np.ascontiguousarray(view_as_blocks(pixels[:height, :width], shape).reshape(-1, *shape))


def _count_classes(tiles: UInt8[np.ndarray, "tiles size size"]) -> Int64[np.ndarray, "tiles classes"]:
    """Pixels of each class in each tile."""
    return np.array([Image.fromarray(tile).histogram()[:IGNORED] for tile in tiles])  # np.bincount takes twice as long
