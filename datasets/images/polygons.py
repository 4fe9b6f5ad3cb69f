"""Rasterizes many polygons into one mask."""

import numpy as np
import shapely
from jaxtyping import Bool, Float64, Int64, UInt8

from datasets.errors import InputError

MOST_PIXELS = 2**26  # that are gathered at once, 9 bytes each
MOST_CROSSINGS = 2**24  # of edges and rows that are gathered at once, some 80 bytes each


def rasterize(
    polygons: np.ndarray, values: UInt8[np.ndarray, " n"], height: int, width: int
) -> UInt8[np.ndarray, "{height} {width}"]:
    """Fill `polygons` with their `values` on 0s, a later one over an earlier one.

    Pixel (r, c) belongs to a polygon where its centre (x, y) = (c + .5, r + .5) lies inside: a centre on a left
    or upper edge does, one on a right or lower edge does not, so that polygons with a common edge share no
    pixel and leave none out. Inside is what an odd number of rings encloses. A hole is no part of its polygon:
    what was drawn there before stays. What lies outside of the image is cut off.

    Args:
        polygons: n shapely Polygons or MultiPolygons, in px from the image's upper left corner, x to the right
            and y down; empty ones draw nothing.
        values: what to fill each with.
        height: rows of the mask.
        width: columns of the mask.

    Raises:
        InputError: some of them have so many edges that memory would not hold where these cross rows.
    """
    mask = np.zeros((height, width), np.uint8)
    at_once = max(1, MOST_PIXELS // (height * width))  # so many at once, since each may cover the image
    for first in range(0, len(polygons), at_once):
        _rasterize_some(mask, polygons[first : first + at_once], values[first : first + at_once])
    return mask


def _rasterize_some(mask: UInt8[np.ndarray, "h w"], polygons: np.ndarray, values: UInt8[np.ndarray, " n"]) -> None:
    height, width = mask.shape
    owner, row, crossing = _crossings(polygons, height)
    order = np.lexsort((crossing, row, owner))
    # Along a row the crossings of a polygon alternate: in, out, in, out.
    owner, row, crossing = owner[order][::2], row[order][::2], crossing[order]
    columns = np.clip(np.ceil(crossing - 0.5), 0, width).astype(np.int64)
    first, last = columns[::2], columns[1::2]
    length = last - first
    pixel = np.repeat(row * width + first, length) + _count_up(length)
    # Of several values for one pixel NumPy keeps the last, and the spans are sorted by polygon.
    mask.reshape(-1)[pixel] = np.repeat(values[owner], length)


def _crossings(
    polygons: np.ndarray, height: int
) -> tuple[Int64[np.ndarray, " m"], Int64[np.ndarray, " m"], Float64[np.ndarray, " m"]]:
    """Where edges cross the centre lines of the image's rows: number of the polygon, row, x."""
    owner, start, end = _edges(polygons)
    # Each edge runs down, so that one that two polygons share crosses at the very same x.
    up = start[:, 1] > end[:, 1]
    start[up], end[up] = end[up], start[up]
    low = np.clip(np.ceil(start[:, 1] - 0.5), 0, height).astype(np.int64)
    high = np.clip(np.ceil(end[:, 1] - 0.5), 0, height).astype(np.int64)
    rows = high - low
    if rows.sum() > MOST_CROSSINGS:
        raise InputError(f"has polygons whose edges cross more than {MOST_CROSSINGS:,} rows of pixels; simplify them")
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
    """0, 1, ... up to each length, one after the other."""
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - lengths, lengths)
