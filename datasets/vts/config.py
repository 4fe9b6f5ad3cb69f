"""The settings of VTS. No torch here: the command line imports them."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import tyro

from datasets.errors import InputError
from datasets.types import SPLITS, Pairing, Task

CLASSES = ("texture_a", "texture_b", "noise")
"""Downstream classes in label order. Named by their role, since the textures behind them are a setting."""


def noisy_regions(nu: float, regions: int) -> int:
    """The number of regions that nu replaces, exactly.

    Raises:
        InputError: nu * regions is no whole number.
    """
    count = round(nu * regions)
    if abs(nu * regions - count) > 1e-6:
        steps = ", ".join(f"{k / regions:g}" for k in range(min(regions, 4) + 1))
        raise InputError(
            f"nu = {nu:g} is no multiple of 1/{regions} (the number of Voronoi regions): use one of "
            f"{steps}, ... 1, or change --data.regions"
        )
    return count


@dataclass(frozen=True, kw_only=True)
class VtsSettings:
    """The synthetic Voronoi-region texture segmentation set, VTS (paper, IV-B)."""

    pairings: ClassVar[tuple[Pairing, ...]] = ("noisy", "exposure", "irrelevant", "false_positive")
    has_nu: ClassVar[bool] = True
    task: ClassVar[Task] = "segmentation"
    extra_scores: ClassVar[tuple[str, ...]] = ()
    bands: ClassVar[int] = 3

    dataset: Annotated[Literal["vts"], tyro.conf.Suppress] = "vts"
    size: int = 256
    """Side of a scene, px."""
    regions: int = 20
    """Voronoi regions of a scene, half of them to each class; even."""
    train: int = 6000
    """Training scenes."""
    val: int = 3600
    """Validation scenes."""
    test: int = 2400
    """Test scenes."""
    textures: Annotated[Literal["procedural", "folder", "dtd"], tyro.conf.arg(aliases=("--textures",))] = "procedural"
    """Where texture images come from: made in memory, a folder's <category>/*.jpg|png, or DTD."""
    categories: tuple[str, ...] = ()
    """Texture categories of the first class, the second class, the noise and, for the pairing `irrelevant`, of noise
    that is no class downstream; empty: the source's own."""
    texture_scale: float = 1.0
    """Factor by which texture images from files are shrunk before a window is cut out of them."""
    downstream_noise: int = 7
    """Regions of each downstream image that show the noise texture, labelled as the third class."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.size < 8:
            raise InputError(f"--data.size {self.size}: a scene needs at least 8 px a side")
        if self.regions < 2 or self.regions % 2:
            raise InputError(
                f"--data.regions {self.regions}: half of the regions go to each class, so give an even number >= 2"
            )
        for split in SPLITS:
            if getattr(self, split) < 2:
                raise InputError(f"--data.{split} {getattr(self, split)}: at least 2 scenes are needed")
        if not 0 < self.downstream_noise < self.regions:
            raise InputError(
                f"--data.downstream-noise {self.downstream_noise}: must leave all three classes to be seen, so "
                f"1 to {self.regions - 1} of the {self.regions} regions"
            )
        if not 0 < self.texture_scale <= 1:
            raise InputError(f"--data.texture-scale {self.texture_scale}: must be in (0, 1]")
        if len(self.categories) not in (0, 3, 4):
            raise InputError(
                "--data.categories: three are needed (first class, second class, noise), or four with noise that is no "
                f"class downstream; {len(self.categories)} given"
            )
        if self.categories and self.textures != "folder":
            raise InputError("--data.categories: only a folder's categories can be chosen; add --data.textures folder")

    def check_nu(self, nu: float) -> None:
        """Refuse a per-image noise that is no whole number of regions.

        Raises:
            InputError: nu is no multiple of 1/regions.
        """
        noisy_regions(nu, self.regions)
