"""Where georeferenced images lie, by the tags of GeoTIFF, and which part two of them have in common."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCALE, TIEPOINTS, TRANSFORM, KEYS = 33550, 33922, 34264, 34735
"""Tags of GeoTIFF."""
PROJECTED, GEOGRAPHIC, RASTER_TYPE = 3072, 2048, 1025
"""Keys in the directory of GeoTIFF: systems of coordinates by their EPSG code, and what a coordinate is of."""
POINT = 2  # RASTER_TYPE: coordinates are of the centres of pixels, not of their corners
USER_DEFINED = 32767


@dataclass(frozen=True)
class Grid:
    """Where the pixels of an image lie. Images that are rotated against their coordinates have none."""

    left: float
    """Of the upper left corner, in the unit of the coordinates."""
    top: float
    across: float
    """Width of a pixel."""
    down: float
    """Height of a pixel; negative if rows go up."""
    system: str
    """Of the coordinates, as EPSG:32636; empty if the file does not name it by a code."""


@dataclass(frozen=True)
class Overlap:
    """The part that two images have in common."""

    height: int
    width: int
    image: tuple[int, int]
    """Row and column of its upper left pixel in the first image."""
    partner: tuple[int, int]


def grid_from_tags(tags: Mapping[int, Any]) -> Grid | None:
    """The grid that the tags of a TIFF say; None if they say none that is parallel to the coordinates.

    Args:
        tags: the values of those of `SCALE`, `TIEPOINTS`, `TRANSFORM` and `KEYS` that the file has.
    """
    keys = _keys(tags.get(KEYS, ()))
    matrix, scale, tie = (tuple(map(float, tags.get(tag, ()))) for tag in (TRANSFORM, SCALE, TIEPOINTS))
    if len(matrix) >= 8:
        across, turned, _, left, also_turned, up, _, top = matrix[:8]
        if turned or also_turned:
            return None
        down = -up
    elif len(scale) >= 2 and len(tie) == 6:
        across, down = scale[:2]
        left, top = tie[3] - tie[0] * across, tie[4] + tie[1] * down
    else:
        return None
    if not across or not down:
        return None
    if keys.get(RASTER_TYPE) == POINT:
        left, top = left - across / 2, top + down / 2
    code = keys.get(PROJECTED) or keys.get(GEOGRAPHIC)
    return Grid(left, top, across, down, f"EPSG:{code}" if code and code != USER_DEFINED else "")


def _keys(directory: Sequence[int]) -> dict[int, int]:
    """The keys whose value is in the directory itself."""
    entries = [tuple(map(int, directory[start : start + 4])) for start in range(4, len(directory) - 3, 4)]
    return {key: value for key, place, _, value in entries if not place}


def misplaced(image: Grid | None, partner: Grid | None, size: tuple[int, int], of: str = "image") -> str:
    """How a partner fails to lie on its image, by half a pixel or more; empty if it does, or if one has no grid.

    Args:
        image: of the first image.
        partner: of its partner.
        size: height and width of the first image.
        of: what messages call the first image.
    """
    if image is None or partner is None:
        return ""
    if reason := _incomparable(image, partner, size, of):
        return reason
    down, across = _offset(image, partner)
    words = [
        f"{abs(number):,} px to the {(before, after)[number > 0]}"
        for number, before, after in ((across, "west", "east"), (down, "north", "south"))
        if number
    ]
    return f"lies {' and '.join(words)} of its {of}, by their coordinates" if words else ""


def overlap(image: Grid, partner: Grid, size: tuple[int, int], other: tuple[int, int]) -> Overlap | str:
    """The common part of two images, in whole pixels, or why there is none.

    Args:
        image: of the first image.
        partner: of its partner.
        size: height and width of the first image.
        other: height and width of its partner.
    """
    if reason := _incomparable(image, partner, size):
        return reason
    offset = _offset(image, partner)
    first = tuple(max(0, number) for number in offset)
    second = tuple(max(0, -number) for number in offset)
    height, width = (min(a - i, b - j) for a, b, i, j in zip(size, other, first, second, strict=True))
    if min(height, width) < 1:
        return "has no part in common with its image, by their coordinates"
    return Overlap(height, width, (first[0], first[1]), (second[0], second[1]))


def _incomparable(image: Grid, partner: Grid, size: tuple[int, int], of: str = "image") -> str:
    if image.system and partner.system and image.system != partner.system:
        return f"has coordinates in {partner.system}, but its {of} in {image.system}"
    sides = ((image.down, partner.down, size[0]), (image.across, partner.across, size[1]))
    if any(abs(two / one - 1) * length >= 0.5 for one, two, length in sides):  # so it grows to half a pixel
        pixels = [f"{grid.across:.6g} x {grid.down:.6g}" for grid in (partner, image)]
        return f"has pixels of {pixels[0]}, but its {of} of {pixels[1]} (unit of the coordinates)"
    return ""


def _offset(image: Grid, partner: Grid) -> tuple[int, int]:
    """Rows and columns from the upper left corner of the image to that of the partner, rounded."""
    return round((image.top - partner.top) / image.down), round((partner.left - image.left) / image.across)
