"""How views are augmented: settings, and the two lists of the paper. No torch here."""

import math
from dataclasses import dataclass

from datasets.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Augment:
    """How views are augmented, in this order; the defaults are `XVIEW2`.

    Probabilities are per image; beyond its border an image is reflected.
    """

    flip: float = 0.5
    """Probability of a horizontal flip."""
    vertical: float = 0.0
    """Probability of a vertical flip."""
    rot90: float = 0.95
    """Probability of a rotation by 0, 90, 180 or 270 degrees."""
    shift: float = 0.1
    """Probability of a shift."""
    max_shift: float = 0.3125
    """Largest shift, right or left and up or down, as share of the image's side."""
    rotate: float = 0.4
    """Probability of a small rotation and zoom about the centre."""
    degrees: float = 10.0
    """Largest small rotation either way, in degrees."""
    zoom: float = 0.1
    """Largest zoom: scales from 1 - zoom to 1 + zoom."""
    crop: float = 0.8
    """Probability of a crop, resized to the image's size."""
    crop_low: float = 0.85
    """Side of the smallest crop relative to the image's; areas are uniform from crop_low^2 to crop_high^2."""
    crop_high: float = 1.15
    """Side of the largest crop relative to the image's; above 1 the image shrinks."""
    aspect: float = 1.0
    """Largest ratio of a crop's sides, uniform in its logarithm; 1: square crops."""
    jitter: float = 0.1
    """Probability that brightness, contrast, saturation and hue change, in this order."""
    brightness: float = 0.1
    """Brightness factor from 1 - brightness (not below 0) to 1 + brightness."""
    contrast: float = 0.1
    """Contrast factor likewise."""
    saturation: float = 0.1
    """Saturation factor likewise."""
    hue: float = 0.028
    """Largest turn of the hue either way, as share of the colour circle."""
    grey: float = 0.0
    """Probability that the image becomes grey."""
    blur: float = 0.05
    """Probability of a Gaussian blur."""
    sigma_low: float = 0.1
    """Least standard deviation of the blur in px of an image of 224 px a side; scaled to the image's size."""
    sigma_high: float = 0.4
    """Largest standard deviation of the blur, likewise."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        for name in ("flip", "vertical", "rot90", "shift", "rotate", "crop", "jitter", "grey", "blur"):
            self._within(name, 0, 1)
        self._within("max_shift", 0, 1)
        self._within("degrees", 0, 180)
        self._within("zoom", 0, 0.9)
        self._within("crop_low", 0.01, 2)
        self._within("crop_high", self.crop_low, 2)
        self._within("aspect", 1, 10)
        for name in ("brightness", "contrast", "saturation"):
            self._within(name, 0, 10)
        self._within("hue", 0, 0.5)
        self._within("sigma_low", 0.001, 100)
        self._within("sigma_high", self.sigma_low, 100)

    def _within(self, name: str, low: float, high: float) -> None:
        value = getattr(self, name)
        if not low <= value <= high:  # so written, NaN is refused too
            flag = name.replace("_", "-")
            raise InputError(f"--augment.{flag} {value:g}: must be from {low:g} to {high:g}")


XVIEW2 = Augment()
"""The xView2 winner's mild list for xBD. Ours: rotations about the centre, one probability for all colours,
a Gaussian in place of its 3x3 mean at 512 px; neither channel shift nor noise."""


MOCO_V2 = Augment(
    rot90=0.0,
    shift=0.0,
    rotate=0.0,
    crop=1.0,
    crop_low=math.sqrt(0.2),
    crop_high=1.0,
    aspect=4 / 3,
    jitter=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    grey=0.2,
    blur=0.5,
    sigma_high=2.0,
)
"""MoCo v2's aug-plus (Chen et al. 2020; `--aug-plus` of facebookresearch/moco). Ours: colours in a fixed
order; a crop that its aspect makes too long is cut to the image (torchvision draws another)."""
