"""What changed between the two images of a tile: the labels of the probe's target `change`. No torch here."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from datasets.tiles.store import Store
from datasets.types import CHANGE, IGNORED

AT_ONCE = 64
"""Tiles whose masks are read at a time to count their pixels."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Changes:
    """What changed in the tiles of a store. Copies that are sent to other processes hold what has been counted."""

    store: Store
    damage: tuple[int, ...] = ()
    """Classes of the partner that are a change; empty: a pixel changed where the classes of both masks differ."""

    @cached_property
    def by_mask(self) -> Bool[np.ndarray, " tiles"]:
        """The tiles that have a mask of changes, which decides alone."""
        tiles = self.store.tiles
        return np.asarray(tiles["changed"].notna() if "changed" in tiles else np.zeros(len(tiles), bool))

    @cached_property
    def by_classes(self) -> Bool[np.ndarray, " tiles"]:
        """The other tiles, where both masks show a class."""
        before, after = (counts.any(axis=1) for counts in (self.store.image_counts, self.store.partner_counts))
        return np.asarray(before & after & ~self.by_mask)

    @cached_property
    def counts(self) -> Int64[np.ndarray, "tiles 2"]:
        """Pixels of each tile that are unchanged, and that changed; others are not known."""
        found = np.zeros((len(self.by_mask), len(CHANGE)), np.int64)
        images, partners = self.store.image_counts, self.store.partner_counts
        known = images.sum(axis=1) == self.store.size**2
        rest = self.by_mask | self.by_classes
        if self.damage:  # then the classes after tell it, except where a pixel is not known before
            told = self.by_classes & known
            damaged = partners[told][:, list(self.damage)].sum(axis=1)
            found[told] = np.stack([partners[told].sum(axis=1) - damaged, damaged], axis=1)
            rest &= ~told
        tiles = np.flatnonzero(rest)
        for part in np.array_split(tiles, 1 + len(tiles) // AT_ONCE):
            labels = self.labels(part)
            found[part] = np.stack([(labels == label).sum(axis=(1, 2)) for label in range(len(CHANGE))], axis=1)
        return found

    def labels(self, tiles: Int64[np.ndarray, " n"]) -> UInt8[np.ndarray, "n h w"]:
        """For each pixel of some tiles 0 (unchanged), 1 (changed) or `IGNORED`: not known, in one of the images."""
        store, rows = self.store, self.store.tiles["number"].to_numpy(np.int64)[tiles]
        found = np.full((len(tiles), store.size, store.size), IGNORED, np.uint8)
        if (given := self.by_mask[tiles]).any():
            found[given] = store.changes()[rows[given]]
        if (classes := self.by_classes[tiles]).any():
            first, second = store.mask()[rows[classes]], store.partner_mask()[rows[classes]]
            changed = np.isin(np.arange(256), self.damage)[second] if self.damage else first != second
            found[classes] = np.where((first == IGNORED) | (second == IGNORED), IGNORED, changed)
        return found
