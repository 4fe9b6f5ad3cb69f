"""The settings of VTS. No torch here, so that the command line starts fast."""

from typing import Annotated, ClassVar, Literal

import tyro
from pydantic import Field

from datasets.errors import InputError
from datasets.misregistration import Misregistration
from datasets.settings import settings
from datasets.types import Pairing, Task

CLASSES = ("texture_a", "texture_b", "noise")
"""Downstream classes in label order, named by their role because their textures are a setting."""


FAMILIES = ("stratified", "veined", "matted", "dotted")
"""The families of procedural textures, named after the categories of DTD that the paper uses, in the paper's roles."""


def noisy_regions(nu: float, regions: int) -> int:
    """The number of regions that nu replaces.

    Raises:
        InputError: nu is not a multiple of 1/regions.
    """
    count = round(nu * regions)
    if abs(nu * regions - count) > 1e-6:
        steps = ", ".join(f"{k / regions:g}" for k in range(min(regions, 4) + 1))
        raise InputError(
            f"nu = {nu:g} is not a multiple of 1/{regions} (there are {regions} Voronoi regions): use one of "
            f"{steps}, ... 1, or change --data.regions"
        )
    return count


Count = Annotated[int, Field(ge=2)]


@settings("data")
class VtsSettings(Misregistration):
    """VTS, the synthetic Voronoi texture segmentation set (paper, IV-B)."""

    pairings: ClassVar[tuple[Pairing, ...]] = (
        *("noisy", "exposure", "irrelevant", "false_positive", "misregistration"),
    )
    has_nu: ClassVar[bool] = True
    has_ood: ClassVar[bool] = True
    task: ClassVar[Task] = "segmentation"
    extra_scores: ClassVar[tuple[str, ...]] = ()
    bands: ClassVar[int] = 3

    dataset: Annotated[Literal["vts"], tyro.conf.Suppress] = "vts"
    size: Annotated[int, Field(ge=8)] = 256
    """Side of a scene, px."""
    regions: Annotated[int, Field(ge=2, multiple_of=2)] = 20
    """Voronoi regions per scene, an even number: half of them belong to each class."""
    train: Count = 6000
    """Training scenes."""
    val: Count = 3600
    """Validation scenes."""
    test: Count = 2400
    """Test scenes."""
    textures: Annotated[Literal["procedural", "folder", "dtd"], tyro.conf.arg(aliases=("--textures",))] = "procedural"
    """Source of the texture images: generated, a folder with <category>/*.jpg|png, or DTD."""
    categories: tuple[str, ...] = ()
    """The categories of the first class, the second class, the noise and, for the pairing `irrelevant`, of noise that
    is no downstream class; default: stratified veined matted dotted, or the three folders in alphabetical order."""
    texture_scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Scale factor for texture images from files, applied before windows are cut out of them."""
    downstream_noise: int = 7
    """Regions of each downstream image that show the noise texture, which is the third class."""

    def __post_init__(self) -> None:
        """Refuse settings that do not fit together."""
        if not 0 < self.downstream_noise < self.regions:
            raise InputError(
                f"--data.downstream-noise {self.downstream_noise}: should be from 1 to {self.regions - 1}, so that the "
                f"{self.regions} regions show all three classes"
            )
        if len(self.categories) not in (0, 3, 4):
            raise InputError(
                "--data.categories: give three (first class, second class, noise), or four with noise that is no "
                f"downstream class; not {len(self.categories)}"
            )
        if again := [name for name in self.categories if self.categories.count(name) > 1]:
            raise InputError(f"--data.categories: {again[0]} is given twice; each role needs a category of its own")
        unknown = [name for name in self.categories if name not in FAMILIES]
        if unknown and self.textures == "procedural":
            raise InputError(
                f"--data.categories {' '.join(unknown)}: procedural textures are {', '.join(FAMILIES)}; choose among "
                "these, or name a folder with --data.textures folder --data-root FOLDER"
            )

    def check_nu(self, nu: float) -> None:
        """Refuse a per-image noise that is not a whole number of regions.

        Raises:
            InputError: nu is not a multiple of 1/regions.
        """
        noisy_regions(nu, self.regions)
