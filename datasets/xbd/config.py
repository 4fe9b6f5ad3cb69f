"""xBD (Gupta et al. 2019): satellite images before and after disasters; a pair is noisy where a building is damaged.

Tiles of 512 px, clean and noisy ones undersampled to the noisy-pairs rate (paper, IV-A).
`python -m datasets.xbd prepare ROOT --store DIR` converts the images to arrays before any sweep; `preview` draws some.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import tyro

from datasets.errors import InputError
from datasets.types import Pairing, Task

CLASSES = ("background", "no_damage", "minor_damage", "major_damage", "destroyed")
"""Downstream classes in label order."""
DAMAGED = (2, 3, 4)
"""Classes that make a tile noisy where the image after the disaster shows them."""
SIDE = 1024
"""Side of xBD's images, px."""


@dataclass(frozen=True, kw_only=True)
class XbdSettings:
    """xBD: building damage by disasters, in pairs of one place before and after (paper, IV-A)."""

    pairings: ClassVar[tuple[Pairing, ...]] = ("noisy", "exposure")
    has_nu: ClassVar[bool] = False
    task: ClassVar[Task] = "segmentation"
    extra_scores: ClassVar[tuple[str, ...]] = ("xview2",)
    bands: ClassVar[int] = 3

    dataset: Annotated[Literal["xbd"], tyro.conf.Suppress] = "xbd"
    size: int = 512
    """Side of the tiles that images are cut into, px; one that divides 1024 leaves nothing out."""
    masks: Literal["polygons", "targets"] = "polygons"
    """Where classes come from: the label files' polygons, or the images in targets/ where a folder has them."""
    unclassified: Literal["no-damage", "ignore"] = "no-damage"
    """What a building after the disaster is whose damage nobody could tell: undamaged, or ignored."""
    split_by: Literal["tile", "image"] = "tile"
    """What is drawn for validation: tiles, so that an image can be on both sides (the paper's way), or whole images."""
    split_seed: int = 0
    """Draws the validation set, .3 of train and tier3; the same for all seeds of a sweep."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 8 <= self.size <= SIDE:
            raise InputError(f"--data.size {self.size}: from 8 to {SIDE} px, the side of xBD's images")
        if self.masks == "targets" and self.unclassified == "ignore":
            raise InputError(
                "--data.unclassified ignore: targets/ do not tell which buildings are unclassified; use the polygons "
                "(--data.masks polygons)"
            )
        if self.split_seed < 0:
            raise InputError(f"--data.split-seed {self.split_seed}: must be 0 or more")
