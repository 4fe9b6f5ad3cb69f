"""Texture images of three or four categories: the embedded procedural ones, a folder of one's own, or DTD."""

import hashlib
import struct
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image, ImageOps

from datasets import procedural as generated
from datasets.errors import InputError
from datasets.settings import CLASSES, VtsSettings

DTD_CATEGORIES = ("stratified", "veined", "matted", "dotted")  # first class, second class, noise, irrelevant noise
DTD_ARCHIVE = "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz"
EXTENSIONS = (".jpg", ".jpeg", ".png")
FEWEST_IMAGES = 4  # the smallest number that .5/.3/.2 cuts into three parts that all hold an image
UNREADABLE = (
    OSError,  # includes Pillow's UnidentifiedImageError and truncated files
    SyntaxError,  # Pillow's word for a broken PNG
    ValueError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)

Pixels = UInt8[np.ndarray, "_ _ 3"]  # height, width: nameless, because images of one list differ
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
        """What scenes are filled with."""
        return f"{self.source} textures ({', '.join(self.categories)})"

    @property
    def notes(self) -> tuple[str, ...]:
        """What results must not be taken for, and what was done to the images."""
        found = []
        if self.source == "folder":
            found.append("these are not DTD's images: results on them are not results on DTD")
        if self.enlarged:
            found.append(f"{self.enlarged} texture images were smaller than a scene and have been resized up")
        return tuple(found)

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
        _enough(name, len(images))
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
        root: folder of a `folder` or `dtd` source.
        download: let torchvision download DTD into `root`; nothing is downloaded otherwise.

    Raises:
        InputError: no root was given where one is needed, or what lies there cannot be used.
    """
    if settings.textures == "procedural":
        return procedural(settings.size)
    if root is None:
        raise InputError(f"--data.textures {settings.textures}: say where the images lie with --data-root FOLDER")
    if settings.textures == "dtd":
        return dtd(root, min_side=settings.size, scale=settings.texture_scale, download=download)
    return folder(root, settings.categories, min_side=settings.size, scale=settings.texture_scale)


def procedural(size: int, count: int = 120) -> TextureBank:
    """Make the embedded textures, `count` a category, of side round(1.5 * size) for scenes of `size` pixels.

    Raises:
        InputError: a count under four, or a size under 32.
    """
    for name in generated.CATEGORIES:
        _enough(name, count)
    pixels = generated.kept_or_made(size, count)
    return pack("procedural", generated.CATEGORIES, [list(images) for images in pixels])


def folder(root: str | Path, categories: tuple[str, ...], *, min_side: int, scale: float = 1.0) -> TextureBank:
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
    return _load("folder", Path(root), categories, min_side=min_side, scale=scale)


def dtd(root: str | Path, *, min_side: int, scale: float = 1.0, download: bool = False) -> TextureBank:
    """Load `stratified`, `veined`, `matted` and `dotted` of DTD (Cimpoi et al., 2014) from torchvision's layout.

    That is `<root>/dtd/dtd/images/<category>/*.jpg`. Nothing is downloaded unless `download` is true (about
    600 MB) and the images are absent. `min_side` and `scale` are those of `folder`.

    Raises:
        InputError: the images are absent or the download fails; also whatever `folder` refuses.
    """
    images = Path(root) / "dtd" / "dtd" / "images"
    if not images.is_dir() and download:
        from torchvision.datasets import DTD  # here, because nothing else in this file needs torch

        try:
            DTD(str(root), download=True)
        except (OSError, RuntimeError, EOFError) as error:
            raise InputError(
                f"the download of DTD from {DTD_ARCHIVE} to {root} failed ({_line(error)}); try again, or "
                f"fetch that archive yourself and unpack it so that {images} exists"
            ) from error
    if not images.is_dir():
        raise InputError(
            f"DTD's images are not at {images}; either let them be downloaded with --download, or fetch "
            f"{DTD_ARCHIVE} and unpack it in {images.parents[1]}"
        )
    return _load("dtd", images, DTD_CATEGORIES, min_side=min_side, scale=scale)


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
        _enough(name, len(members))
        train = round(0.5 * len(members))
        val = train + round(0.3 * len(members))
        for part, chosen in zip(parts, np.split(members, [train, val]), strict=True):
            parts[part].append(chosen)
    return {part: tuple(numbers) for part, numbers in parts.items()}


def _enough(name: str, number: int) -> None:
    if number < FEWEST_IMAGES:
        raise InputError(
            f"texture category {name!r} has {number} images; the train/val/test split needs at least "
            f"{FEWEST_IMAGES} in each category, so add some"
        )


def _load(source: str, root: Path, categories: Sequence[str], *, min_side: int, scale: float) -> TextureBank:
    if min_side < 1:
        raise InputError(f"min_side of the textures must be 1 pixel or more, not {min_side}")
    if not 0 < scale <= 1:
        raise InputError(f"scale of the textures must be above 0 and at most 1, not {scale}")
    files = {name: _image_files(root / name) for name in _category_names(root, categories)}
    images: list[list[Pixels]] = []
    broken: list[tuple[Path, Exception]] = []
    enlarged = 0
    for paths in files.values():
        images.append([])
        for path in paths:
            try:
                pixels, grew = _read(path, min_side=min_side, scale=scale)
            except UNREADABLE as error:
                broken.append((path, error))
                continue
            images[-1].append(pixels)
            enlarged += grew
    if broken:
        path, reason = broken[0]
        number = f"{len(broken)} texture images cannot be read, the first" if len(broken) > 1 else "cannot read texture"
        raise InputError(f"{number} {path} ({_line(reason)}); replace or remove it")
    return pack(source, tuple(files), images, enlarged)


def _category_names(root: Path, categories: Sequence[str]) -> tuple[str, ...]:
    if not root.is_dir():
        raise InputError(f"texture folder {root} {'is a file' if root.exists() else 'does not exist'}; name a folder")
    there = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    listing = f"it has {', '.join(there)}" if there else "it has no subfolders"
    names = tuple(categories) or tuple(there)
    if len(names) not in ((3, 4) if categories else (3,)):
        given = f"{len(names)} texture categories are named" if categories else "no texture categories are named"
        raise InputError(
            f"{given} for folder {root}, and {listing}; name three of its subfolders: first class, second class, noise "
            "(and a fourth for noise that is no class downstream)"
        )
    missing = [name for name in names if name not in there]
    if missing:
        raise InputError(f"texture folder {root} lacks the category {', '.join(missing)}; {listing}")
    if len(set(names)) != len(names):
        raise InputError(f"texture categories {', '.join(names)} repeat a name; {root}: {listing}")
    return names


def _image_files(root: Path) -> list[Path]:
    paths = [path for path in root.iterdir() if path.suffix.lower() in EXTENSIONS and path.is_file()]
    paths = sorted((path for path in paths if not path.name.startswith(".")), key=lambda path: path.name)
    if not paths:
        raise InputError(f"texture category {root} holds no images; put {', '.join(EXTENSIONS)} files there")
    _enough(str(root), len(paths))
    return paths


def _read(path: Path, *, min_side: int, scale: float) -> tuple[Pixels, bool]:
    """Read one image as RGB; the flag says whether it had to be resized up."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as file:
            image = _to_rgb(ImageOps.exif_transpose(file))
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    short = min(image.size)
    if short >= min_side:
        return np.array(image), False
    width, height = (max(min_side, round(side * min_side / short)) for side in image.size)
    if width * height > (Image.MAX_IMAGE_PIXELS or np.inf):
        raise ValueError(f"{image.width}x{image.height} pixels are too narrow to be resized to {min_side} a side")
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC)), True


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey: Pillow's own conversion clips at 255 instead of scaling
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    elif image.mode == "P":
        image = image.convert("RGBA")  # the way that Pillow does not warn about when the palette is transparent
    return image.convert("RGB")


def _line(error: Exception) -> str:
    """Name and first line of an error."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
