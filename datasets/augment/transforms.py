"""Augments a batch: every image has its own parameters, and labels follow the geometry.

`draw` draws the parameters on the CPU from a generator; `apply` uses them on the device of the images.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, overload

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from datasets.augment import color
from datasets.augment.config import Augment
from datasets.transfer import send

Labels = Integer[Tensor, "n h w"] | Integer[Tensor, " n"]
"""Classes of pixels, or of whole images."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Parameters:
    """Parameters of n images; on the CPU, where reading them does not wait for a GPU."""

    affine: Float[Tensor, "n 2 3"]
    """From positions in the view to positions in the image, (x, y) in [-1, 1] as in `grid_sample`."""
    jitter: Bool[Tensor, " n"]
    """Whether the next four are used."""
    brightness: Float[Tensor, " n"]
    contrast: Float[Tensor, " n"]
    saturation: Float[Tensor, " n"]
    hue: Float[Tensor, " n"]
    grey: Bool[Tensor, " n"]
    blur: Bool[Tensor, " n"]
    """Whether sigma is used."""
    sigma: Float[Tensor, " n"]
    """In px."""
    radius: int
    """Radius of the kernel of the blur, px."""


_DRAWS = (
    *("flip", "vertical", "rot90", "quarters", "shift", "shift x", "shift y", "rotate", "degrees", "zoom"),
    *("crop", "crop side", "crop aspect", "crop x", "crop y"),
    *("jitter", "brightness", "contrast", "saturation", "hue", "grey", "blur", "sigma"),
)


def draw(recipe: Augment, count: int, size: int, generator: torch.Generator) -> Parameters:
    """Draw parameters for `count` square images of side `size` px.

    This always takes len(_DRAWS) x count uniform numbers from the (CPU) generator, so that its state afterwards is the
    same for all recipes.
    """
    uniform = dict(zip(_DRAWS, torch.rand(len(_DRAWS), count, generator=generator), strict=True))
    pixels = size / 224
    return Parameters(
        affine=_draw_geometry(recipe, uniform),
        jitter=uniform["jitter"] < recipe.jitter,
        brightness=_between(uniform["brightness"], max(0.0, 1 - recipe.brightness), 1 + recipe.brightness),
        contrast=_between(uniform["contrast"], max(0.0, 1 - recipe.contrast), 1 + recipe.contrast),
        saturation=_between(uniform["saturation"], max(0.0, 1 - recipe.saturation), 1 + recipe.saturation),
        hue=_between(uniform["hue"], -recipe.hue, recipe.hue),
        grey=uniform["grey"] < recipe.grey,
        blur=uniform["blur"] < recipe.blur,
        sigma=_between(uniform["sigma"], recipe.sigma_low * pixels, recipe.sigma_high * pixels),
        # Three standard deviations contain 99.7 % of a Gaussian; a reflected border must be smaller than the image.
        radius=min(math.ceil(3 * recipe.sigma_high * pixels), size - 1),
    )


def _between(uniform: Float[Tensor, "..."], low: float, high: float) -> Float[Tensor, "..."]:
    """Stretch uniform numbers in [0, 1) to [low, high)."""
    return low + (high - low) * uniform


def _draw_geometry(recipe: Augment, uniform: dict[str, Tensor]) -> Float[Tensor, "n 2 3"]:
    """Turn uniform numbers into one affine map per image."""
    shift = torch.stack([uniform["shift x"], uniform["shift y"]], dim=1)
    shifted = (uniform["shift"] < recipe.shift)[:, None]
    rotated = uniform["rotate"] < recipe.rotate
    cropped = (uniform["crop"] < recipe.crop)[:, None]
    side = _between(uniform["crop side"], recipe.crop_low**2, recipe.crop_high**2).sqrt()
    stretch = (_between(uniform["crop aspect"], -0.5, 0.5) * math.log(recipe.aspect)).exp()
    sides = torch.stack([side * stretch, side / stretch], dim=1).clamp(max=recipe.crop_high)
    # A crop is inside the image; a larger one contains the image.
    place = torch.stack([uniform["crop x"], uniform["crop y"]], dim=1)
    centre = _between(place, -0.5, 0.5) * (1 - sides).abs()
    return geometry(
        flip=uniform["flip"] < recipe.flip,
        vertical=uniform["vertical"] < recipe.vertical,
        quarters=(4 * uniform["quarters"]).long() * (uniform["rot90"] < recipe.rot90),
        shift=_between(shift, -recipe.max_shift, recipe.max_shift) * shifted,
        degrees=_between(uniform["degrees"], -recipe.degrees, recipe.degrees) * rotated,
        scale=torch.where(rotated, _between(uniform["zoom"], 1 - recipe.zoom, 1 + recipe.zoom), 1.0),
        crop_centre=centre * cropped,
        crop_sides=torch.where(cropped, sides, 1.0),
    )


def geometry(  # noqa: PLR0913  pure mathematics
    *,
    flip: Bool[Tensor, " n"],
    vertical: Bool[Tensor, " n"],
    quarters: Int[Tensor, " n"],
    shift: Float[Tensor, "n 2"],
    degrees: Float[Tensor, " n"],
    scale: Float[Tensor, " n"],
    crop_centre: Float[Tensor, "n 2"],
    crop_sides: Float[Tensor, "n 2"],
) -> Float[Tensor, "n 2 3"]:
    """The maps, from view to image, that flip, turn, shift, rotate and crop a square image, in this order.

    Args:
        flip: mirror left and right.
        vertical: mirror top and bottom.
        quarters: rotations by 90 degrees counter-clockwise, 0 to 3.
        shift: of the image (right, down), as share of the side.
        degrees: small rotation about the centre, counter-clockwise.
        scale: zoom about the centre; above 1 enlarges.
        crop_centre: centre of the crop (right, down) from the centre of the image, as share of the side.
        crop_sides: width and height of the crop, as share of the side.
    """
    # Tables, because cos(pi / 2) is not 0 in floating point, and flips and quarter turns must be exact.
    cosine, sine = torch.tensor([[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0]])[:, quarters]
    mirror = 1 - 2 * torch.stack([flip, vertical], dim=1).float()
    turn = mirror[:, :, None] * _rotation(cosine, sine)
    radians = degrees.deg2rad()
    tilt = _rotation(radians.cos(), radians.sin()) / scale[:, None, None]
    offset = turn @ (tilt @ (2 * crop_centre)[:, :, None] - 2 * shift[:, :, None])
    return torch.cat([turn @ tilt * crop_sides[:, None, :], offset], dim=2)


def _rotation(cosine: Float[Tensor, " n"], sine: Float[Tensor, " n"]) -> Float[Tensor, "n 2 2"]:
    """Map positions in a view that is rotated counter-clockwise to positions in the image (y points down)."""
    return torch.stack([cosine, -sine, sine, cosine], dim=1).view(-1, 2, 2)


@overload
def apply(images: Tensor, labels: Tensor, parameters: Parameters) -> tuple[Tensor, Tensor]: ...
@overload
def apply(images: Tensor, labels: None, parameters: Parameters) -> tuple[Tensor, None]: ...
def apply(
    images: Float[Tensor, "n c h w"], labels: Labels | None, parameters: Parameters
) -> tuple[Float[Tensor, "n c h w"], Labels | None]:
    """Augment images in [0, 1] and their labels; returns new tensors of the same dtype on the same device.

    The order is geometry, colour jitter, grey, blur. An image without any change is returned bit for bit.
    """
    return augmented(images, labels, parameters.radius, *send(images.device, *plan(parameters, images.dtype)))


def plan(parameters: Parameters, dtype: torch.dtype = torch.float32) -> list[Tensor | None]:
    """What `augmented` needs: the maps; then for each change the images that it changes, and their factors.

    The images are chosen on the CPU, where this does not wait for a GPU. A factor without effect is None.
    """
    jittered, greyed, blurred = (
        which.nonzero()[:, 0] for which in (parameters.jitter, parameters.grey, parameters.blur)
    )
    factors = [None if factor is None else factor[jittered].to(dtype) for factor in used_factors(parameters)]
    affine, sigma = parameters.affine.to(dtype), parameters.sigma[blurred].to(dtype)
    return [affine, _still(parameters.affine), jittered, *factors, greyed, blurred, sigma]


def used_factors(parameters: Parameters) -> list[Float[Tensor, " n"] | None]:
    """The four factors of the jitter; None if one changes no image."""
    factors = (parameters.brightness, parameters.contrast, parameters.saturation, parameters.hue)
    return [
        factor if (factor != neutral).any() else None for factor, neutral in zip(factors, color.NEUTRAL, strict=True)
    ]


def augmented(images: Tensor, labels: Tensor | None, radius: int, *numbers: Any) -> tuple[Tensor, Tensor | None]:
    """Change the images that were drawn, by a `plan` on their device."""
    affine, still, jittered, *factors, greyed, blurred, sigma = numbers
    images, labels = _warp(images, labels, affine, still)
    _change(images, jittered, color.jitter, *factors)
    _change(images, greyed, color.grey)
    _change(images, blurred, partial(color.blur, radius=radius), sigma)
    return images, labels


_BLOCK = 2**17  # numbers that a CPU changes at once: temporaries that fit the cache are 1.3 to 4 times faster


def _change(images: Tensor, chosen: Tensor, change: Callable[..., Tensor], *factors: Tensor | None) -> None:
    """Replace the chosen images by change(images, *factors), in place."""
    size = max(1, len(chosen) if images.is_cuda else _BLOCK // images[0].numel())
    for start in range(0, len(chosen), size):
        part = slice(start, start + size)
        index = chosen[part]
        images.index_copy_(0, index, change(images[index], *(None if one is None else one[part] for one in factors)))


def warp(
    images: Float[Tensor, "n c h w"], labels: Labels | None, affine: Float[Tensor, "n 2 3"]
) -> tuple[Float[Tensor, "n c h w"], Labels | None]:
    """Sample images (bilinear) and labels (nearest) with the same maps; borders are reflected.

    Args:
        images: (n, 3, h, w).
        labels: (n, h, w), at most 2^24 in magnitude (they pass through float32); (n,), which stay; or None.
        affine: (n, 2, 3) from view to image, in [-1, 1] as in `grid_sample` with align_corners=False; best on the CPU,
            where reading it does not wait for a GPU. The identity returns an image bit for bit.
    """
    device = images.device
    return _warp(images, labels, affine.to(device, images.dtype), _still(affine).to(device))


def is_still(affine: Float[Tensor, "n 2 3"]) -> Bool[Tensor, " n"]:
    """Which maps leave their image as it is."""
    return (affine == torch.eye(2, 3, device=affine.device)).all(dim=2).all(dim=1)


def _still(affine: Float[Tensor, "n 2 3"]) -> Int[Tensor, " m"]:
    """The images that stay as they are."""
    return is_still(affine).nonzero()[:, 0]


def _warp(
    images: Float[Tensor, "n c h w"],
    labels: Labels | None,
    affine: Float[Tensor, "n 2 3"],
    still: Int[Tensor, " m"],
) -> tuple[Float[Tensor, "n c h w"], Labels | None]:
    """`warp` with everything on the device of the images."""
    warped, picked = sample(images, labels, affine)
    warped.index_copy_(0, still, images[still])
    return warped, picked


def sample(
    images: Float[Tensor, "n c h w"], labels: Labels | None, affine: Float[Tensor, "n 2 3"]
) -> tuple[Float[Tensor, "n c h w"], Labels | None]:
    """`warp`, but the identity returns an image only up to rounding."""
    where = places(affine, *images.shape[2:])
    warped = F.grid_sample(images, where, padding_mode="reflection", align_corners=False)
    if labels is None or labels.ndim == 1:
        return warped, labels
    values = labels[:, None].to(images.dtype)
    picked = F.grid_sample(values, where, mode="nearest", padding_mode="reflection", align_corners=False)
    return warped, picked[:, 0].to(labels.dtype)


def places(affine: Float[Tensor, "n 2 3"], height: int, width: int) -> Float[Tensor, "n h w 2"]:
    """The position in the image of each pixel of a view, (x, y) in [-1, 1]: `affine_grid` with less rounding."""
    x = (2 * torch.arange(width, device=affine.device, dtype=affine.dtype) + 1) / width - 1
    y = (2 * torch.arange(height, device=affine.device, dtype=affine.dtype) + 1) / height - 1
    across, down, offset = affine[:, None, None].unbind(dim=-1)
    return across * x[:, None] + (down * y[:, None, None] + offset)
