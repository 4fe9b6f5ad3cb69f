"""A store: tiles of image pairs as arrays on disk, built once and memory-mapped by all processes of a machine.

Decoding the 18,000 images of xBD (1,024 x 1,024 px) in every cell would take minutes. Memory-mapped tiles need no
decoding, and processes share their pages.
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
from datasets.tiles.cutting import CHANGES, IMAGES, MASKS, PARTNER_MASKS, PARTNERS
from datasets.tiles.pairs import Problem
from datasets.tiles.request import BuildRequest
from datasets.tiles.summary import summary_table


@dataclass(frozen=True, kw_only=True)
class Store:
    """A finished store. It is small when pickled: each process opens the arrays itself."""

    path: Path
    fingerprint: str
    """16 hex digits of names, splits, groups, flags and pixels; the same on every machine."""
    size: int
    """Side of a tile, px."""
    bands: int
    dtype: str
    """Of both images: `uint8`, `uint16` or `float32`, in which NaN is nodata."""
    left_out: tuple[Problem, ...]
    """Problems of the pairs that were skipped."""

    def image(self) -> np.memmap:
        """First images: (tiles, size, size, bands), read-only."""
        return self._array(IMAGES)

    def partner(self) -> np.memmap:
        """Second images: (tiles, size, size, bands), read-only."""
        return self._array(PARTNERS)

    def mask(self) -> np.memmap:
        """Classes of the first images: (tiles, size, size) uint8, read-only; 255 everywhere if a pair has no mask.

        Raises:
            InputError: no pair has a mask.
        """
        return self._array(MASKS)

    def partner_mask(self) -> np.memmap:
        """Classes of the second images, like `mask`.

        Raises:
            InputError: no partner has a mask.
        """
        return self._array(PARTNER_MASKS)

    def changes(self) -> np.memmap:
        """What changed: (tiles, size, size) uint8, read-only; 0 or 1, and 255 where an image has no data, or everywhere
        if a pair has no such mask.

        Raises:
            InputError: no pair has a mask of changes.
        """
        return self._array(CHANGES)

    @cached_property
    def tiles(self) -> pd.DataFrame:
        """One row for each tile, in the order of the arrays.

        Columns: pair (its name), group, split, top and left (px, in the image), noisy, labelled (the side whose mask
        is used: `partner`, `image` or empty), number (row of the arrays), and if a pair has a mask of changes, changed
        (the share of the pixels that changed; NaN for pairs without one).
        """
        return pd.read_parquet(self.path / "tiles.parquet")

    @cached_property
    def pairs(self) -> pd.DataFrame:
        """One row for each pair: pair, group, split, tiles, and the number of polygons of each subtype of building."""
        return pd.read_parquet(self.path / "pairs.parquet")

    @property
    def class_counts(self) -> Int64[np.ndarray, "tiles classes"]:
        """Pixels of each class in the mask that is used; zeros without one. 255 is not counted.

        The last column is the largest class in any mask or in the noisy classes of the cut.
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
                reason = info if isinstance(info, str) else "it was rebuilt from other files"
                raise InputError(f"the store {self.path} has changed since it was opened ({reason}); start again")
            if f"{name}.npy" not in info.files:
                raise InputError(f"the store {self.path} has no {name.replace('_', ' ')}: no pair has one")
            try:
                self._open_arrays[name] = np.load(self.path / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            except ValueError as error:
                raise InputError(
                    f"{self.path / name}.npy is damaged ({error}): delete {self.path}, and it is built again"
                ) from error
        return self._open_arrays[name]

    def __getstate__(self) -> dict[str, Any]:
        # Without tables and arrays, which are opened when needed.
        return {field.name: getattr(self, field.name) for field in fields(self)}


def open_store(request: BuildRequest) -> Store:
    """Open the store of a request. If it is absent or invalid, build it first.

    A store is valid while the names, sizes and times of its source files and the sizes of its own files are unchanged.
    A new store appears when it is complete. The same call resumes an interrupted build. Of several processes, one
    builds and the others wait.

    Raises:
        ProblemsError: files cannot be used, and `skip_bad` is false. It lists all of them.
        InputError: no pair can be used, or the store cannot be written.
    """
    try:
        info = find_or_build(request)
    except OSError as error:
        raise InputError(
            f"the store in {error.filename or request.folder} cannot be written or read ({error.strerror or error}); "
            "free space, allow writing there, or name another folder"
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
