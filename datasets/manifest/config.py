"""A user's own pairs, listed in a CSV or Parquet file: each row names two images of one place.

`python -m datasets.manifest check FILE` reads them all and says what is wrong with them, or what they hold and how to
go on; `preview` draws some.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import tyro

from datasets.errors import InputError
from datasets.types import Pairing, Task

MOST_BANDS = 13
LABELS = 255  # 0 to 254; 255 is a pixel that does not count


@dataclass(frozen=True, kw_only=True)
class ManifestSettings:
    """Image pairs of one's own, cut into tiles and listed in a CSV or Parquet file."""

    pairings: ClassVar[tuple[Pairing, ...]] = ("noisy", "exposure")
    has_nu: ClassVar[bool] = False
    task: ClassVar[Task] = "segmentation"
    extra_scores: ClassVar[tuple[str, ...]] = ()

    dataset: Annotated[Literal["manifest"], tyro.conf.Suppress] = "manifest"
    size: int = 128
    """Side of the tiles that images are cut into, px."""
    bands: int = 3
    """Bands of each image, 1 to 13."""
    classes: tuple[str, ...] = ()
    """Names of the downstream classes in the order of their labels; empty: class_0, class_1, ... to the largest."""
    noisy_classes: tuple[int, ...] = ()
    """Where the column `noisy` is empty: a tile is noisy if the partner's mask shows one of these, the image's none."""
    dense_labels: Literal["classes", "binary"] = "classes"
    """What the dense losses tell apart: all classes, or class 0 from the rest, as the paper does for xBD."""
    mean: tuple[float, ...] = ()
    """Mean of each band in the files' unit; needed for 16 bits and other than 3 bands (8-bit RGB: 0..255 to 0..1)."""
    std: tuple[float, ...] = ()
    """Standard deviation of each band, likewise."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.size < 8:
            raise InputError(f"--data.size {self.size}: a tile needs at least 8 px a side")
        if not 1 <= self.bands <= MOST_BANDS:
            raise InputError(f"--data.bands {self.bands}: 1 to {MOST_BANDS}")
        self._check_classes()
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (0, self.bands):
                raise InputError(f"--data.{name}: {len(values)} values for {self.bands} bands (--data.bands)")
            if not all(-1e9 < value < 1e9 for value in values):  # so written, NaN is refused too
                raise InputError(f"--data.{name} {_spaced(values)}: give a number for each band")
        if bool(self.mean) != bool(self.std):
            raise InputError("--data.mean and --data.std belong together: give both or neither")
        if not all(value > 0 for value in self.std):
            raise InputError(f"--data.std {_spaced(self.std)}: must be above 0")

    def _check_classes(self) -> None:
        labels = len(self.classes) or LABELS
        if labels == 1 or labels > LABELS:
            raise InputError(f"--data.classes: 2 to {LABELS} names are needed, {labels} given")
        for name in self.classes:
            if not re.fullmatch(r"[\w.-]+", name) or name == "macro":  # test_f1_macro is the mean over classes
                raise InputError(f"--data.classes {name!r}: letters, digits, '_', '-' and '.', and not 'macro'")
        for name, values in (("classes", self.classes), ("noisy-classes", self.noisy_classes)):
            if len(set(values)) < len(values):
                raise InputError(f"--data.{name} {_spaced(values)}: repeats a value")
        for label in self.noisy_classes:
            if not 0 <= label < labels:
                raise InputError(f"--data.noisy-classes {label}: classes are 0 to {labels - 1}")


def _spaced(values: Sequence[object]) -> str:
    return " ".join(map(str, values))
