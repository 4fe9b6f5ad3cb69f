"""Your own image pairs, listed in a CSV or Parquet file: each row names two images of one place.

`python -m datasets.manifest check FILE` reads all of them, and reports problems, or a summary and the next command.
`preview` draws some.
"""

import math
import re
from typing import Annotated, ClassVar, Literal

import tyro
from pydantic import Field, NonNegativeInt

from datasets.errors import InputError
from datasets.manifest.holdout import HoldOut
from datasets.misregistration import Misregistration
from datasets.settings import Share, settings
from datasets.types import Pairing, Target, Task

MOST_BANDS = 13
ROLES = ("image", "partner", "mask", "partner_mask", "change_mask", "name", "split", "noisy", "group")
"""What columns of Parquet files with images hold."""
LABELS = 255  # 0 to 254; pixels with 255 are ignored


@settings("data")
class ManifestSettings(Misregistration):
    """Your own image pairs, listed in a CSV or Parquet file and cut into tiles."""

    pairings: ClassVar[tuple[Pairing, ...]] = ("noisy", "exposure", "misregistration")
    has_nu: ClassVar[bool] = False
    task: ClassVar[Task] = "segmentation"
    targets: ClassVar[tuple[Target, ...]] = ("classes", "change", "classes_from_pair")
    extra_scores: ClassVar[tuple[str, ...]] = ()

    dataset: Annotated[Literal["manifest"], tyro.conf.Suppress] = "manifest"
    size: Annotated[int, Field(ge=8)] = 128
    """Side of the tiles, px."""
    bands: Annotated[int, Field(ge=1, le=MOST_BANDS)] = 3
    """Bands of each image, 1 to 13."""
    select: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Numbers of the bands to read, from 1, in this order, from files that have more; default: all."""
    nodata: tuple[str, ...] = ()
    """What shows nothing and does not count in masks: a number, if all bands of a pixel have it, or `alpha`, if it is
    wholly transparent. NaN, and nodata that TIFF files of signed or floating-point numbers declare, never count."""
    align: Literal["check", "crop", "ignore"] = "check"
    """What the coordinates of GeoTIFF files are for: to refuse pairs that do not lie on each other, to cut both images
    to their common part, or nothing."""
    classes: tuple[str, ...] = ()
    """Names of the downstream classes in label order; default: class_0, class_1, ... up to the largest label."""
    noisy_classes: tuple[NonNegativeInt, ...] = ()
    """Labels that make a tile noisy, where the column `noisy` is empty: the partner's mask shows one of them, and the
    image's mask shows none."""
    dense_labels: Literal["classes", "binary"] = "classes"
    """What the dense losses distinguish: all classes, or class 0 from the rest, as in the paper for xBD."""
    min_share: Share = 0.0
    """Pretrain only on tiles where each mask has at least this share of its pixels outside its most frequent class; 0:
    on all. Tiles without masks are kept, and the downstream task keeps all tiles."""
    mean: tuple[Annotated[float, Field(gt=-1e9, lt=1e9)], ...] = ()
    """Mean of each band, in the unit of the files. Needed unless images are 8-bit RGB (scaled from 0..255 to 0..1)."""
    std: tuple[Annotated[float, Field(gt=0, lt=1e9)], ...] = ()
    """Standard deviation of each band, in the same unit."""
    ood: tuple[str, ...] = ()
    """Groups (column `group`) that are held out, whatever their split: neither pretraining nor a probe sees them, and
    `probe.split ood` tests on them."""

    columns: tuple[str, ...] = ()
    """Columns of Parquet files with images that have other names than the usual ones, as in image=before partner=after
    mask=labels: image, partner, mask, partner_mask, change_mask, name, split, noisy, group."""
    holdout: tuple[Share, ...] = ()
    """Shares of the training pairs (those without a split are among them) that become val and test, as in 0.2 0.2."""
    holdout_seed: NonNegativeInt = 0
    """Seed of the draw for --data.holdout. Pairs of one group stay together."""

    @property
    def has_ood(self) -> bool:
        """Whether there is a split `ood`."""
        return bool(self.ood)

    def __post_init__(self) -> None:
        """Refuse settings that do not fit together. The order of `ood` means nothing."""
        object.__setattr__(self, "ood", tuple(sorted(set(self.ood))))
        self._check_classes()
        self._check_columns()
        if self.select and len(self.select) != self.bands:
            raise InputError(
                f"--data.select {' '.join(map(str, self.select))}: {len(self.select)} bands, but --data.bands is "
                f"{self.bands}; they must agree"
            )
        for value in self.nodata:
            if value != "alpha" and not _is_number(value):
                raise InputError(f"--data.nodata {value!r}: give a number, or alpha")
        if len(self.holdout) not in (0, 2) or sum(self.holdout) >= 1:
            raise InputError(
                f"--data.holdout {' '.join(f'{share:g}' for share in self.holdout)}: give two shares, of val and test, "
                "which leave pairs to train on, as in 0.2 0.2"
            )
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) not in (0, self.bands):
                raise InputError(f"--data.{name}: {len(values)} values for {self.bands} bands (--data.bands)")
        if bool(self.mean) != bool(self.std):
            raise InputError("--data.mean and --data.std belong together: give both or neither")

    @property
    def column_names(self) -> dict[str, str]:
        """The name of each column that `columns` gives, by what it holds."""
        return dict(one.split("=", 1) for one in self.columns)

    @property
    def drawn_splits(self) -> HoldOut | None:
        """What is drawn from the training pairs, if anything."""
        return HoldOut(self.holdout[0], self.holdout[1], self.holdout_seed) if self.holdout else None

    def _check_columns(self) -> None:
        for one in self.columns:
            role, equals, name = one.partition("=")
            if role not in ROLES or not equals or not name:
                raise InputError(f"--data.columns {one!r}: write it as image=NAME; valid are {', '.join(ROLES)}")
        if len(self.column_names) < len(self.columns):
            raise InputError(f"--data.columns {' '.join(self.columns)}: give each column once")

    def _check_classes(self) -> None:
        labels = len(self.classes) or LABELS
        if labels == 1 or labels > LABELS:
            raise InputError(f"--data.classes: give 2 to {LABELS} names, not {labels}")
        for name in self.classes:
            if not re.fullmatch(r"[\w.-]+", name) or name.lower() == "macro":  # test_f1_macro is the mean over classes
                raise InputError(
                    f"--data.classes {name!r}: use letters, digits, '_', '-' and '.', and not the name 'macro'"
                )
        for name, values in (("classes", self.classes), ("noisy-classes", self.noisy_classes)):
            # SQL does not distinguish case: duckdb would read the score of `Water` for that of `water`.
            if len({str(value).lower() for value in values}) < len(values):
                raise InputError(f"--data.{name} {' '.join(map(str, values))}: give each value once, whatever its case")
        for label in self.noisy_classes:
            if label >= labels:
                raise InputError(f"--data.noisy-classes {label}: classes are 0 to {labels - 1}")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
