"""What describes VTS and augmentation in a recipe. No torch here: the command line reads it at once."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from datasets.errors import InputError

if TYPE_CHECKING:
    import torch

    from datasets.dataset import Dataset
    from datasets.source import Demands, Place
    from datasets.textures import TextureBank

SPLITS = ("train", "val", "test")

CLASSES = ("texture_a", "texture_b", "noise")
"""Downstream classes in label order. Named by their role, since the textures behind them are a setting."""

Pairing = Literal["noisy", "exposure", "irrelevant", "false_positive", "none"]
"""What a noisy pair holds. `noisy`: clean image with its noisy partner; `exposure`: two augmentations of the noisy
partner (mere exposure); `irrelevant`: as noisy, with noise that the downstream task never shows (paper, B3);
`false_positive`: two images that have nothing to do with each other; `none`: there are no noisy pairs."""

Task = Literal["segmentation", "classification"]
"""What the probe learns: a class for each pixel, or for each image."""

IGNORED = 255
"""Label of pixels that neither train nor count."""

TURNS: dict[Task, int] = {"segmentation": 8, "classification": 2}
"""Flips and rotations by 90 degrees that keep the classes: all where each pixel has its own; photographs have an up."""


def noisy_regions(nu: float, regions: int) -> int:
    """The number of regions that nu replaces, exactly.

    Raises:
        InputError: nu * regions is no whole number.
    """
    count = round(nu * regions)
    if abs(nu * regions - count) > 1e-6:
        steps = ", ".join(f"{k / regions:g}" for k in range(min(regions, 4) + 1))
        raise InputError(
            f"nu = {nu:g} is no multiple of 1/{regions} (the number of Voronoi regions): use one of "
            f"{steps}, ... 1, or change --data.regions"
        )
    return count


@dataclass(frozen=True, kw_only=True)
class VtsSettings:
    """The synthetic Voronoi-region texture segmentation set, VTS (paper, IV-B)."""

    pairings: ClassVar[tuple[Pairing, ...]] = ("noisy", "exposure", "irrelevant", "false_positive")
    has_nu: ClassVar[bool] = True
    task: ClassVar[Task] = "segmentation"
    extra_scores: ClassVar[tuple[str, ...]] = ()
    bands: ClassVar[int] = 3

    dataset: Annotated[Literal["vts"], tyro.conf.Suppress] = "vts"
    size: int = 256
    """Side of a scene, px."""
    regions: int = 20
    """Voronoi regions of a scene, half of them to each class; even."""
    train: int = 6000
    """Training scenes."""
    val: int = 3600
    """Validation scenes."""
    test: int = 2400
    """Test scenes."""
    textures: Annotated[Literal["procedural", "folder", "dtd"], tyro.conf.arg(aliases=("--textures",))] = "procedural"
    """Where texture images come from: made in memory, a folder's <category>/*.jpg|png, or DTD."""
    categories: tuple[str, ...] = ()
    """Texture categories of the first class, the second class, the noise and, for the pairing `irrelevant`, of noise
    that is no class downstream; empty: the source's own."""
    texture_scale: float = 1.0
    """Factor by which texture images from files are shrunk before a window is cut out of them."""
    downstream_noise: int = 7
    """Regions of each downstream image that show the noise texture, labelled as the third class."""

    def __post_init__(self) -> None:
        """Refuse what no scene can be made from."""
        if self.size < 8:
            raise InputError(f"--data.size {self.size}: a scene needs at least 8 px a side")
        if self.regions < 2 or self.regions % 2:
            raise InputError(
                f"--data.regions {self.regions}: half of the regions go to each class, so give an even number >= 2"
            )
        for split in SPLITS:
            if getattr(self, split) < 2:
                raise InputError(f"--data.{split} {getattr(self, split)}: at least 2 scenes are needed")
        if not 0 < self.downstream_noise < self.regions:
            raise InputError(
                f"--data.downstream-noise {self.downstream_noise}: must leave all three classes to be seen, so "
                f"1 to {self.regions - 1} of the {self.regions} regions"
            )
        if not 0 < self.texture_scale <= 1:
            raise InputError(f"--data.texture-scale {self.texture_scale}: must be in (0, 1]")
        if len(self.categories) not in (0, 3, 4):
            raise InputError(
                "--data.categories: three are needed (first class, second class, noise), or four with noise that is no "
                f"class downstream; {len(self.categories)} given"
            )
        if self.categories and self.textures != "folder":
            raise InputError("--data.categories: only a folder's categories can be chosen; add --data.textures folder")

    def check_nu(self, nu: float) -> None:
        """Refuse a per-image noise that no number of regions makes up.

        Raises:
            InputError: nu is no multiple of 1/regions.
        """
        noisy_regions(nu, self.regions)

    def check(self, source: "TextureBank", demands: "Demands") -> None:
        """Refuse a grid that scenes and textures cannot serve.

        Raises:
            InputError: a batch is larger than the training set, or irrelevant noise has no texture.
        """
        pretrain = max(demands.batch if demands.rho else 0, demands.supervised_batch)
        for flag, batch in (("pretrain", pretrain), ("probe", demands.probe_batch)):
            if batch > self.train:
                raise InputError(f"--{flag}.batch {batch} exceeds the {self.train} training scenes (--data.train)")
        if "irrelevant" in demands.pairings and len(source.categories) < 4:
            raise InputError(
                "--pairings irrelevant: the noise needs a fourth texture category, one that is no class downstream: "
                "name four with --data.categories"
            )

    def load(self, place: "Place") -> "TextureBank":
        """The texture images, read or made.

        Raises:
            InputError: as `load_textures`.
        """
        from datasets.textures import load_textures

        place.refuse("vts", ("store", "skip_bad"))
        if self.textures == "procedural":
            place.refuse("procedural textures (but for --data.textures folder)", ("root",))
        return load_textures(self, place.root, download=place.download)

    def open(self, source: "TextureBank", seed: int, device: "torch.device") -> "Dataset":
        """The scenes of a seed on a device."""
        from datasets.seeding import stream
        from datasets.vts import Vts

        return Vts(self, source, lambda purpose: stream(seed, purpose), device)


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
