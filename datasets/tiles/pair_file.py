"""The tiles of one pair in a file of their own, while their store is built."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datasets.tiles.cutting import PairTiles, digest_tiles


def save_tiles(path: Path, tiles: PairTiles) -> None:
    """Write tiles to a file that appears when it is complete.

    Raises:
        OSError: the file cannot be written.
    """
    part = path.with_suffix(".part")
    with part.open("wb") as file:  # not np.savez, which takes twice as long
        for block in (*tiles.blocks.values(), tiles.counts):
            np.save(file, block)
        rest = {"buildings": dict(tiles.buildings), "digest": tiles.digest, "changed": tiles.changed}
        np.save(file, json.dumps(rest))
    part.replace(path)


def load_tiles(path: Path, number: int, layout: Mapping[str, np.dtype], *, verify: bool) -> PairTiles | None:
    """Read tiles from a file.

    Args:
        path: a file that `save_tiles` wrote.
        number: how many tiles it must hold.
        layout: the arrays it must hold, and the shape and dtype of a tile in each.
        verify: compute the digest of the tiles again.

    Returns:
        The tiles, or None if the file is absent, damaged or holds something else.
    """
    try:
        with path.open("rb") as file:
            blocks = {name: np.load(file, allow_pickle=False) for name in layout}
            counts, rest = (np.load(file, allow_pickle=False) for _ in range(2))
        tiles = PairTiles(blocks=blocks, counts=counts, **json.loads(str(rest)))
    except Exception:  # damaged files raise errors of many kinds
        return None
    found = {name: (block.dtype, block.shape) for name, block in blocks.items()}
    wanted = {name: (tile.base, (number, *tile.shape)) for name, tile in layout.items()}
    return tiles if found == wanted and (not verify or digest_tiles(blocks) == tiles.digest) else None
