"""The pairing rule: rho, nu and pairing decide which two images form a positive pair (paper, IV and V-C)."""

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from datasets.augment import transforms
from datasets.misregistration import Misregistration
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


_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))  # right, left, down, up
PLACES = 4 * len(_DIRECTIONS)
"""In how many equally likely ways a partner is displaced: four shifts, two turns, two scales."""


def displacements(
    amount: Misregistration, uniform: Float[Tensor, " n"], displaced: Bool[Tensor, " n"], side: int
) -> Float[Tensor, "n 2 3"]:
    """The maps for `displace`: the identity for images that stay, else one of `PLACES`, which `uniform` selects.

    The directions of the shift are those of rows and columns, so that a shift by whole pixels resamples nothing.

    Args:
        amount: of the shift, the turn and the scale.
        uniform: one draw in [0, 1) for each image.
        displaced: the images that are displaced.
        side: of the images, px.
    """
    which = (PLACES * uniform).long()
    either = 1 - 2 * torch.stack([which // 4 % 2, which // 8]).float()
    nothing = torch.zeros_like(which)
    maps = transforms.geometry(
        flip=nothing.bool(),
        vertical=nothing.bool(),
        quarters=nothing,
        shift=torch.tensor(_DIRECTIONS)[which % 4] * amount.shift / side,
        degrees=amount.turn * either[0],
        scale=1 + amount.scale / 100 * either[1],
        crop_centre=torch.zeros(len(which), 2),
        crop_sides=torch.ones(len(which), 2),
    )
    return maps.where(displaced[:, None, None], torch.eye(2, 3))


def displace(images: Float[Tensor, "n c h w"], maps: Float[Tensor, "n 2 3"]) -> Float[Tensor, "n c h w"]:
    """Images in [0, 1] shifted, turned or scaled, and reflected at their border; one that stays is the same in bits."""
    moved = transforms.sample(images, None, maps)[0].clamp_(0, 1)  # interpolation rounds beyond
    return images.where(transforms.is_still(maps)[:, None, None, None], moved)


def displace_labels(labels: UInt8[Tensor, "n h w"], maps: Float[Tensor, "n 2 3"]) -> UInt8[Tensor, "n h w"]:
    """The labels of what `displace` shows."""
    moved = transforms.sample(labels[:, None].float(), labels, maps)[1]
    assert moved is not None
    return labels.where(transforms.is_still(maps)[:, None, None], moved)
