"""Rasterizes many polygons into one mask.

Not skimage.draw.polygon: it gives the common edge of two polygons to both, and reads one polygon at a time.
"""

import numpy as np
import shapely
from jaxtyping import Bool, Float64, Int64, UInt8

from datasets.errors import InputError

MAX_PIXELS = 2**26  # gathered at once, 9 bytes each
MAX_CROSSINGS = 2**24  # of edges with rows, gathered at once, about 80 bytes each


def rasterize(
    polygons: np.ndarray, values: UInt8[np.ndarray, " n"], height: int, width: int
) -> UInt8[np.ndarray, "{height} {width}"]:
    """Fill `polygons` with their `values` on a background of 0; later polygons cover earlier ones.

    Pixel (r, c) belongs to a polygon if its centre (x, y) = (c + .5, r + .5) is inside. A centre on a left or upper
    edge is inside, one on a right or lower edge is not, so that polygons with a common edge neither share a pixel nor
    leave one out. A point is inside if an odd number of rings encloses it. A hole is not part of its polygon: earlier
    polygons stay visible there. Parts outside the image are cut off.

    Args:
        polygons: n shapely Polygons or MultiPolygons, in px from the upper left corner of the image, x to the right
            and y down; empty ones draw nothing.
        values: the value of each polygon.
        height: rows of the mask.
        width: columns of the mask.

    Raises:
        InputError: the edges cross too many rows for memory.
    """
    mask = np.zeros((height, width), np.uint8)
    at_once = max(1, MAX_PIXELS // (height * width))  # each polygon may cover the image
    for first in range(0, len(polygons), at_once):
        _rasterize_some(mask, polygons[first : first + at_once], values[first : first + at_once])
    return mask


def _rasterize_some(mask: UInt8[np.ndarray, "h w"], polygons: np.ndarray, values: UInt8[np.ndarray, " n"]) -> None:
    height, width = mask.shape
    owner, row, crossing = _crossings(polygons, height)
    order = np.lexsort((crossing, row, owner))
    # Along a row the crossings of a polygon alternate: enter, leave, enter, leave.
    owner, row, crossing = owner[order][::2], row[order][::2], crossing[order]
    columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
    first, last = columns[::2], columns[1::2]
    length = last - first
    pixel = np.repeat(row * width + first, length) + _count_up(length)
    # NumPy keeps the last of several values for one pixel, and the spans are sorted by polygon.
    mask.reshape(-1)[pixel] = np.repeat(values[owner], length)


def _crossings(
    polygons: np.ndarray, height: int
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
    """The crossings of edges with the centre lines of rows: number of the polygon, row, x."""
    owner, start, end = _edges(polygons)
    # All edges run down, so that an edge that two polygons share crosses at exactly the same x.
    up = start[:, 1] > end[:, 1]
    start[up], end[up] = end[up], start[up]
    low = np.clip(np.ceil(start[:, 1] - 0.5), 0, height).astype(np.int64)
    high = np.clip(np.ceil(end[:, 1] - 0.5), 0, height).astype(np.int64)
    rows = high - low
    if rows.sum() > MAX_CROSSINGS:
        raise InputError(f"has polygons whose edges cross more than {MAX_CROSSINGS:,} rows of pixels; simplify them")
    edge = np.repeat(np.arange(len(rows)), rows)
    row = low[edge] + _count_up(rows)
    (x0, y0), (x1, y1) = start[edge].T, end[edge].T
    return owner[edge], row, x0 + (row + 0.5 - y0) * ((x1 - x0) / (y1 - y0))


def _edges(
    polygons: np.ndarray,
) -> tuple[Int64[np.ndarray, " e"], Float64[np.ndarray, "e 2"], Float64[np.ndarray, "e 2"]]:
    """All edges of all rings: number of the polygon, start, end."""
    parts, part_owner = shapely.get_parts(polygons, return_index=True)
    rings, ring_owner = shapely.get_rings(parts, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    same: Bool[np.ndarray, " _"] = ring[1:] == ring[:-1]
    return part_owner[ring_owner[ring[1:][same]]], points[:-1][same], points[1:][same]


def _count_up(lengths: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " total"]:
    """The ranges 0, 1, ... of each length, concatenated."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
