"""CIFAR-10 with false positive pairs (paper, Fig. 1): the partner is an image of another class with probability rho."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import tyro

from datasets.errors import InputError
from datasets.types import Pairing, Task

SIDE = 32
"""Side of an image, px."""


@dataclass(frozen=True, kw_only=True)
class Cifar10Settings:
    """CIFAR-10 (Krizhevsky 2009): classification, with whole images that are falsely matched."""

    pairings: ClassVar[tuple[Pairing, ...]] = ("false_positive",)
    has_nu: ClassVar[bool] = False
    task: ClassVar[Task] = "classification"
    extra_scores: ClassVar[tuple[str, ...]] = ()
    bands: ClassVar[int] = 3
    size: ClassVar[int] = SIDE

    dataset: Annotated[Literal["cifar10"], tyro.conf.Suppress] = "cifar10"
    val: float = 0.1
    """Share of the training images that is held out for validation, the same in every cell of a seed."""
    other_files: bool = False
    """Take a folder whose files are in CIFAR-10's format but not the published ones (other checksums)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 < self.val < 1:
            raise InputError(f"--data.val {self.val:g}: a share of the training images, between 0 and 1")
