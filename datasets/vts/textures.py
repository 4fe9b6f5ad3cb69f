"""Texture images of three or four categories: the embedded procedural ones, a folder of one's own, or DTD."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from datasets.errors import InputError
from datasets.vts import photos, procedural
from datasets.vts.config import CLASSES, VtsSettings
from datasets.vts.photos import Pixels, check_image_count

DTD_CATEGORIES = ("stratified", "veined", "matted", "dotted")  # first class, second class, noise, irrelevant noise
DTD_ARCHIVE = "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz"
Numbers = Int64[np.ndarray, " _"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TextureBank:
    """All texture images of three or four categories, packed flat: the pixels of all images, row after row.

    Flat arrays because the images differ in size and a sampler gathers from all of them at once. Made by
    `pack`; images of one category are consecutive.
    """

    source: str  # 'procedural', 'folder' or 'dtd'
    categories: tuple[str, ...]  # first class, second class, noise; a fourth is noise that is no class downstream
    pixels: UInt8[np.ndarray, "total 3"]
    offset: Int64[np.ndarray, " images"]  # row of `pixels` where image m starts
    height: Int64[np.ndarray, " images"]
    width: Int64[np.ndarray, " images"]
    category: Int64[np.ndarray, " images"]  # index into `categories`
    enlarged: int  # how many images were smaller than needed and resized up
    fingerprint: str  # 16 hex digits of blake2b over category names, shapes and pixels

    def __post_init__(self) -> None:
        if len(set(self.categories)) != len(self.categories):
            raise InputError(f"texture categories {self.categories} repeat a name; give different ones")
        if int((self.height * self.width).sum()) != len(self.pixels):
            raise ValueError(f"{len(self.pixels)} rows of pixels do not make up the images' heights and widths")

    @property
    def classes(self) -> tuple[str, ...]:
        """Downstream classes, by their role."""
        return CLASSES

    @property
    def title(self) -> str:
        """Source and categories of the textures."""
        return f"{self.source} textures ({', '.join(self.categories)})"

    @property
    def notes(self) -> tuple[str, ...]:
        """Limits of what results mean, and how images were changed."""
        notes = []
        if self.source == "folder":
            notes.append("these are not DTD's images: results on them are not results on DTD")
        if self.enlarged:
            notes.append(f"{self.enlarged} texture images were smaller than a scene and have been resized up")
        return tuple(notes)

    @property
    def files(self) -> tuple[Path, ...]:
        """None: the pixels travel to the workers."""
        return ()

    def image(self, m: int) -> Pixels:
        """Return image number m, a view of `pixels`."""
        height, width, start = int(self.height[m]), int(self.width[m]), int(self.offset[m])
        return self.pixels[start : start + height * width].reshape(height, width, 3)


def pack(
    source: str,
    categories: tuple[str, ...],
    images_by_category: Sequence[Sequence[Pixels]],
    enlarged: int = 0,
) -> TextureBank:
    """Pack three or four lists of RGB images (height, width, 3), in the order of `categories`, into a bank.

    Raises:
        InputError: another number of lists, a category name twice, or a category with fewer than four images.
    """
    if len(images_by_category) not in (3, 4):
        raise InputError(f"a texture bank needs images of 3 or 4 categories, not {len(images_by_category)}")
    for name, images in zip(categories, images_by_category, strict=True):
        check_image_count(name, len(images))
    images = [image for of_one in images_by_category for image in of_one]
    counts = [len(of_one) for of_one in images_by_category]
    category = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    height, width = (np.array([image.shape[axis] for image in images], np.int64) for axis in (0, 1))
    pixels = np.concatenate([image.reshape(-1, 3) for image in images])
    digest = hashlib.blake2b(digest_size=8)
    digest.update("\0".join(categories).encode())
    digest.update(np.stack([category, height, width]).astype("<i8").tobytes())
    digest.update(pixels.data)
    return TextureBank(
        source=source,
        categories=categories,
        pixels=pixels,
        offset=np.concatenate([[0], np.cumsum(height * width)[:-1]]).astype(np.int64),
        height=height,
        width=width,
        category=category,
        enlarged=enlarged,
        fingerprint=digest.hexdigest(),
    )


def load_textures(settings: VtsSettings, root: Path | None, *, download: bool = False) -> TextureBank:
    """The texture images that the settings name, ready for scenes of the settings' size.

    Args:
        settings: which source, which categories, which scale.
        root: folder of a folder or of DTD.
        download: let torchvision download DTD into `root`; nothing is downloaded otherwise.

    Raises:
        InputError: no root was given where one is needed, or what lies there cannot be used.
    """
    if settings.textures == "procedural":
        return make_procedural(settings.size)
    if root is None:
        raise InputError(f"--data.textures {settings.textures}: say where the images lie with --data-root FOLDER")
    if settings.textures == "dtd":
        return load_dtd(root, min_side=settings.size, scale=settings.texture_scale, download=download)
    return load_folder(root, settings.categories, min_side=settings.size, scale=settings.texture_scale)


def make_procedural(size: int, count: int = 120) -> TextureBank:
    """Make the embedded textures, `count` a category, of side round(1.5 * size) for scenes of `size` pixels.

    Raises:
        InputError: a count under four, or a size under 32.
    """
    for name in procedural.CATEGORIES:
        check_image_count(name, count)
    pixels = procedural.cached_textures(size, count)
    return pack("procedural", procedural.CATEGORIES, [list(images) for images in pixels])


def load_folder(root: str | Path, categories: tuple[str, ...], *, min_side: int, scale: float = 1.0) -> TextureBank:
    """Load `<root>/<category>/*.{jpg,jpeg,png}` (any case), sorted by name.

    Grey, palette and 16-bit images become 8-bit RGB, transparency is dropped, EXIF rotation applied. Each
    image is shrunk by `scale` (antialiased); then one whose short side is under `min_side` pixels is resized
    up (bicubic) so that it is `min_side`, and counted in `enlarged`.

    Args:
        root: the folder that holds one subfolder for each category.
        categories: names of first class, second class, noise and, where it is wanted, noise that is no class
            downstream; empty takes the three or four subfolders, sorted.
        min_side: pixels the short side of each image must have, the scene's side.
        scale: factor in (0, 1].

    Raises:
        InputError: a missing folder or category, fewer than four images in one, unreadable or too large
            files, `min_side` or `scale` out of range.
    """
    return pack("folder", *photos.read_categories(Path(root), categories, min_side=min_side, scale=scale))


def load_dtd(root: str | Path, *, min_side: int, scale: float = 1.0, download: bool = False) -> TextureBank:
    """Load `stratified`, `veined`, `matted` and `dotted` of DTD (Cimpoi et al., 2014) from torchvision's layout.

    That is `<root>/dtd/dtd/images/<category>/*.jpg`. Nothing is downloaded unless `download` is true (about
    600 MB) and the images are absent. `min_side` and `scale` are those of `load_folder`.

    Raises:
        InputError: the images are absent or the download fails; also whatever `load_folder` refuses.
    """
    images = Path(root) / "dtd" / "dtd" / "images"
    if not images.is_dir() and download:
        from torchvision.datasets import DTD  # here, because nothing else in this file needs torch

        try:
            DTD(str(root), download=True)
        except (OSError, RuntimeError, EOFError) as error:
            raise InputError(
                f"the download of DTD from {DTD_ARCHIVE} to {root} failed ({photos.error_line(error)}); try again, or "
                f"fetch that archive yourself and unpack it so that {images} exists"
            ) from error
    if not images.is_dir():
        raise InputError(
            f"DTD's images are not at {images}; either let them be downloaded with --download, or fetch "
            f"{DTD_ARCHIVE} and unpack it in {images.parents[1]}"
        )
    return pack("dtd", *photos.read_categories(images, DTD_CATEGORIES, min_side=min_side, scale=scale))


def split_images(bank: TextureBank, generator: np.random.Generator) -> dict[str, tuple[Numbers, ...]]:
    """Split each category's images .5/.3/.2 after a random permutation: 60/36/24 of 120.

    Returns:
        'train', 'val' and 'test', each with one array of image numbers m for each category.

    Raises:
        InputError: a category has fewer than four images.
    """
    parts: dict[str, list[np.ndarray]] = {"train": [], "val": [], "test": []}
    for index, name in enumerate(bank.categories):
        members = generator.permutation(np.flatnonzero(bank.category == index).astype(np.int64))
        check_image_count(name, len(members))
        train = round(0.5 * len(members))
        val = train + round(0.3 * len(members))
        for part, chosen in zip(parts, np.split(members, [train, val]), strict=True):
            parts[part].append(chosen)
    return {part: tuple(numbers) for part, numbers in parts.items()}
