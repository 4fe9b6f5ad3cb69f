"""Reads texture photographs from folders of categories."""

import struct
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from datasets.errors import InputError, one_line, refuse_pointer
from datasets.unread import IMAGE_SUFFIXES, folders_below, unread_notes

EXTENSIONS = (".jpg", ".jpeg", ".png")
# By content, because wrong suffixes are common. Not PostScript, for which Pillow would start Ghostscript.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MIN_IMAGES = 4  # the smallest number of which .5, .3 and .2 are at least one image each
UNREADABLE = (
    OSError,  # includes Pillow's UnidentifiedImageError and truncated files
    SyntaxError,  # raised by Pillow for a broken PNG
    ValueError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)

Pixels = UInt8[np.ndarray, "_ _ 3"]  # height and width have no names, because images of one list differ


def read_categories(
    root: Path, categories: Sequence[str], *, min_side: int, scale: float
) -> tuple[tuple[str, ...], list[list[Pixels]], int, list[str]]:
    """The categories of a folder, the images of each, how many were enlarged, and at most one line on unread images.

    Args:
        root: folder with one subfolder for each category.
        categories: names of three or four subfolders; empty: the three that exist, sorted.
        min_side: length of the short side, px, that smaller images are enlarged to.
        scale: factor in (0, 1] by which images are shrunk first.

    Raises:
        InputError: a folder or category is missing, a category has fewer than four images, files are unreadable or too
            large, or `min_side` or `scale` is out of range.
    """
    if min_side < 1:
        raise InputError(f"min_side of the textures must be at least 1 pixel, not {min_side}")
    if not 0 < scale <= 1:
        raise InputError(f"scale of the textures must be above 0 and at most 1, not {scale}")
    files = {name: _image_files(root / name) for name in category_names(root, categories)}
    unread = unread_notes(root, folders_below(root), {path for paths in files.values() for path in paths})
    images: list[list[Pixels]] = []
    broken: list[tuple[Path, Exception]] = []
    enlarged = 0
    for paths in files.values():
        images.append([])
        for path in paths:
            try:
                pixels, grew = _read_image(path, min_side=min_side, scale=scale)
            except UNREADABLE as problem:
                broken.append((path, problem))
                continue
            images[-1].append(pixels)
            enlarged += grew
    if broken:
        path, error = broken[0]
        number = f"{len(broken)} texture images cannot be read, the first" if len(broken) > 1 else "cannot read texture"
        raise InputError(f"{number} {path} ({error_line(error)}); replace or remove it")
    return tuple(files), images, enlarged, unread


def category_names(root: Path, categories: Sequence[str]) -> tuple[str, ...]:
    """The named subfolders of a folder, or all three that it has.

    Raises:
        InputError: it is no folder, a subfolder is missing or named twice, or their number is not that of the roles.
    """
    if not root.is_dir():
        raise InputError(f"texture folder {root} {'is a file' if root.exists() else 'does not exist'}; name a folder")
    subfolders = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    listing = f"it has {', '.join(subfolders)}" if subfolders else "it has no subfolders"
    names = tuple(categories) or tuple(subfolders)
    if len(names) not in ((3, 4) if categories else (3,)):
        named = f"{len(names)} texture categories are named" if categories else "no texture categories are named"
        raise InputError(
            f"{named} for folder {root}, and {listing}; name three of its subfolders: first class, second class, "
            "noise (and optionally a fourth, for noise that is no downstream class)"
        )
    missing = [name for name in names if name not in subfolders]
    if missing:
        raise InputError(f"texture folder {root} lacks the category {', '.join(missing)}; {listing}")
    if len(set(names)) != len(names):
        raise InputError(f"texture categories {', '.join(names)} repeat a name; {root}: {listing}")
    return names


def list_images(root: Path) -> list[Path]:
    """The images of a category that are read, by name."""
    paths = [path for path in root.iterdir() if path.suffix.lower() in EXTENSIONS and path.is_file()]
    return sorted((path for path in paths if not path.name.startswith(".")), key=lambda path: path.name)


def _image_files(root: Path) -> list[Path]:
    paths = list_images(root)
    if not paths:
        others = sorted(path.name for path in root.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        instead = f", but {len(others):,} files such as {others[0]}" if others else ""
        kinds = ", ".join(EXTENSIONS)
        raise InputError(f"texture category {root} has no images that are read{instead}; put {kinds} files there")
    check_image_count(str(root), len(paths))
    return paths


def _read_image(path: Path, *, min_side: int, scale: float) -> tuple[Pixels, bool]:
    """Read one image as RGB; the flag says whether it was enlarged."""
    with path.open("rb") as file:
        refuse_pointer(file.read(32))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged metadata, on which no pixel depends
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path, formats=FORMATS) as picture:
            image = _to_rgb(ImageOps.exif_transpose(picture))
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS)
    short = min(image.size)
    if short >= min_side:
        return np.array(image), False
    width, height = (max(min_side, round(side * min_side / short)) for side in image.size)
    if width * height > (Image.MAX_IMAGE_PIXELS or np.inf):
        raise ValueError(
            f"{image.width}x{image.height} pixels are too narrow to be enlarged to {min_side} pixels per side"
        )
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC)), True


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255 instead of scaling
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    elif image.mode == "P":
        image = image.convert("RGBA")  # avoids a warning of Pillow if the palette has transparency
    return image.convert("RGB")


def error_line(error: Exception) -> str:
    """Message of an error, with its type unless it is ours."""
    if isinstance(error, InputError):
        return str(error)
    return f"{type(error).__name__}: {one_line(error) or 'no message'}"


def check_image_count(name: str, number: int) -> None:
    """Refuse a category with too few images to be split.

    Raises:
        InputError: it has fewer than four.
    """
    if number < MIN_IMAGES:
        raise InputError(
            f"texture category {name!r} has {number} images; the train/val/test split needs at least "
            f"{MIN_IMAGES} in each category, so add some"
        )
