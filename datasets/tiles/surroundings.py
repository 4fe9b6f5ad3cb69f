"""Tiles with what lies around them in their image, for partners that are displaced."""

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float32, Int64, Shaped

from datasets.misregistration import Misregistration
from datasets.pairing import displace, displacements
from datasets.tiles.store import Store


class Surroundings:
    """Where the tiles around each tile are in the arrays of a store.

    A store holds whole tiles: the rest of an image at the right and at the bottom is not in it.
    """

    def __init__(self, store: Store, margin: int) -> None:
        """Find the grid of tiles of each tile's image; no pixel is read. `margin` is in px, on each side of a tile."""
        self.margin, self.size, self.side = margin, store.size, store.size + 2 * margin
        tiles = store.tiles
        of_pair = tiles.groupby("pair")
        self._first = of_pair["number"].transform("min").to_numpy(np.int64)
        self._place = tiles[["top", "left"]].to_numpy(np.int64)
        self._extent = of_pair[["top", "left"]].transform("max").to_numpy(np.int64) + store.size

    @property
    def inner(self) -> slice:
        """The rows, or columns, of the tile itself."""
        return slice(self.margin, self.margin + self.size)

    def patches(
        self, array: np.ndarray, tiles: Int64[np.ndarray, " n"]
    ) -> Iterator[Shaped[np.ndarray, "side side ..."]]:
        """Each tile of an array of the store, images or masks, with the margin; reflected where its image ends."""
        for first, place, extent in zip(self._first[tiles], self._place[tiles], self._extent[tiles], strict=True):
            down, across = (extent // self.size).tolist()
            grid = array[first : first + down * across].reshape(down, across, *array.shape[1:])
            rows, columns = (
                _reflected(start - self.margin, self.side, length)
                for start, length in zip(place.tolist(), extent.tolist(), strict=True)
            )
            left, right = columns.min() // self.size, columns.max() // self.size + 1
            lines = grid[rows // self.size, left:right, rows % self.size]
            yield lines.reshape(self.side, -1, *array.shape[3:])[:, columns - left * self.size]


def displaced_partner(store: Store, tile: int, amount: Misregistration) -> Float32[np.ndarray, "h w bands"]:
    """The partner of a tile, shifted to the right, turned and enlarged, from 0 to 1."""
    around = Surroundings(store, amount.margin(store.size))
    patch = next(around.patches(store.partner(), np.array([tile]))).astype(np.float32) / np.iinfo(store.dtype).max
    maps = displacements(amount, torch.zeros(1), torch.ones(1).bool(), around.side)
    moved = displace(torch.from_numpy(patch).permute(2, 0, 1)[None], maps)[0, :, around.inner, around.inner]
    return moved.permute(1, 2, 0).numpy()


def _reflected(start: int, count: int, length: int) -> Int64[np.ndarray, " count"]:
    """The indices from `start` on, reflected at both ends of 0 .. length - 1, so that -1 becomes 0."""
    index = np.arange(start, start + count) % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)
