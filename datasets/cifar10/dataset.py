"""Images with one class each, and pairs that are false positives with probability rho."""

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from datasets import pairing
from datasets.cifar10.files import Cifar10Images
from datasets.dataset import Draws, PairBatch
from datasets.errors import InputError
from datasets.seeding import stream
from datasets.types import Pairing


class LabelledImages:
    """The images of one seed, all on the device."""

    def __init__(self, source: Cifar10Images, val: float, seed: int, device: torch.device) -> None:
        """Hold out a share `val` of the training images for validation; the test images are the data set's own."""
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
        """Images of a split."""
        return len(self._labels[split])

    def images(self, split: str, index: Int[Tensor, " n"]) -> Float[Tensor, "n 3 h w"]:
        """The indexed images, in [0, 1]."""
        return self._images[split][index.to(self.device, non_blocking=True)].float().div_(255)

    def pool(self, rho: float, nu: float, pairing: Pairing, generator: torch.Generator) -> "FalsePairs":
        """The training images, each paired with one of another class with probability rho every time."""
        return FalsePairs(self, self._labels["train"].cpu().long(), rho)

    def validation_pairs(self) -> int:
        """Images held out."""
        return self.count("val")

    def validation(self, index: Int[Tensor, " n"], *, labelled: bool) -> PairBatch:
        """Each image held out with itself."""
        images = self.images("val", index)
        return PairBatch(first=images, second=images, first_labels=None, second_labels=None)

    def downstream(self, split: str, index: Int[Tensor, " n"]) -> tuple[Float[Tensor, "n 3 h w"], UInt8[Tensor, " n"]]:
        """Images and their classes."""
        return self.images(split, index), self._labels[split][index.to(self.device, non_blocking=True)]

    def class_counts(self) -> Int[Tensor, " classes"]:
        """Training images of each class."""
        return torch.bincount(self._labels["train"].long(), minlength=len(self.classes))

    def noise_pixels(self, nu: float) -> float:
        """All of a false positive is falsely matched."""
        return nu


class FalsePairs:
    """Each image with itself or, with probability rho, with one of another class, all of them equally likely."""

    def __init__(self, data: LabelledImages, labels: Int[Tensor, " n"], rho: float) -> None:
        """`labels` are the training images' classes.

        Raises:
            InputError: rho is above 0 and all images are of one class.
        """
        if rho and len(labels.unique()) < 2:
            raise InputError("rho > 0 needs training images of two classes or more, and there is one")
        self._data, self._labels, self._rho = data, labels, rho
        self._by_class = labels.argsort(stable=True)  # image numbers, class after class
        self._count = torch.bincount(labels, minlength=len(data.classes))
        self._start = self._count.cumsum(0) - self._count

    def __len__(self) -> int:
        return len(self._labels)

    def batch(self, index: Int[Tensor, " n"], draws: Draws, *, labelled: bool) -> tuple[PairBatch, Bool[Tensor, " n"]]:
        """The indexed images' pairs, and which are false positives."""
        false = pairing.choose_noisy(draws.noisy, self._rho)
        partner = self.partner(index, draws.partner)
        first, second = pairing.swap_sides(*pairing.noisy_sides(false, "false_positive"), draws.swap)
        images = [self._data.images("train", index.where(~strange, partner)) for strange in (first, second)]
        return PairBatch(first=images[0], second=images[1], first_labels=None, second_labels=None), false

    def partner(self, index: Int[Tensor, " n"], uniform: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
        """An image of another class for each of the indexed ones."""
        own = self._labels[index]
        others = (len(self) - self._count[own]).clamp(min=1)
        place = (uniform.double() * others).long().minimum(others - 1)
        # The images of the own class lie together: a place from there on moves up by their number.
        place = place + (place >= self._start[own]) * self._count[own]
        return self._by_class[
            place.clamp(max=len(self) - 1)
        ]  # beyond the end only where there is one class, and no rho
