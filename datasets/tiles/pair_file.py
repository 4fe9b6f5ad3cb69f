"""The tiles of one pair in a file of their own, while their store is built."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from datasets.tiles.cutting import PairTiles


def save_tiles(path: Path, tiles: PairTiles) -> None:
    """Write tiles to a file that appears when it is complete.

    Raises:
        OSError: the file cannot be written.
    """
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, counts=tiles.counts, buildings=np.array(json.dumps(dict(tiles.buildings))), **tiles.blocks)
    part.replace(path)


def load_tiles(path: Path, number: int, layout: Mapping[str, np.dtype]) -> PairTiles | None:
    """Read tiles from a file, whose checksums are verified.

    Args:
        path: a file that `save_tiles` wrote.
        number: how many tiles it must hold.
        layout: the arrays it must hold, and the shape and dtype of a tile in each.

    Returns:
        The tiles, or None if the file is absent, damaged or holds something else.
    """
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            parts = {name: file[name] for name in file.files}
        counts, buildings = parts.pop("counts"), json.loads(str(parts.pop("buildings")))
    except Exception:  # damaged files raise errors of many kinds
        return None
    found = {name: (block.dtype, block.shape) for name, block in parts.items()}
    wanted = {name: (tile.base, (number, *tile.shape)) for name, tile in layout.items()}
    return PairTiles(blocks=parts, counts=counts, buildings=buildings) if found == wanted else None
