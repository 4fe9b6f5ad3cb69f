"""One pair of images, read and cut into tiles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Int64, UInt8

from datasets.errors import InputError
from datasets.images.masks import Unclassified, read_mask
from datasets.images.read import Shape, read_image, shape_of
from datasets.tiles.pairs import PairFiles, Problem
from datasets.types import IGNORED

IMAGES, PARTNERS, MASKS, PARTNER_MASKS = ARRAYS = ("images", "partners", "masks", "partner_masks")
"""What a store holds, one row a tile."""

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Cut:
    """How images become tiles."""

    size: int
    """Side of a tile, px. Tiles do not overlap; a remainder at the right and at the bottom is dropped."""
    bands: int
    """Bands that every image must have, without alpha."""
    noisy_classes: tuple[int, ...]
    """A tile is noisy where the partner's mask shows one of these and the image's mask none of them."""
    unclassified: Unclassified = "no-damage"
    """xBD: what un-classified buildings are."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.size < 1 or self.bands < 1:
            raise InputError(f"tiles of {self.size} px with {self.bands} bands: both must be 1 or more")
        if not all(0 <= number < IGNORED for number in self.noisy_classes):
            raise InputError(f"noisy classes {self.noisy_classes}: classes have the numbers 0 to {IGNORED - 1}")


@dataclass(frozen=True, kw_only=True)
class Survey:
    """The shape of a pair's images, from their headers."""

    shape: Shape | None
    """Of both images; None if there are problems."""
    problems: tuple[Problem, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairTiles:
    """The tiles of a pair, from the upper left row by row."""

    blocks: Mapping[str, np.ndarray]
    """For each of the `ARRAYS` the store has: (tiles, size, size) or (tiles, size, size, bands)."""
    counts: Mapping[str, tuple[Mapping[int, int], ...]]
    """For each mask the pair has: pixels of each class that a tile shows, `IGNORED` left out."""
    buildings: Mapping[str, int]
    """xBD: polygons of each subtype, of the partner where it has a mask."""


class UnusablePair(Exception):
    """A pair cannot be used because of `problems`."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"{len(problems)} problems")


class PairReader:
    """Reads the files of one pair and collects all problems with them."""

    def __init__(self, pair: PairFiles, root: Path) -> None:
        self.pair, self.root, self.problems = pair, root, list[Problem]()

    def add_problem(self, path: Path, what: str) -> None:
        """Note that something is wrong with a file."""
        self.problems.append(Problem(where=relative(path, self.root), what=what, pair=self.pair.name))

    def try_read(self, function: Callable[[Path], Result], path: Path) -> Result | None:
        """The result of `function(path)`; None after an `InputError`, which becomes a problem."""
        try:
            return function(path)
        except InputError as error:
            self.add_problem(path, str(error))
            return None


def relative(path: Path, root: Path) -> str:
    """The path relative to the root if it is below it, else unchanged."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def survey_pair(pair: PairFiles, cut: Cut, root: Path) -> Survey:
    """Look at the headers of a pair's two images."""
    reader = PairReader(pair, root)
    image, partner = (reader.try_read(shape_of, path) for path in (pair.image, pair.partner))
    for path, shape in ((pair.image, image), (pair.partner, partner)):
        if shape is not None and shape.bands != cut.bands:
            reader.add_problem(path, f"has {shape.bands} bands (alpha does not count), where {cut.bands} are needed")
    if image and partner:
        if min(image.height, image.width) < cut.size:
            reader.add_problem(pair.image, f"is {image.width} x {image.height} px, less than a tile of {cut.size} px")
        if (image.height, image.width) != (partner.height, partner.width):
            size = f"is {partner.width} x {partner.height} px, its first image {image.width} x {image.height}"
            reader.add_problem(pair.partner, f"{size}; they must agree")
        if image.dtype != partner.dtype:
            reader.add_problem(pair.partner, f"is {partner.dtype}, its first image {image.dtype}; they must agree")
    return Survey(shape=None if reader.problems else image, problems=tuple(reader.problems))


def cut_pair(pair: PairFiles, shape: Shape, cut: Cut, arrays: Sequence[str], root: Path) -> PairTiles:
    """Read a pair's files and cut them.

    Raises:
        UnusablePair: a file cannot be used, or is no longer of the `shape` that was found before.
    """
    reader = PairReader(pair, root)
    files = {IMAGES: pair.image, PARTNERS: pair.partner}
    images = {name: reader.try_read(read_image, path) for name, path in files.items()}
    for name, pixels in images.items():
        wanted = (shape.height, shape.width, shape.bands)
        if pixels is not None and (pixels.shape != wanted or pixels.dtype.name != shape.dtype):
            reader.add_problem(files[name], "has other pixels than its header says, or changes while it is read")
    read = partial(read_mask, height=shape.height, width=shape.width, unclassified=cut.unclassified)
    masks = {
        name: reader.try_read(read, path)
        for name, path in ((MASKS, pair.mask), (PARTNER_MASKS, pair.partner_mask))
        if path is not None
    }
    if reader.problems:
        raise UnusablePair(reader.problems)
    present = {name: mask for name, mask in masks.items() if mask is not None}
    layers = {**images, **{name: mask.labels for name, mask in present.items()}}
    blocks = {name: _cut(pixels, cut.size) for name, pixels in layers.items() if pixels is not None}
    counts = {name: tuple(map(_count_classes, blocks[name])) for name in present}
    nothing = np.full((len(blocks[IMAGES]), cut.size, cut.size), IGNORED, np.uint8)
    last = present.get(PARTNER_MASKS) or present.get(MASKS)
    return PairTiles(
        blocks={name: blocks.get(name, nothing) for name in arrays},
        counts=counts,
        buildings=last.buildings if last else {},
    )


def _cut(pixels: np.ndarray, size: int) -> np.ndarray:
    """Cut an image (h, w) or (h, w, bands) into (tiles, size, size) or (tiles, size, size, bands)."""
    down, across = pixels.shape[0] // size, pixels.shape[1] // size
    grid = pixels[: down * size, : across * size].reshape(down, size, across, size, *pixels.shape[2:])
    return np.ascontiguousarray(grid.swapaxes(1, 2)).reshape(down * across, size, size, *pixels.shape[2:])


def _count_classes(tile: UInt8[np.ndarray, "size size"]) -> dict[int, int]:
    pixels: Int64[np.ndarray, " _"] = np.bincount(tile.reshape(-1), minlength=1)[:IGNORED]
    return {int(number): int(pixels[number]) for number in np.flatnonzero(pixels)}
