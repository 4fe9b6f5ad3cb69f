"""How views are augmented: the settings, and the two lists of the paper. No torch here."""

import math
from typing import Annotated

from pydantic import Field

from datasets.errors import InputError
from datasets.settings import Share, settings

Factor = Annotated[float, Field(ge=0, le=10)]


@settings("augment")
class Augment:
    """How views are augmented, in this order. The defaults are the list of the xView2 winner.

    Probabilities are per image. Images are extended by reflection at their borders.
    """

    flip: Share = 0.5
    """Probability of a horizontal flip."""
    vertical: Share = 0.0
    """Probability of a vertical flip."""
    rot90: Share = 0.95
    """Probability of a rotation by 0, 90, 180 or 270 degrees."""
    shift: Share = 0.1
    """Probability of a shift."""
    max_shift: Share = 0.3125
    """Largest shift in either direction, horizontally and vertically, as a share of the image's side."""
    rotate: Share = 0.4
    """Probability of a small rotation and zoom around the centre."""
    degrees: Annotated[float, Field(ge=0, le=180)] = 10.0
    """Largest small rotation in either direction, in degrees."""
    zoom: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    """Largest zoom: scales from 1 - zoom to 1 + zoom."""
    crop: Share = 0.8
    """Probability of a crop, resized to the image's size."""
    crop_low: Annotated[float, Field(ge=0.01, le=2)] = 0.85
    """Side of the smallest crop relative to the image's. Crop areas are uniform from crop_low^2 to crop_high^2."""
    crop_high: Annotated[float, Field(ge=0.01, le=2)] = 1.15
    """Side of the largest crop relative to the image's. Above 1, the image shrinks."""
    aspect: Annotated[float, Field(ge=1, le=10)] = 1.0
    """Largest aspect ratio of a crop, log-uniform; 1: square crops."""
    jitter: Share = 0.1
    """Probability of a change of brightness, contrast, saturation and hue, in this order."""
    brightness: Factor = 0.1
    """The brightness factor is between 1 - brightness (at least 0) and 1 + brightness."""
    contrast: Factor = 0.1
    """The same for contrast."""
    saturation: Factor = 0.1
    """The same for saturation."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.028
    """Largest hue shift in either direction, as a share of the colour circle."""
    grey: Share = 0.0
    """Probability of conversion to greyscale."""
    blur: Share = 0.05
    """Probability of a Gaussian blur."""
    sigma_low: Annotated[float, Field(ge=0.001, le=100)] = 0.1
    """Smallest standard deviation of the blur, in px of a 224-px image; scaled to the size of the image."""
    sigma_high: Annotated[float, Field(ge=0.001, le=100)] = 0.4
    """Largest standard deviation of the blur, in the same unit."""

    def __post_init__(self) -> None:
        """Refuse empty ranges."""
        for name in ("crop", "sigma"):
            low, high = getattr(self, f"{name}_low"), getattr(self, f"{name}_high")
            if high < low:
                raise InputError(f"--augment.{name}-high {high:g}: should be --augment.{name}-low ({low:g}) or more")


XVIEW2 = Augment()
"""The mild list that the xView2 winner used for xBD. Ours differs: it rotates around the centre, has one probability
for all colour changes and a Gaussian blur instead of a 3x3 mean at 512 px, and lacks channel shift and noise."""


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
"""MoCo v2's augmentation (Chen et al. 2020; `--aug-plus` in
https://github.com/facebookresearch/moco/blob/main/main_moco.py). Ours changes colours in a fixed order, and cuts a crop
that is too long to the image, where torchvision draws another."""
