"""Mean and standard deviation of each band of a store's images, which scale them."""

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Int64

from datasets.tiles.store import Store

_AT_ONCE = 2**26  # bytes of pixels in memory


def sample_rows(rows: Int64[np.ndarray, " n"], most: int) -> Int64[np.ndarray, " chosen"]:
    """At most `most` of the rows, but at least one; always the same."""
    if len(rows) <= most:
        return rows
    return np.sort(np.random.default_rng(0).choice(rows, max(1, most), replace=False))


def band_statistics(
    store: Store, rows: Int64[np.ndarray, " n"], nodata: Sequence[float] = ()
) -> tuple[list[float], list[float], list[int]]:
    """Mean and standard deviation of each band over the images and partners in these rows of the arrays.

    Args:
        store: the tiles.
        rows: of the arrays.
        nodata: pixels all of whose bands have one of these values do not count; nor does NaN.

    Returns:
        Mean and standard deviation in the unit of the files, and the bands (from 1) whose pixels are all equal. The
        deviation of these is given as 1. A band without any value has mean 0.
    """
    whole = np.dtype(store.dtype).kind == "u"
    mean, spread = (_of_integers if whole else _of_floats)(store, rows, nodata)
    constant = (np.flatnonzero(spread == 0) + 1).tolist()
    return mean.tolist(), np.where(spread == 0, 1, spread).tolist(), constant


def _of_integers(store: Store, rows: Int64[np.ndarray, " n"], nodata: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    histogram = np.zeros((store.bands, np.iinfo(store.dtype).max + 1), np.int64)
    for pixels in _pixels(store, rows, nodata):
        histogram += np.stack(
            [np.bincount(np.ascontiguousarray(band), minlength=len(histogram[0])) for band in pixels.T]
        )
    values = np.arange(histogram.shape[1], dtype=np.float64)
    counts = np.maximum(histogram.sum(axis=1), 1)
    mean = histogram @ values / counts
    return mean, np.sqrt((histogram * (values - mean[:, None]) ** 2).sum(axis=1) / counts)


def _of_floats(store: Store, rows: Int64[np.ndarray, " n"], nodata: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """In two passes, because a difference of large sums would lose the digits that matter."""
    count, total, squares = (np.zeros(store.bands) for _ in range(3))
    for pixels in _pixels(store, rows, nodata):
        count += np.isfinite(pixels).sum(axis=0)
        total += np.nansum(pixels, axis=0, dtype=np.float64)
    mean = total / np.maximum(count, 1)
    for pixels in _pixels(store, rows, nodata):
        squares += np.nansum((pixels - mean) ** 2, axis=0)
    return mean, np.sqrt(squares / np.maximum(count, 1))


def _pixels(store: Store, rows: Int64[np.ndarray, " n"], nodata: Sequence[float]) -> Iterator[np.ndarray]:
    """The pixels of both sides, (n, bands), in parts."""
    for side in (store.image(), store.partner()):
        step = max(1, _AT_ONCE // side[:1].nbytes)
        for first in range(0, len(rows), step):
            pixels = side[rows[first : first + step]].reshape(-1, store.bands)
            for value in nodata:
                pixels = pixels[~(pixels == value).all(axis=1)]
            yield pixels
