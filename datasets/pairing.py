"""The pairing rule: rho, nu and pairing decide which two images form a positive pair (paper, IV and V-C)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from datasets.types import Pairing


def choose_noisy(uniform: Float[Tensor, " n"], rho: float) -> Bool[Tensor, " n"]:
    """Which pairs of a batch are noisy, given one uniform draw in [0, 1) for each pair.

    All rates threshold the same draws, so noisy sets are nested: a pair that is noisy at rho = .25 is also noisy at
    rho = .5.
    """
    return uniform < rho


def noisy_sides(noisy: Bool[Tensor, " n"], pairing: Pairing) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """Whether the first and the second image of each pair are the noisy partner.

    A clean pair is the clean image twice. A noisy pair is the clean image and the noisy partner, or with the pairing
    `exposure` the noisy partner twice.
    """
    return (noisy if pairing == "exposure" else torch.zeros_like(noisy)), noisy


def swap_sides(
    first: Bool[Tensor, " n"], second: Bool[Tensor, " n"], uniform: Float[Tensor, " n"]
) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """Exchange the two sides of each pair with probability one half.

    Either image of a pair can be "the input image I" (paper, III-B), so neither side is always the clean one.
    """
    exchange = uniform < 0.5
    return first.where(~exchange, second), second.where(~exchange, first)


def draw_partner(index: Int[Tensor, " n"], uniform: Float[Tensor, " n"], count: int) -> Int[Tensor, " n"]:
    """Draw a false positive for each indexed image: one of the other `count` - 1 images, all equally likely."""
    step = 1 + (uniform.double() * (count - 1)).long().clamp(max=count - 2)
    return (index + step) % count
