"""CIFAR-10 with false positive pairs (paper, Fig. 1): the partner is an image of another class with probability rho."""

from typing import Annotated, ClassVar, Literal

import tyro
from pydantic import Field

from datasets.settings import settings
from datasets.types import Pairing, Task

SIDE = 32
"""Side of an image, px."""


@settings("data")
class Cifar10Settings:
    """CIFAR-10 (Krizhevsky 2009): classification, where a noisy pair matches two different images."""

    pairings: ClassVar[tuple[Pairing, ...]] = ("false_positive",)
    has_nu: ClassVar[bool] = False
    task: ClassVar[Task] = "classification"
    extra_scores: ClassVar[tuple[str, ...]] = ()
    bands: ClassVar[int] = 3
    size: ClassVar[int] = SIDE

    dataset: Annotated[Literal["cifar10"], tyro.conf.Suppress] = "cifar10"
    val: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training images held out for validation, the same images in every cell of a seed."""
    other_files: bool = False
    """Accept files in CIFAR-10's format that are not the published ones (their checksums differ)."""
