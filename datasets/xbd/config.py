"""xBD (Gupta et al. 2019, https://arxiv.org/abs/1911.09296): satellite images before and after disasters.

A pair is noisy if a building in it is damaged. Tiles have 512 px; clean and noisy ones are undersampled to the
noisy-pairs rate (paper, IV-A). `python -m datasets.xbd prepare ROOT --store DIR` converts the images to arrays before a
sweep; `preview` draws some.
"""

from typing import Annotated, ClassVar, Literal

import tyro
from pydantic import Field, NonNegativeInt

from datasets.errors import InputError
from datasets.misregistration import Misregistration
from datasets.settings import Share, settings
from datasets.types import Pairing, Target, Task

CLASSES = ("background", "no_damage", "minor_damage", "major_damage", "destroyed")
"""Downstream classes in label order."""
DAMAGED = (2, 3, 4)
"""Classes that make a tile noisy if the image after the disaster shows them."""
SIDE = 1024
"""Side of an xBD image, px."""


@settings("data")
class XbdSettings(Misregistration):
    """xBD: building damage, in image pairs of one place before and after a disaster (paper, IV-A)."""

    pairings: ClassVar[tuple[Pairing, ...]] = ("noisy", "exposure", "misregistration")
    has_nu: ClassVar[bool] = False
    task: ClassVar[Task] = "segmentation"
    targets: ClassVar[tuple[Target, ...]] = ("classes", "change", "classes_from_pair")
    extra_scores: ClassVar[tuple[str, ...]] = ("xview2",)
    bands: ClassVar[int] = 3

    dataset: Annotated[Literal["xbd"], tyro.conf.Suppress] = "xbd"
    size: Annotated[int, Field(ge=8, le=SIDE)] = 512
    """Side of the tiles, px, at most 1024. A divisor of 1024 uses every pixel."""
    masks: Literal["polygons", "targets"] = "polygons"
    """Source of the classes: the polygons in the label files, or the images in targets/ if a folder has them."""
    unclassified: Literal["no-damage", "ignore"] = "no-damage"
    """How to treat buildings with unknown damage after the disaster: as undamaged, or ignore them."""
    split_by: Literal["tile", "image"] = "tile"
    """Unit of the random validation split: tiles, as in the paper (an image may be on both sides), or whole images."""
    split_seed: NonNegativeInt = 0
    """Seed of the validation split (30 % of train and tier3), which is the same for all seeds of a sweep."""
    min_share: Share = 0.0
    """Pretrain only on tiles where both masks have at least this share of their pixels outside their most frequent
    class, building or background; 0: on all. The downstream task keeps all tiles."""
    ood: tuple[str, ...] = ()
    """Disasters that are held out: neither pretraining nor a probe sees them, and `probe.split ood` tests on them."""

    @property
    def has_ood(self) -> bool:
        """Whether there is a split `ood`."""
        return bool(self.ood)

    def __post_init__(self) -> None:
        """Refuse a choice that the masks cannot make. The order of `ood` means nothing."""
        object.__setattr__(self, "ood", tuple(sorted(set(self.ood))))
        if self.masks == "targets" and self.unclassified == "ignore":
            raise InputError(
                "--data.unclassified ignore: the images in targets/ do not tell which buildings are unclassified; add "
                "--data.masks polygons"
            )
