"""Tiles of image pairs as arrays on disk, built once and memory-mapped by all processes of a machine.

Decoding xBD's 18,000 images of 1,024 x 1,024 px in every cell would take minutes. Memory-mapped tiles need no decoding,
and processes share their pages.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int64

from datasets.errors import InputError
from datasets.tiles import index
from datasets.tiles.cache import find_or_build
from datasets.tiles.cutting import IMAGES, MASKS, PARTNER_MASKS, PARTNERS
from datasets.tiles.pairs import Problem
from datasets.tiles.request import BuildRequest
from datasets.tiles.summary import summary_table


@dataclass(frozen=True, kw_only=True)
class Store:
    """A finished store. Small and picklable: each process opens the arrays itself."""

    path: Path
    fingerprint: str
    """16 hex digits of names, splits, groups, flags and pixels; the same on every machine."""
    size: int
    """Side of a tile, px."""
    bands: int
    dtype: str
    """Of images and partners: `uint8` or `uint16`."""
    left_out: tuple[Problem, ...]
    """Problems of the pairs that were skipped."""

    def image(self) -> np.memmap:
        """First images: (tiles, size, size, bands), read-only."""
        return self._array(IMAGES)

    def partner(self) -> np.memmap:
        """Second images: (tiles, size, size, bands), read-only."""
        return self._array(PARTNERS)

    def mask(self) -> np.memmap:
        """Classes of the first images: (tiles, size, size) uint8, read-only; 255 throughout where a pair has no mask.

        Raises:
            InputError: no pair has one.
        """
        return self._array(MASKS)

    def partner_mask(self) -> np.memmap:
        """Classes of the second images, like `mask`.

        Raises:
            InputError: no pair has one.
        """
        return self._array(PARTNER_MASKS)

    @cached_property
    def tiles(self) -> pd.DataFrame:
        """One row a tile, in order of the arrays.

        Columns: pair (its name), group, split, top and left (px, in the image), noisy, labelled (`partner`, `image`
        or empty: the side whose mask counts), number (row of the arrays).
        """
        return pd.read_parquet(self.path / "tiles.parquet")

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """One row a pair: pair, group, split, tiles, and a column for each subtype of buildings (their polygons)."""
        return pd.read_parquet(self.path / "pairs.parquet")

    @property
    def class_counts(self) -> Int64[np.ndarray, "tiles classes"]:
        """Pixels of each class in the mask that counts; zeros where there is none. 255 is not counted.

        There are as many classes as the masks or the cut's noisy classes name.
        """
        partner = (self.tiles["labelled"] == "partner").to_numpy(bool)
        return np.where(partner[:, None], self.partner_counts, self.image_counts)

    @property
    def image_counts(self) -> Int64[np.ndarray, "tiles classes"]:
        """Pixels of each class in the masks of the first images."""
        return self._counts[0]

    @property
    def partner_counts(self) -> Int64[np.ndarray, "tiles classes"]:
        """Pixels of each class in the masks of the second images."""
        return self._counts[1]

    @cached_property
    def _counts(self) -> Int64[np.ndarray, "2 tiles classes"]:
        return np.load(self.path / "counts.npy", allow_pickle=False)

    @cached_property
    def _open_arrays(self) -> dict[str, np.memmap]:
        return {}

    def _array(self, name: str) -> np.memmap:
        if name not in self._open_arrays:
            info = index.read_info(self.path)
            if isinstance(info, str) or info.fingerprint != self.fingerprint:
                reason = info if isinstance(info, str) else "it was made anew of other files"
                raise InputError(f"the store {self.path} is not the one that was opened ({reason}); start again")
            if f"{name}.npy" not in info.files:
                raise InputError(f"the store {self.path} has no {name.replace('_', ' ')}: no pair came with one")
            try:
                self._open_arrays[name] = np.load(self.path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            except ValueError as error:
                raise InputError(
                    f"{self.path / name}.npy is damaged ({error}): delete {self.path}, and it is made again"
                ) from error
        return self._open_arrays[name]

    def __getstate__(self) -> dict[str, Any]:
        # Without tables and arrays, which are opened again when needed.
        return {field.name: getattr(self, field.name) for field in fields(self)}


def open_store(request: BuildRequest) -> Store:
    """Open the store of the request's pairs, and build it first where there is none that is right.

    A store is right as long as the files it was made from have the names, sizes and times that they had, and as its
    own files have the sizes that they had. A new one appears all at once when it is finished. An interrupted build
    resumes with the same call; of several processes one builds and the others wait.

    Raises:
        ProblemsError: files cannot be used, all of them named, and `skip_bad` is false.
        InputError: no pair can be used, or the store cannot be written.
    """
    try:
        info = find_or_build(request)
    except OSError as error:
        raise InputError(
            f"the store in {error.filename or request.folder} cannot be written or read ({error.strerror or error}); "
            "make room or allow writing there, or name another folder"
        ) from error
    return Store(
        path=request.home,
        fingerprint=info.fingerprint,
        size=info.size,
        bands=info.bands,
        dtype=info.dtype,
        left_out=tuple(sorted({*request.problems, *info.left_out})),
    )


def summary(store: Store) -> str:
    """A table by group, with a total: pairs, tiles, buildings by subtype (xBD) or shares of classes, noisy tiles."""
    subtypes = [name for name in store.pairs.columns if name in index.SUBTYPES]
    return summary_table(store.tiles, store.pairs, store.class_counts, subtypes)
