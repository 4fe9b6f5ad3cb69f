"""The pairing rule: rho, nu and pairing decide which two images form a positive pair (paper, IV and V-C)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from datasets.types import Pairing


def choose_noisy(uniform: Float[Tensor, " n"], rho: float) -> Bool[Tensor, " n"]:
    """Which pairs of a batch are noisy, given one uniform draw in [0, 1) a pair.

    All rates threshold the same draws, so noisy sets are nested: a pair that is noisy at rho = .25 is noisy at rho = .5
    too.
    """
    return uniform < rho


def noisy_sides(noisy: Bool[Tensor, " n"], pairing: Pairing) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """Whether the first and the second image of each pair are the noisy partner.

    A pair that is not noisy has the clean image twice. A noisy one has clean and noisy, or with the pairing `exposure`
    the noisy partner twice.
    """
    return (noisy if pairing == "exposure" else torch.zeros_like(noisy)), noisy


def swap_sides(
    first: Bool[Tensor, " n"], second: Bool[Tensor, " n"], uniform: Float[Tensor, " n"]
) -> tuple[Bool[Tensor, " n"], Bool[Tensor, " n"]]:
    """Exchange the two sides of each pair with probability one half.

    Either image of a pair is "the input image I" in turn (paper, III-B): neither side is always the clean one.
    """
    exchange = uniform < 0.5
    return first.where(~exchange, second), second.where(~exchange, first)


def draw_partner(index: Int[Tensor, " n"], uniform: Float[Tensor, " n"], count: int) -> Int[Tensor, " n"]:
    """For each of the indexed images another one of `count`, all others equally likely: a false positive's partner."""
    step = 1 + (uniform.double() * (count - 1)).long().clamp(max=count - 2)
    return (index + step) % count
