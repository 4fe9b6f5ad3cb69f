"""Reads the files of CIFAR-10, checks them against the published checksums, and downloads them if requested."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from datasets.cifar10.batches import unpickle_batch
from datasets.cifar10.config import SIDE
from datasets.errors import InputError, describe_error, one_line
from datasets.unread import folders_below

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDER = "cifar-10-batches-py"
CHECKSUMS = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
}
"""MD5 of the published files, as in torchvision."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cifar10Images:
    """All images; `train` has the training batches in order."""

    train: UInt8[np.ndarray, "n 32 32 3"]
    train_labels: UInt8[np.ndarray, " n"]
    test: UInt8[np.ndarray, "m 32 32 3"]
    test_labels: UInt8[np.ndarray, " m"]
    fingerprint: str
    published: bool
    """Whether all files are the published ones."""
    unread: tuple[str, ...] = ()
    """Names of other batches in the folder."""

    @property
    def classes(self) -> tuple[str, ...]:
        """The ten classes."""
        return CLASSES

    @property
    def title(self) -> str:
        """Name and numbers of images."""
        name = "CIFAR-10" if self.published else "other images in CIFAR-10's format"
        return f"{name} ({len(self.train)} + {len(self.test)} images)"

    @property
    def notes(self) -> tuple[str, ...]:
        """Warnings for files that are not the published ones, and for others that are not read."""
        notes = []
        if not self.published:
            notes.append("these are not the published files of CIFAR-10: results on them are not results on CIFAR-10")
        if self.unread:
            notes.append(f"not read: {', '.join(self.unread)}, which CIFAR-10 does not have")
        return tuple(notes)

    @property
    def files(self) -> tuple[Path, ...]:
        """None: the pixels travel to the workers."""
        return ()


def read_batches(root: Path, *, download: bool, other_files: bool) -> Cifar10Images:
    """Read the Python batches of CIFAR-10 from `root` or from `root/cifar-10-batches-py`.

    Raises:
        InputError: files are absent, damaged, or not the published ones although `other_files` is false.
    """
    folder = _batch_folder(root)
    if download and _missing_files(folder):
        _download(root)
        folder = _batch_folder(root)
    if absent := _missing_files(folder):
        raise InputError(_describe_absence(root, folder, absent))
    contents = {name: (folder / name).read_bytes() for name in CHECKSUMS}
    # Not for security: the checksums only identify files, and `unpickle_batch` is safe with any.
    sums = {name: hashlib.md5(content, usedforsecurity=False).hexdigest() for name, content in contents.items()}
    unpublished = [name for name in CHECKSUMS if sums[name] != CHECKSUMS[name]]
    if unpublished and not other_files:
        first, *others = unpublished
        like = f", like {', '.join(others)}" if others else ""
        raise InputError(
            f"{folder / first} is not the published file (MD5 {sums[first]}, not {CHECKSUMS[first]}){like}: download "
            "CIFAR-10 again, or accept the folder with --data.other-files"
        )
    parts = [_read_batch(folder / name, contents[name]) for name in CHECKSUMS]
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
        published=not unpublished,
        unread=tuple(sorted(path.name for path in folder.glob("*batch_*") if path.name not in CHECKSUMS)),
    )


def _batch_folder(root: Path) -> Path:
    """The one of both folders that lacks fewer batches."""
    return min(root, root / FOLDER, key=lambda folder: len(_missing_files(folder)))


def _describe_absence(root: Path, folder: Path, absent: Sequence[str]) -> str:
    """What is missing, and what there is instead."""
    if len(absent) < len(CHECKSUMS):
        return f"{folder}: {', '.join(absent)} missing; unpack CIFAR-10 again, or download it with --download (170 MB)"
    likely = {
        "cifar-10-python.tar.gz": "its archive is there: unpack it",
        "cifar-10-batches-bin": "its binary version is there, but the Python version is read",
        "cifar-10-batches-mat": "its Matlab version is there, but the Python version is read",
        "cifar-100-python": "CIFAR-100 is there, which no data set of this project reads",
    }
    if complete := next((place for place in folders_below(root) if not _missing_files(place)), None):
        return f"--data-root {root}: CIFAR-10 is in {complete}; name that folder"
    found = [f"; {what}" for name, what in likely.items() if (root / name).exists() or root.name == name]
    return (
        f"--data-root {root}: CIFAR-10 is missing ({root / FOLDER / absent[0]}){''.join(found)}; name the folder that "
        f"contains {FOLDER}, or download it with --download (170 MB)"
    )


def _missing_files(folder: Path) -> list[str]:
    return [name for name in CHECKSUMS if not (folder / name).is_file()]


def _download(root: Path) -> None:
    from torchvision.datasets import CIFAR10  # imports torch, which nothing else in this file needs

    try:
        CIFAR10(str(root), download=True)
    except (OSError, RuntimeError, EOFError) as error:
        raise InputError(
            f"the download of CIFAR-10 from {CIFAR10.url} to {root} failed ({one_line(error, most=200)}); "
            f"try again, or download that archive yourself and unpack it in {root}"
        ) from error


def _read_batch(path: Path, content: bytes) -> tuple[UInt8[np.ndarray, "n 32 32 3"], UInt8[np.ndarray, " n"]]:
    """Images and labels of one file: rows of 3,072 bytes, the red plane first."""
    try:
        batch = unpickle_batch(content)
        pixels, given = batch["data"], batch["labels"]
        if not isinstance(pixels, np.ndarray) or not all(type(label) is int for label in given):
            raise ValueError("data is not an array, or labels is not a list of integers")
        labels = np.array(given)
        if pixels.dtype != np.uint8 or pixels.shape != (len(labels), 3 * SIDE * SIDE) or len(labels) == 0:
            raise ValueError(f"data of shape {pixels.shape} and type {pixels.dtype} for {len(labels)} labels")
        if labels.min() < 0 or labels.max() >= len(CLASSES):
            raise ValueError(f"labels from {labels.min()} to {labels.max()}; valid are 0 to 9")
    except Exception as error:  # damaged files raise errors of many kinds
        raise InputError(f"{path} is not a batch of CIFAR-10 ({describe_error(error)}): replace it") from error
    return np.ascontiguousarray(pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)), labels.astype(np.uint8)
