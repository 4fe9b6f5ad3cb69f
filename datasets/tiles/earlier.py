"""The tiles of the store that a build replaces, so that pairs which have not changed are not read again."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from datasets.tiles.cutting import PairTiles, digest_tiles

SOURCES = "sources.parquet"
"""The table of a store that says what each pair was made of."""
COLUMNS = ["key", "first", "tiles", "rest"]
_REST = [one.name for one in fields(PairTiles) if one.name not in ("blocks", "counts")]


@dataclass(frozen=True, kw_only=True)
class EarlierStore:
    """The pairs of an earlier store, by the keys of their files."""

    arrays: Mapping[str, np.memmap] = field(default_factory=dict)
    counts: np.ndarray | None = None
    pairs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By key: first tile, number of tiles, and the other fields of `PairTiles` as JSON."""

    def tiles(self, key: str, number: int, layout: Mapping[str, np.dtype], *, verify: bool) -> PairTiles | None:
        """The tiles of a pair.

        Args:
            key: of its files.
            number: how many tiles it must have.
            layout: the arrays that are needed, and the shape and dtype of a tile in each.
            verify: compute the digest of the tiles again.

        Returns:
            The tiles, or None if the store lacks them, has other arrays, or is damaged.
        """
        one = self.pairs.get(key)
        found = {name: (array.dtype, array.shape[1:]) for name, array in self.arrays.items()}
        if one is None or one["tiles"] != number or found != {name: (t.base, t.shape) for name, t in layout.items()}:
            return None
        rows = slice(one["first"], one["first"] + number)
        # Not through the maps, whose pages would count as memory of this process.
        blocks = {name: _read(self.arrays[name], rows.start, number) for name in layout}
        assert self.counts is not None
        counts = self.counts[:, rows]
        classes = int(np.flatnonzero(counts.any(axis=(0, 1))).max(initial=-1)) + 1
        tiles = PairTiles(blocks=blocks, counts=counts[..., :classes], **json.loads(one["rest"]))
        return tiles if not verify or digest_tiles(blocks) == tiles.digest else None


def _read(array: np.memmap, first: int, number: int) -> np.ndarray:
    shape = (number, *array.shape[1:])
    size = array.dtype.itemsize * math.prod(shape[1:])
    assert array.filename is not None
    with open(array.filename, "rb") as file:
        file.seek(array.offset + first * size)
        return np.frombuffer(file.read(number * size), array.dtype).reshape(shape)


def sources_table(keys: Sequence[str], tiles: Sequence[PairTiles]) -> pd.DataFrame:
    """The table `SOURCES`: a row for each pair, in the order of their tiles."""
    numbers = [one.counts.shape[1] for one in tiles]
    return pd.DataFrame(
        {
            "key": list(keys),
            "first": np.cumsum([0, *numbers])[:-1],
            "tiles": numbers,
            "rest": [json.dumps({name: getattr(one, name) for name in _REST}) for one in tiles],
        }
    )


def open_earlier(home: Path, names: Sequence[str]) -> EarlierStore:
    """The store in a folder, which must be complete.

    Args:
        home: the folder.
        names: of the store's files. One of an earlier version of this project has no `SOURCES`: it gives no pairs.
    """
    if SOURCES not in names:
        return EarlierStore()
    try:
        arrays = {
            name[:-4]: np.load(home / name, mmap_mode="r", allow_pickle=False) for name in names if _is_array(name)
        }
    except ValueError:  # the head of an array is damaged
        return EarlierStore()
    table = pd.read_parquet(home / SOURCES)
    if list(table) != COLUMNS or not all(set(json.loads(rest)) <= set(_REST) for rest in table["rest"]):
        return EarlierStore()  # of another version
    rows = dict(zip(table["key"], table.to_dict("records"), strict=True))
    return EarlierStore(arrays=arrays, counts=np.load(home / "counts.npy", allow_pickle=False), pairs=rows)


def _is_array(name: str) -> bool:
    return name.endswith(".npy") and name != "counts.npy"
