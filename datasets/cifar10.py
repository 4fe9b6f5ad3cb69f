"""CIFAR-10 with false positive pairs (paper, Fig. 1): the partner is an image of another class with probability rho."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import tyro
from jaxtyping import UInt8

from datasets.errors import InputError, in_a_line, reason
from datasets.formats.batches import unpickled
from datasets.settings import Pairing, Task
from datasets.source import Demands, Place

if TYPE_CHECKING:
    import torch

    from datasets.dataset import Dataset

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
FOLDER = "cifar-10-batches-py"
CHECKSUMS = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
"""MD5 of the files of the published set, as torchvision has them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cifar10Images:
    """The images as they were read: `train` holds the training batches one after the other."""

    train: UInt8[np.ndarray, "n 32 32 3"]
    train_labels: UInt8[np.ndarray, " n"]
    test: UInt8[np.ndarray, "m 32 32 3"]
    test_labels: UInt8[np.ndarray, " m"]
    fingerprint: str
    published: bool
    """Whether all files are those of the published set."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The ten classes."""
        return CLASSES

    @property
    def title(self) -> str:
        """Which CIFAR-10."""
        name = "CIFAR-10" if self.published else "other images in CIFAR-10's format"
        return f"{name} ({len(self.train)} + {len(self.test)} images)"

    @property
    def notes(self) -> tuple[str, ...]:
        """What results must not be taken for."""
        if self.published:
            return ()
        return ("these are not the published CIFAR-10's files: results on them are not results on CIFAR-10",)

    @property
    def files(self) -> tuple[Path, ...]:
        """None: the pixels travel to the workers."""
        return ()


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
        from datasets.labelled import LabelledImages

        return LabelledImages(source, self.val, seed, device)


def read(root: Path, *, download: bool, other_files: bool) -> Cifar10Images:
    """Read CIFAR-10's Python batches from `root` or from `root/cifar-10-batches-py`.

    Raises:
        InputError: as `Cifar10Settings.load`.
    """
    folder = root if (root / "test_batch").exists() else root / FOLDER
    if download and _absent(folder):
        _download(root)
    if absent := _absent(folder):
        raise InputError(
            f"--data-root {root}: CIFAR-10 is not there ({folder / absent[0]} is missing); name the folder that holds "
            f"{FOLDER}, or let torchvision fetch it with --download (170 MB)"
        )
    contents = {name: (folder / name).read_bytes() for name in CHECKSUMS}
    # usedforsecurity: it only tells files apart; `unpickled` is what makes reading safe.
    sums = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in contents.items()}
    strange = [name for name in CHECKSUMS if sums[name] != CHECKSUMS[name]]
    if strange and not other_files:
        raise InputError(
            f"{folder / strange[0]} is not the published file (MD5 {sums[strange[0]]}, not {CHECKSUMS[strange[0]]}): "
            "fetch it again, or take the folder as it is with --data.other-files"
        )
    parts = [_batch(folder / name, contents[name]) for name in CHECKSUMS]
    train, test = parts[:-1], parts[-1]
    digest = hashlib.blake2b(digest_size=8)
    for images, labels in parts:
        digest.update(np.ascontiguousarray(images).data)
        digest.update(labels.data)
    return Cifar10Images(
        train=np.concatenate([images for images, _ in train]),
        train_labels=np.concatenate([labels for _, labels in train]),
        test=test[0],
        test_labels=test[1],
        fingerprint=digest.hexdigest(),
        published=not strange,
    )


def _absent(folder: Path) -> list[str]:
    return [name for name in CHECKSUMS if not (folder / name).is_file()]


def _download(root: Path) -> None:
    from torchvision.datasets import CIFAR10  # here, because nothing else in this file needs torch

    try:
        CIFAR10(str(root), download=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise InputError(
            f"the download of CIFAR-10 from {CIFAR10.url} to {root} failed ({in_a_line(error, most=200)}); "
            f"try again, or fetch that archive yourself and unpack it in {root}"
        ) from error


def _batch(path: Path, content: bytes) -> tuple[UInt8[np.ndarray, "n 32 32 3"], UInt8[np.ndarray, " n"]]:
    """Images and labels of one file: rows of 3,072 bytes, the red plane first."""
    try:
        found = unpickled(content)
        pixels, given = found["data"], found["labels"]
        if not isinstance(pixels, np.ndarray) or not all(type(label) is int for label in given):
            raise ValueError("data are no array, or labels no list of whole numbers")
        labels = np.array(given)
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3 * SIDE * SIDE) or len(labels) == 0:
            raise ValueError(f"data of shape {pixels.shape} and type {pixels.dtype} for {len(labels)} labels")
        if labels.min() < 0 or labels.max() >= len(CLASSES):
            raise ValueError(f"labels from {labels.min()} to {labels.max()}, where 0 to 9 are valid")
    except Exception as error:  # of many kinds on damage, and all mean the same
        raise InputError(f"{path} is no batch of CIFAR-10 ({reason(error)}): replace it") from error
    return np.ascontiguousarray(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)), labels.astype(np.uint8)
