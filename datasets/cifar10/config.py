"""CIFAR-10 with false positive pairs (paper, Fig. 1): the partner is an image of another class with probability rho."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from datasets.cifar10.files import SIDE, Cifar10Images, read
from datasets.errors import InputError
from datasets.source import Demands, Place
from datasets.types import Pairing, Task

if TYPE_CHECKING:
    import torch

    from datasets.dataset import Dataset


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
        """Refuse a validation share that leaves nothing."""
        if not 0 < self.val < 1:
            raise InputError(f"--data.val {self.val:g}: a share of the training images, between 0 and 1")

    def load(self, place: Place) -> Cifar10Images:
        """Read the batches, downloaded by torchvision first if that is allowed and they are absent.

        Raises:
            InputError: they are absent, damaged, or others than the published ones and that was not asked for.
        """
        place.refuse("cifar10", ("store", "skip_bad"))
        if place.root is None:
            raise InputError("cifar10: say where the images lie, or are to be downloaded to, with --data-root FOLDER")
        return read(place.root, download=place.download, other_files=self.other_files)

    def check(self, source: Cifar10Images, demands: Demands) -> None:
        """Refuse batches larger than the training set.

        Raises:
            InputError: says which.
        """
        if demands.labels:
            raise InputError(
                "cifar10: the dense losses compare pixels, and its images have one class each: --losses moco"
            )
        held = round(self.val * len(source.train))
        if held < 2:
            raise InputError(f"--data.val {self.val:g} holds out {held} images for validation; 2 are needed")
        there = len(source.train) - held
        pretrain = max(demands.batch if demands.rho else 0, demands.supervised_batch)
        for flag, batch in (("pretrain", pretrain), ("probe", demands.probe_batch)):
            if batch > there:
                raise InputError(f"--{flag}.batch {batch} exceeds the {there} training images")

    def open(self, source: Cifar10Images, seed: int, device: "torch.device") -> "Dataset":
        """The images on a device, split by the seed."""
        from datasets.cifar10.dataset import LabelledImages

        return LabelledImages(source, self.val, seed, device)
