"""CIFAR-10 in a worker: images with one class each, and pairs that are false positives with probability rho."""

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from datasets import pairing
from datasets.cifar10.files import Cifar10Images
from datasets.dataset import Draws, PairBatch, TransferPool, from_bytes
from datasets.errors import InputError
from datasets.seeding import stream
from datasets.transfer import Transfer, send
from datasets.types import Pairing


class LabelledImages:
    """The images of one seed, all on the device."""

    def __init__(self, source: Cifar10Images, val: float, seed: int, device: torch.device) -> None:
        """Hold out a share `val` of the training images for validation; the test images are those of CIFAR-10."""
        self.classes = source.classes
        self.device = device
        order = torch.randperm(len(source.train), generator=stream(seed, "validation split"))
        held = round(val * len(source.train))
        train, train_labels = torch.tensor(source.train), torch.tensor(source.train_labels)
        parts = {
            "train": (train[order[held:]], train_labels[order[held:]]),
            "val": (train[order[:held]], train_labels[order[:held]]),
            "test": (torch.tensor(source.test), torch.tensor(source.test_labels)),
        }
        self._images = {
            split: images.permute(0, 3, 1, 2).contiguous().to(device) for split, (images, _) in parts.items()
        }
        self._labels = {split: labels.to(device) for split, (_, labels) in parts.items()}

    def count(self, split: str) -> int:
        """Number of images of a split."""
        return len(self._labels[split])

    def images(self, split: str, index: Int[Tensor, " n"]) -> Float[Tensor, "n 3 h w"]:
        """The indexed images, in [0, 1]; the index is on the device."""
        return from_bytes(self._images[split][index])

    def train_pairs(
        self, first: Int[Tensor, " n"], second: Int[Tensor, " n"], labels: UInt8[Tensor, " n"] | None
    ) -> PairBatch:
        """The indexed training images as pairs with these classes; everything is on the device."""
        images = [self.images("train", index) for index in (first, second)]
        return PairBatch(first=images[0], second=images[1], first_labels=labels, second_labels=labels)

    def pool(self, rho: float, nu: float, pairing: Pairing, generator: torch.Generator) -> "FalsePairs":
        """The training images; each time, an image is paired with one of another class with probability rho."""
        return FalsePairs(self, self._labels["train"].cpu().long(), rho)

    def validation_pairs(self) -> int:
        """Number of images held out."""
        return self.count("val")

    def validation(self, index: Int[Tensor, " n"], *, labelled: bool) -> PairBatch:
        """Images held out, each paired with itself."""
        (index,) = send(self.device, index)
        images, labels = self.images("val", index), self._labels["val"][index] if labelled else None
        return PairBatch(first=images, second=images, first_labels=labels, second_labels=labels)

    def downstream(self, split: str, index: Int[Tensor, " n"]) -> tuple[Float[Tensor, "n 3 h w"], UInt8[Tensor, " n"]]:
        """Images and their classes."""
        (index,) = send(self.device, index)
        return self.images(split, index), self._labels[split][index]

    def class_counts(self) -> Int[Tensor, " classes"]:
        """Number of training images of each class."""
        return torch.bincount(self._labels["train"].long(), minlength=len(self.classes))

    def noise_pixels(self, nu: float) -> float:
        """All pixels of a false positive are noise."""
        return nu


class FalsePairs(TransferPool):
    """Pairs of an image with itself or, with probability rho, with any image of another class."""

    def __init__(self, data: LabelledImages, labels: Int[Tensor, " n"], rho: float) -> None:
        """`labels` are the classes of the training images.

        Raises:
            InputError: rho is above 0, and all images have one class.
        """
        if rho and len(labels.unique()) < 2:
            raise InputError("rho > 0 needs training images of at least two classes, but there is only one; use rho 0")
        self._data, self._labels, self._rho = data, labels, rho
        self._by_class = labels.argsort(stable=True)  # image numbers, sorted by class
        self._count = torch.bincount(labels, minlength=len(data.classes))
        self._start = self._count.cumsum(0) - self._count

    def __len__(self) -> int:
        return len(self._labels)

    def transfer(
        self, index: Int[Tensor, " n"], draws: Draws, *, labelled: bool
    ) -> tuple[Transfer[PairBatch], Bool[Tensor, " n"]]:
        """The pairs of the indexed images, and which are false positives.

        Both images of a pair have the class of the indexed image, although it is not that of a false partner.
        """
        false = pairing.choose_noisy(draws.noisy, self._rho)
        partner = self.partner(index, draws.partner)
        first, second = pairing.swap_sides(*pairing.noisy_sides(false, "false_positive"), draws.swap)
        labels = self._labels[index].to(torch.uint8) if labelled else None
        chosen = [index.where(~is_partner, partner) for is_partner in (first, second)]
        return Transfer(self._data.device, [*chosen, labels], self._data.train_pairs), false

    def partner(self, index: Int[Tensor, " n"], uniform: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
        """An image of another class for each indexed image."""
        own = self._labels[index]
        others = (len(self) - self._count[own]).clamp(min=1)
        place = (uniform.double() * others).long().minimum(others - 1)
        # Images of the same class are consecutive in `_by_class`; positions from there on skip them.
        place = place + (place >= self._start[own]) * self._count[own]
        # Only with a single class, when rho is 0, a position is beyond the end.
        return self._by_class[place.clamp(max=len(self) - 1)]
