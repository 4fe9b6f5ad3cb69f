"""The interface of a data set in a worker: batches of positive pairs and of labelled downstream images."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from datasets.transfer import Transfer
from datasets.types import Pairing


@dataclass(frozen=True, kw_only=True, eq=False)
class PairBatch:
    """n positive pairs before augmentation: images in [0, 1], and labels if requested.

    Labels are classes of pixels, or one class of each pair for data sets of whole images.
    """

    first: Float[Tensor, "n c h w"]
    second: Float[Tensor, "n c h w"]
    first_labels: UInt8[Tensor, "n ..."] | None
    second_labels: UInt8[Tensor, "n ..."] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Draws:
    """Uniform random numbers in [0, 1), one per pair and purpose; the same in all cells of a seed."""

    noisy: Float[Tensor, " n"]
    """The pair is noisy if this is below rho."""
    swap: Float[Tensor, " n"]
    """The two images are swapped if this is below one half."""
    partner: Float[Tensor, " n"]
    """Selects the partner of a false positive, or the direction of a misregistered one."""


@runtime_checkable
class PairPool(Protocol):
    """The training pairs of one cell."""

    def __len__(self) -> int:
        """Number of pairs."""

    def batch(self, index: Int[Tensor, " n"], draws: Draws, *, labelled: bool) -> tuple[PairBatch, Bool[Tensor, " n"]]:
        """The indexed pairs, with labels if requested, and which of them are noisy (a mask on the CPU)."""


class TransferPool(ABC):
    """A `PairPool` whose batches come from one transfer, so that a step can send them with all that it sends."""

    @abstractmethod
    def transfer(
        self, index: Int[Tensor, " n"], draws: Draws, *, labelled: bool
    ) -> tuple[Transfer[PairBatch], Bool[Tensor, " n"]]:
        """`batch` before anything is sent. In all steps the contents have equal shapes, and are used alike."""

    def measured_nu(self) -> float:
        """The mean share of pixels of a noisy partner whose class differs from that in the clean image.

        NaN where this is not known, because it needs the classes of both images, or a mask of what changed.
        """
        return math.nan

    def batch(self, index: Int[Tensor, " n"], draws: Draws, *, labelled: bool) -> tuple[PairBatch, Bool[Tensor, " n"]]:
        """See `PairPool`."""
        transfer, noisy = self.transfer(index, draws, labelled=labelled)
        return transfer.sent(), noisy


@runtime_checkable
class Dataset(Protocol):
    """The data of one seed on a device."""

    classes: tuple[str, ...]
    """Downstream classes in label order."""
    device: torch.device

    def pool(self, rho: float, nu: float, pairing: Pairing, generator: torch.Generator) -> PairPool:
        """The training pairs at noisy-pairs rate rho and per-image noise nu; `generator` draws them if needed."""

    def validation_pairs(self) -> int:
        """Number of validation pairs of pretraining."""

    def validation(self, index: Int[Tensor, " n"], *, labelled: bool) -> PairBatch:
        """Noise-free pairs, the same for every cell."""

    def count(self, split: str) -> int:
        """Number of downstream images in a split."""

    def downstream(
        self, split: str, index: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n *two c h w"], UInt8[Tensor, "n h w"] | UInt8[Tensor, " n"]]:
        """Images, or pairs of them, with the class of each pixel, or of each image; the same for every cell."""

    def class_counts(self) -> Int[Tensor, " classes"]:
        """Pixels (or images) of each class in the downstream training images."""

    def noise_pixels(self, nu: float) -> float:
        """The realised mean share of noise in a noisy image."""


def from_bytes(pixels: UInt8[Tensor, "..."]) -> Float[Tensor, "..."]:
    """8-bit values as numbers from 0 to 1, with the same bits on every device."""
    # With a divisor on the host, CUDA multiplies by 1/255 instead: 126 of the 256 values differ in the last bit.
    return pixels.float().div_(torch.full((), 255.0, device=pixels.device))
