"""Reads images as arrays: PNG, JPEG, TIFF, and with rasterio some more; damaged files are refused."""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, UInt8, UInt16

from datasets.errors import InputError, describe_error, refuse_pointer
from datasets.images import gdal, jpeg, png, tiff
from datasets.images.bounds import Header
from datasets.images.grid import Grid, Overlap, misplaced, overlap

MAX_BANDS = 13  # as Sentinel-2 has

DTYPES: Mapping[int, Literal["uint8", "uint16", "float32"]] = {8: "uint8", 16: "uint16", 32: "float32"}
"""By the bits that a format gives."""

Pixels = UInt8[np.ndarray, "h w b"] | UInt16[np.ndarray, "h w b"] | Float32[np.ndarray, "h w b"]


@dataclass(frozen=True)
class Shape:
    """Size, bands and depth of an image, from its header."""

    height: int
    width: int
    bands: int
    """Without alpha; a palette counts as RGB."""
    alpha: int
    """Bands that the file declares to be alpha: opacity, not colour."""
    dtype: Literal["uint8", "uint16", "float32"]
    """Of the pixels as they are read: other kinds than unsigned integers of 8 or 16 bits become float32."""
    grid: Grid | None = None
    """Where it lies, if the file says so."""
    turned: int = 1
    """How viewers turn or mirror it, as EXIF counts it; pixels are read as they are stored."""

    def keeps_alpha(self, bands: int) -> bool:
        """Whether the image has so many bands only together with alpha."""
        return bool(self.alpha) and bands == self.bands + self.alpha

    def offers(self, bands: int, select: Sequence[int] = ()) -> bool:
        """Whether the image can be read as one of so many bands, or has those that are selected by number."""
        if select:
            return max(select) <= self.bands + self.alpha
        return bands == self.bands or self.keeps_alpha(bands)

    def describe_bands(self) -> str:
        """The number of bands, for messages."""
        number = f"{self.bands} band{'s' * (self.bands > 1)}"
        return f"{number} and {self.alpha} of alpha" if self.alpha else number


Align = Literal["ignore", "check", "crop"]
"""What coordinates are for: nothing; a check that the images of a pair lie on each other; the part that both show."""


def turned_apart(image: Shape, other: Shape, of: str = "image") -> str:
    """How EXIF turns a picture otherwise than the image that it belongs to, which messages call `of`; else empty."""
    if image.turned == other.turned:
        return ""
    return f"is turned by its EXIF orientation ({other.turned}), its {of} otherwise ({image.turned})"


def common_part(image: Shape, partner: Shape, align: Align) -> Overlap | str:
    """The part of two images that makes a pair, or what is wrong with the partner.

    Without coordinates, or with `ignore`, two images of one size lie on each other.
    """
    if reason := turned_apart(image, partner):
        return f"{reason}: save both as they are seen"
    size, other = (image.height, image.width), (partner.height, partner.width)
    if align == "crop" and image.grid and partner.grid:
        return overlap(image.grid, partner.grid, size, other)
    if align == "check" and (reason := misplaced(image.grid, partner.grid, size)):
        return reason
    if size != other:
        return f"is {other[1]} x {other[0]} px, but its image {size[1]} x {size[0]} px"
    return Overlap(*size, (0, 0), (0, 0))


@dataclass(frozen=True, kw_only=True, eq=False)
class Embedded:
    """An image in a cell of a table, which stands for a file of its own."""

    name: str
    """For messages."""
    digest: str
    """Of its bytes."""
    shape: Shape | str
    """From its header; text: why it is unknown."""
    read: Callable[[], bytes]
    """Its bytes, as those of a file."""
    suffix: str = ""
    """As of a file's name; a cell has none."""


Picture = Path | Embedded


def identity(picture: Picture) -> str:
    """What is the same for one file under several names, and for one image in several cells."""
    return picture.digest if isinstance(picture, Embedded) else os.path.realpath(picture)


T = TypeVar("T")


def shape_of(picture: Picture) -> Shape:
    """The shape of an image, from its header alone.

    Raises:
        InputError: the file cannot be opened, or its header is not one of an image that `read_image` can read. The
            message does not name the file.
    """
    if isinstance(picture, Embedded):
        if isinstance(picture.shape, str):
            raise InputError(picture.shape)
        return picture.shape
    return _read(picture, _read_shape)


def shape_of_bytes(content: bytes) -> Shape | str:
    """The shape of an image whose file has this content, or why `read_image` could not read it."""
    try:
        return _decode(content[:32], io.BytesIO(content), _read_shape)
    except InputError as error:
        return str(error)


def read_image(picture: Picture, bands: int | None = None, select: Sequence[int] = ()) -> Pixels:
    """Read an image as an array (height, width, bands) of the depth that the file has.

    The first bytes determine the format, not the name. Alpha is dropped without changing other bands, a palette becomes
    RGB, grey of fewer than 8 bits is scaled to 0 to 255. An EXIF rotation is *not* applied.

    Args:
        picture: the file, or the cell of a table.
        bands: how many are wanted. If there are so many only with alpha, alpha is kept: GDAL declares the fourth of
            four 8-bit bands to be alpha, whatever it shows.
        select: numbers of the bands to read, from 1, in this order, instead of all; alpha counts.

    Raises:
        InputError: the file cannot be opened, is cut off or damaged, is larger than `images.bounds` allows, or is none
            of: PNG; JPEG, baseline or progressive, grey or colour; TIFF of one image, grey, RGB, palette or 1 to 13
            bands, of integers or floating-point numbers; with rasterio also JPEG 2000, and TIFF of other
            compressions. The message does not name the file.
    """

    def decode(kind: _Format, file: BinaryIO | io.BytesIO) -> Pixels:
        shape = _read_shape(kind, file)
        file.seek(0)
        return kind.decode(file, keep_alpha=bool(select) or (bands is not None and shape.keeps_alpha(bands)))

    pixels = _read(picture, decode)
    return np.ascontiguousarray(pixels[..., [number - 1 for number in select]]) if select else pixels


def read_opacity(picture: Picture) -> Bool[np.ndarray, "h w"] | None:
    """Where an image is not wholly transparent; None if it declares no band to be alpha.

    Raises:
        InputError: as `read_image`.
    """

    def decode(kind: _Format, file: BinaryIO | io.BytesIO) -> Bool[np.ndarray, "h w"] | None:
        bands = kind.alpha_bands(file)
        if not bands:
            return None
        file.seek(0)
        return (kind.decode(file, keep_alpha=True)[..., bands] != 0).all(axis=2)

    return _read(picture, decode)


def read_classes(picture: Picture) -> UInt8[np.ndarray, "h w"]:
    """Read an image of class numbers: PNG, TIFF or what GDAL reads, one band of 8 bits; a palette is ignored.

    Raises:
        InputError: it is another kind of image, cannot be opened, is cut off or damaged. The message does not name the
            file.
    """
    return _read(picture, lambda kind, file: kind.classes(file))


@runtime_checkable
class _Format(Protocol):
    """The functions of the modules `png`, `jpeg`, `tiff` and `gdal`."""

    def shape(self, file: BinaryIO | io.BytesIO) -> Header: ...

    def decode(self, file: BinaryIO | io.BytesIO, *, keep_alpha: bool) -> Pixels: ...

    def alpha_bands(self, file: BinaryIO | io.BytesIO) -> list[int]: ...

    def classes(self, file: BinaryIO | io.BytesIO) -> UInt8[np.ndarray, "h w"]: ...


def _read(picture: Picture, decode: Callable[[_Format, BinaryIO | io.BytesIO], T]) -> T:
    """What `decode` makes of the module that reads the image's format and of its open file.

    Any error becomes an `InputError`.
    """
    if isinstance(picture, Embedded):
        content = picture.read()
        return _decode(content[:32], io.BytesIO(content), decode)
    try:
        with open(picture, "rb") as file:
            start = file.read(32)
            file.seek(0)
            return _decode(start, file, decode)
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or describe_error(error)})") from error


def _decode(start: bytes, file: BinaryIO | io.BytesIO, decode: Callable[[_Format, BinaryIO | io.BytesIO], T]) -> T:
    """As `_read`, for a file whose first bytes are `start`."""
    try:
        refuse_pointer(start)
        try:
            return decode(_format_of(start), file)
        except tiff.CompressionError as error:
            gdal.check_installed(str(error))
            file.seek(0)
            return decode(gdal, file)
    except InputError:
        raise
    except MemoryError as error:
        raise InputError("is too large for the memory of this machine; cut it into smaller images") from error
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or describe_error(error)})") from error
    except Exception as error:  # decoders raise errors of many kinds for damaged data
        raise InputError(f"is cut off or damaged ({describe_error(error)})") from error


def _format_of(start: bytes) -> _Format:
    if start.startswith(png.START):
        return png
    if start.startswith(jpeg.START):
        return jpeg
    if start.startswith(tiff.STARTS):
        return tiff
    if name := gdal.format_name(start):
        gdal.check_installed(f"is {name}")
        return gdal
    raise InputError("is empty; restore it" if not start else "is not a PNG, JPEG or TIFF; convert it to one of them")


def _read_shape(kind: _Format, file: BinaryIO | io.BytesIO) -> Shape:
    header = kind.shape(file)
    height, width, bands = header[:3]
    turned = header.turned if 1 <= header.turned <= 8 else 1  # some writers say 0
    if min(height, width) < 1:
        raise InputError(f"is {width} x {height} px; it must have at least one pixel")
    if not 1 <= bands <= MAX_BANDS:
        raise InputError(f"has {bands} bands without alpha; valid are 1 to {MAX_BANDS}")
    return Shape(height, width, bands, header.alpha, DTYPES[header.bits], header.grid, turned)
