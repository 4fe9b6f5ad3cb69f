"""CIFAR-10 as a data set: files are read in the driver, images are opened in a worker."""

from typing import TYPE_CHECKING

from datasets.cifar10.config import Cifar10Settings
from datasets.cifar10.files import Cifar10Images, read_batches
from datasets.errors import InputError
from datasets.source import Demands, Place

if TYPE_CHECKING:
    import torch

    from datasets.cifar10.dataset import LabelledImages


def load(settings: Cifar10Settings, place: Place) -> Cifar10Images:
    """Read the batches; if they are absent and it is allowed, torchvision downloads them first.

    Raises:
        InputError: files are absent, damaged, or not the published ones although `other_files` is false.
    """
    place.refuse_flags("cifar10", ("store", "skip_bad"))
    if place.root is None:
        raise InputError("cifar10: name the folder of the images, or the one to download to, with --data-root FOLDER")
    return read_batches(place.root, download=place.download, other_files=settings.other_files)


def check(settings: Cifar10Settings, source: Cifar10Images, demands: Demands) -> None:
    """Refuse batches larger than the training set.

    Raises:
        InputError: says which, or that a loss needs labels of pixels.
    """
    if demands.labels:
        raise InputError(
            "cifar10: the dense losses compare labels of pixels, but its images have one class each; run --losses moco"
        )
    held = round(settings.val * len(source.train))
    if held < 2:
        raise InputError(f"--data.val {settings.val:g} holds out {held} images for validation; at least 2 are needed")
    count = len(source.train) - held
    pretrain = max(demands.batch if demands.rho else 0, demands.supervised_batch)
    for flag, batch in (("pretrain", pretrain), ("probe", demands.probe_batch)):
        if batch > count:
            raise InputError(f"--{flag}.batch {batch} exceeds the {count} training images")


def open_data(settings: Cifar10Settings, source: Cifar10Images, seed: int, device: "torch.device") -> "LabelledImages":
    """The images on a device, split by the seed."""
    from datasets.cifar10.dataset import LabelledImages  # imports torch, which the driver must not

    return LabelledImages(source, settings.val, seed, device)
