"""Loads texture images of three or four categories: procedural ones, those of a folder, or DTD."""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from datasets.errors import InputError
from datasets.vts import photos, procedural
from datasets.vts.config import CLASSES, FAMILIES, VtsSettings
from datasets.vts.photos import Pixels, check_image_count

DTD_IMAGES = 120
"""In each category of DTD."""
DTD_ARCHIVE = "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz"
Numbers = Int64[np.ndarray, " _"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TextureBank:
    """All texture images of three or four categories as one flat array of pixels, made by `pack`.

    The array is flat because images differ in size, and rendering gathers from all of them at once. Images of one
    category are consecutive.
    """

    source: str  # 'procedural', 'folder' or 'dtd'
    categories: tuple[str, ...]  # first class, second class, noise; a fourth is noise that is no downstream class
    pixels: UInt8[np.ndarray, "total 3"]
    offset: Int64[np.ndarray, " images"]  # row of `pixels` where image m starts
    height: Int64[np.ndarray, " images"]
    width: Int64[np.ndarray, " images"]
    category: Int64[np.ndarray, " images"]  # index into `categories`
    enlarged: int  # number of images that were smaller than needed and were enlarged
    fingerprint: str  # 16 hex digits of blake2b over category names, shapes and pixels
    unread: tuple[str, ...] = ()  # at most one line, on images of the folder that were not read

    def __post_init__(self) -> None:
        if len(set(self.categories)) != len(self.categories):
            raise InputError(f"texture categories {self.categories} repeat a name; names must differ")
        if int((self.height * self.width).sum()) != len(self.pixels):
            raise ValueError(f"{len(self.pixels)} rows of pixels do not match the heights and widths of the images")

    @property
    def classes(self) -> tuple[str, ...]:
        """Downstream classes, named by their role."""
        return CLASSES

    @property
    def title(self) -> str:
        """Source and categories of the textures."""
        return f"{self.source} textures ({', '.join(self.categories)})"

    @property
    def notes(self) -> tuple[str, ...]:
        """Limits of the results, and changes to images."""
        notes = []
        if self.source == "folder":
            notes.append("these are not the images of DTD: results on them are not results on DTD")
        if self.enlarged:
            notes.append(f"{self.enlarged} texture images were smaller than a scene and were enlarged")
        return (*notes, *self.unread)

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
    unread: Sequence[str] = (),
) -> TextureBank:
    """Pack three or four lists of RGB images (height, width, 3), in the order of `categories`, into a bank.

    Raises:
        InputError: there is another number of lists, a name occurs twice, or a category has fewer than four images.
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
        unread=tuple(unread),
    )


def load_textures(settings: VtsSettings, root: Path | None, *, download: bool = False) -> TextureBank:
    """The texture images that the settings name, ready for scenes of the settings' size.

    Args:
        settings: source, categories and scale.
        root: the folder of textures or of DTD.
        download: let torchvision download DTD into `root`.

    Raises:
        InputError: a root is needed and not given, or its files cannot be used.
    """
    if settings.textures == "procedural":
        return make_procedural(settings.size, categories=settings.categories or FAMILIES)
    if root is None:
        raise InputError(f"--data.textures {settings.textures}: name the folder of the images with --data-root FOLDER")
    if settings.textures == "dtd":
        names = settings.categories or FAMILIES
        return load_dtd(root, names, min_side=settings.size, scale=settings.texture_scale, download=download)
    return load_folder(root, settings.categories, min_side=settings.size, scale=settings.texture_scale)


def make_procedural(size: int, count: int = 120, categories: tuple[str, ...] = FAMILIES) -> TextureBank:
    """Generate `count` procedural textures per category, of side round(1.5 * size) for scenes of `size` pixels.

    `categories` are three or four of `FAMILIES`, by role. A family has the same images in each role.

    Raises:
        InputError: `count` is below four, or `size` below 32.
    """
    for name in categories:
        check_image_count(name, count)
    families = dict(zip(FAMILIES, procedural.cached_textures(size, count), strict=True))
    return pack("procedural", categories, [list(families[name]) for name in categories])


def load_folder(root: str | Path, categories: tuple[str, ...], *, min_side: int, scale: float = 1.0) -> TextureBank:
    """Load `<root>/<category>/*.{jpg,jpeg,png}` (any case), sorted by name.

    Grey, palette and 16-bit images become 8-bit RGB, transparency is dropped, EXIF rotation is applied. Each image is
    shrunk by `scale` (antialiased). Images whose short side is then below `min_side` pixels are enlarged to it
    (bicubic), and counted in `enlarged`.

    Args:
        root: folder with one subfolder for each category.
        categories: names of first class, second class, noise and, optionally, noise that is no downstream class; empty:
            the three subfolders, sorted.
        min_side: least length of the short side of an image, px: the side of a scene.
        scale: factor in (0, 1].

    Raises:
        InputError: a folder or category is missing, a category has fewer than four images, files are unreadable or too
            large, or `min_side` or `scale` is out of range.
    """
    return pack("folder", *photos.read_categories(Path(root), categories, min_side=min_side, scale=scale))


def load_dtd(
    root: str | Path,
    categories: tuple[str, ...] = FAMILIES,
    *,
    min_side: int,
    scale: float = 1.0,
    download: bool = False,
) -> TextureBank:
    """Load three or four categories of DTD (Cimpoi et al., 2014); by default those of the paper, and `dotted`.

    They are in `<root>/dtd/dtd/images/<category>/*.jpg`, the layout of torchvision, or in `<root>/dtd/images` or
    `<root>/images`, where the archive is unpacked by hand. If the images are absent and `download` is true, they are
    downloaded (about 600 MB). `min_side` and `scale` are those of `load_folder`.

    Raises:
        InputError: images are absent, the download fails, or `load_folder` refuses the images.
    """
    layouts = [Path(root, *parents, "images") for parents in (("dtd", "dtd"), ("dtd",), ())]
    images = next((folder for folder in layouts if folder.is_dir()), layouts[0])
    if not images.is_dir() and download:
        from torchvision.datasets import DTD  # imports torch, which nothing else in this file needs

        try:
            DTD(str(root), download=True)
        except (OSError, RuntimeError, EOFError) as error:
            raise InputError(
                f"the download of DTD from {DTD_ARCHIVE} to {root} failed ({photos.error_line(error)}); try again, or "
                f"download that archive yourself and unpack it so that {images} exists"
            ) from error
    if not images.is_dir():
        raise InputError(
            f"the images of DTD are not at {images}; download them with --download, or download {DTD_ARCHIVE} yourself "
            f"and unpack it in {images.parents[1]}"
        )
    _check_complete(images, photos.category_names(images, categories))
    names, pixels, enlarged, _ = photos.read_categories(images, categories, min_side=min_side, scale=scale)
    return pack("dtd", names, pixels, enlarged)  # that other categories are not read needs no note


def _check_complete(images: Path, categories: tuple[str, ...]) -> None:
    """Refuse a part of DTD: results on it are not results on DTD."""
    found = {name: photos.list_images(images / name) if (images / name).is_dir() else [] for name in categories}
    there = {f"{path.parent.name}/{path.name}" for paths in found.values() for path in paths}
    lists = [images.with_name("labels") / f"{split}1.txt" for split in ("train", "val", "test")]
    listed = [line for path in lists if path.is_file() for line in path.read_text("utf-8", "replace").split()]
    missing = [name for name in listed if name.partition("/")[0] in categories and name not in there]
    if missing or any(len(paths) != DTD_IMAGES for paths in found.values()):
        counts = ", ".join(f"{name} {len(paths)}" for name, paths in found.items())
        names = f" (missing: {', '.join(missing[:3])}{', ...' * (len(missing) > 3)})" if missing else ""
        flags = ["--data.textures", "folder", "--data-root", str(images), "--data.categories", *categories[:3]]
        raise InputError(
            f"{images} is not DTD, which has {DTD_IMAGES} images in each category: {counts}{names}; unpack DTD again "
            "(or let --download do it in another folder), or use these images under their own name: "
            f"{shlex.join(flags)}"
        )


def split_images(bank: TextureBank, generator: np.random.Generator) -> dict[str, tuple[Numbers, ...]]:
    """Split the images of each category .5/.3/.2 after a random permutation: 60/36/24 of 120.

    Returns:
        For `train`, `val` and `test`, one array of image numbers for each category.

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
