"""Colour changes of a batch with a factor for each image.

The formulas are those of `torchvision.transforms.v2.functional`, which has only one factor per call. Images are in
[0, 1], and results are clamped to it. Unless there are three bands, their mean is the luma, and hue is undefined. Every
function returns a new tensor of the same dtype; factors are on the device of the images.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_LUMA = (0.2989, 0.587, 0.114)


def luma(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    """Brightness of each pixel by ITU-R 601-2 with the rounded weights of torchvision; if not RGB, the mean."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    red, green, blue = images.split(1, dim=1)
    return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])


def brightness(images: Float[Tensor, "n c h w"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """`adjust_brightness`: images x factor, factor >= 0."""
    return (images * factor[:, None, None, None]).clamp_(0, 1)


def contrast(images: Float[Tensor, "n c h w"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """`adjust_contrast`: from the mean luma of the image (factor 0) to the image (1) and beyond; factor >= 0."""
    # The mean of the luma is the luma of the means, which saves a pass over the pixels.
    mean = luma(images.mean(dim=(2, 3), keepdim=True))
    return torch.lerp(mean, images, factor[:, None, None, None]).clamp_(0, 1)


def saturation(images: Float[Tensor, "n c h w"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """`adjust_saturation`: from the luma of each pixel (factor 0) to its colour (1) and beyond; factor >= 0."""
    return torch.lerp(luma(images), images, factor[:, None, None, None]).clamp_(0, 1)


def hue(images: Float[Tensor, "n 3 h w"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n 3 h w"]:
    """`adjust_hue`: rotate the hue of HSV by `factor` of the colour circle, -0.5 to 0.5; value and saturation stay.

    With chroma = high - low, the largest and smallest channel of a pixel, and hue t in sixths of the circle:

        red = low + chroma clamp(|t - 3| - 1, 0, 1)
        green = low + chroma clamp(2 - |t - 2|, 0, 1)
        blue = low + chroma clamp(2 - |t - 4|, 0, 1)
    """
    red, green, blue = images.unbind(dim=1)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    # Chroma x angle from red, 0 to 3 sixths: one formula for the three cases of HSV (which channel is largest). The
    # direction is the sign of green - blue. torch.where for the cases would double the time.
    angle = (high - red).add_(green).add_(blue).sub_(low, alpha=2)
    sixths = angle.div_(chroma.clamp(min=torch.finfo(images.dtype).tiny)).copysign_(green - blue)
    # At least -3 / 6 - 1 / 2, so adding 1 makes all positive, and the fraction is in [0, 1).
    sixths = sixths.div_(6).add_(factor[:, None, None] + 1).frac_().mul_(6)
    waves = (
        (sixths - 3).abs_().sub_(1),
        (sixths - 2).abs_().neg_().add_(2),
        (sixths - 4).abs_().neg_().add_(2),
    )
    return torch.stack([torch.addcmul(low, chroma, wave.clamp_(0, 1)) for wave in waves], dim=1)


NEUTRAL = (1.0, 1.0, 1.0, 0.0)
"""Factors of `jitter` without effect, in its order."""


def jitter(
    images: Float[Tensor, "n c h w"],
    brightness_factor: Float[Tensor, " n"] | None,
    contrast_factor: Float[Tensor, " n"] | None,
    saturation_factor: Float[Tensor, " n"] | None,
    hue_factor: Float[Tensor, " n"] | None,
) -> Float[Tensor, "n c h w"]:
    """Change brightness, contrast, saturation, hue, always in this order (ColorJitter of torchvision shuffles it).

    A change whose factor is None is skipped.
    """
    factors = (brightness_factor, contrast_factor, saturation_factor, hue_factor)
    for change, factor in zip((brightness, contrast, saturation, hue), factors, strict=True):
        images = images if factor is None else change(images, factor)
    return images


def grey(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """`rgb_to_grayscale` with equal channels."""
    return luma(images).expand_as(images).contiguous()


def blur(images: Float[Tensor, "n c h w"], sigma: Float[Tensor, " n"], *, radius: int) -> Float[Tensor, "n c h w"]:
    """`gaussian_blur` with kernel size 2 radius + 1 and reflected borders.

    Args:
        images: (n, 3, h, w), both sides larger than `radius`.
        sigma: standard deviation of the kernel of each image in px, above 0.
        radius: of the kernel in px, the same for all images.
    """
    distance = torch.arange(radius + 1, device=images.device, dtype=images.dtype)
    taps = (-0.5 * (distance / sigma[:, None]) ** 2).exp_()
    taps = taps / (2 * taps.sum(dim=1, keepdim=True) - taps[:, :1])
    padded = F.pad(images, (radius, radius, radius, radius), mode="reflect")
    return _smooth(_smooth(padded, taps, dim=2), taps, dim=3)


def _smooth(
    padded: Float[Tensor, "n c h w"], taps: Float[Tensor, "n reach"], *, dim: int
) -> Float[Tensor, "n c h2 w2"]:
    """Convolve along one axis with symmetric kernels, given from the middle outwards.

    This sums shifted images: a grouped convolution with n x 3 groups takes twice as long on a CPU.
    """
    radius = taps.shape[1] - 1
    size = padded.shape[dim] - 2 * radius
    weight = taps.T[:, :, None, None, None]
    total = padded.narrow(dim, radius, size) * weight[0]
    for reach in range(1, radius + 1):
        both = padded.narrow(dim, radius - reach, size) + padded.narrow(dim, radius + reach, size)
        total.addcmul_(both, weight[reach])
    return total
