"""Reads PNG, JPEG and TIFF files of 8 or 16 bits as arrays; damaged files are refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8, UInt16

from datasets.errors import InputError, describe_error
from datasets.images import jpeg, png, tiff

MOST_BANDS = 13  # Sentinel-2 has that many

Pixels = UInt8[np.ndarray, "h w b"] | UInt16[np.ndarray, "h w b"]


@dataclass(frozen=True)
class Shape:
    """Size, bands and depth of an image, from its header."""

    height: int
    width: int
    bands: int
    """Without alpha; a palette counts as RGB."""
    dtype: Literal["uint8", "uint16"]


def shape_of(path: Path) -> Shape:
    """The shape of what `read_image` gives, from the header alone.

    Raises:
        InputError: the file cannot be opened, or its header is of no image that `read_image` reads. The message
            is without the path.
    """
    with _open(path) as (kind, file):
        height, width, bands, bits = kind.shape(file)
    return _check_shape(Shape(height, width, bands, "uint16" if bits == 16 else "uint8"))


def read_image(path: Path) -> Pixels:
    """Read an image as an array (height, width, bands), of the file's own depth.

    The format follows from the first bytes, not from the name. Alpha is dropped (what lies under it is kept), a
    palette becomes RGB, grey of fewer than 8 bits is spread over 0 to 255. An EXIF rotation is *not* applied:
    pixels stay where the file has them, and so do masks.

    Raises:
        InputError: the file cannot be opened, is cut off or damaged, or is none of: PNG; JPEG, baseline or
            progressive, grey or colour; TIFF of one image, grey, RGB, palette or 1 to 13 bands, of uint8 or uint16.
            Also refused is what is larger than `images.bounds` allows: a decompression bomb is not decoded.
            The message is without the path.
    """
    with _open(path) as (kind, file):
        pixels = kind.decode(file)
    height, width, bands = pixels.shape
    _check_shape(Shape(height, width, bands, "uint16" if pixels.dtype == np.uint16 else "uint8"))
    return pixels


def read_classes(path: Path) -> UInt8[np.ndarray, "h w"]:
    """Read an image of class numbers: PNG or TIFF, one band of 8 bits. A palette's numbers are taken as they are.

    Raises:
        InputError: it is another kind of image, cannot be opened, is cut off or damaged. The message is without
            the path.
    """
    with _open(path) as (kind, file):
        return kind.classes(file)


@runtime_checkable
class _Format(Protocol):
    """What the modules `png`, `jpeg` and `tiff` offer."""

    def shape(self, file: BinaryIO) -> tuple[int, int, int, int]: ...

    def decode(self, file: BinaryIO) -> Pixels: ...

    def classes(self, file: BinaryIO) -> UInt8[np.ndarray, "h w"]: ...


@contextmanager
def _open(path: Path) -> Iterator[tuple[_Format, BinaryIO]]:
    """The file and what reads its kind; whatever goes wrong inside becomes an `InputError`."""
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            file.seek(0)
            yield _format_of(start), file
    except InputError:
        raise
    except MemoryError as error:
        raise InputError("is too large for this machine's memory; cut it into smaller images") from error
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or describe_error(error)})") from error
    except Exception as error:  # decoders raise many kinds on damaged data, and all mean the same
        raise InputError(f"is cut off or damaged ({describe_error(error)})") from error


def _format_of(start: bytes) -> _Format:
    if start == png.START:
        return png
    if start.startswith(jpeg.START):
        return jpeg
    if start.startswith(tiff.STARTS):
        return tiff
    raise InputError("is empty; restore it" if not start else "is no PNG, JPEG or TIFF; convert it to one of them")


def _check_shape(shape: Shape) -> Shape:
    if min(shape.height, shape.width) < 1:
        raise InputError(f"is {shape.width} x {shape.height} px; at least one pixel is needed")
    if not 1 <= shape.bands <= MOST_BANDS:
        raise InputError(f"has {shape.bands} bands; valid are 1 to {MOST_BANDS}, without alpha")
    return shape
