"""Reads what GDAL reads beyond PNG, JPEG and plain TIFF, by rasterio: an optional package (the extra `gdal`).

Only formats that are one file are read: no virtual raster, which may name other files and addresses, and no file beside
an image that would change its pixels.
"""

import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from jaxtyping import UInt8

from datasets.errors import InputError, one_line
from datasets.images import tiff
from datasets.images.bounds import Header, check_bytes
from datasets.images.grid import Grid
from datasets.images.tiff import UNSIGNED, Pixels, without_bands

if TYPE_CHECKING:
    from rasterio import DatasetReader

JPEG_2000 = ("JPEG 2000", "JP2OpenJPEG")
STARTS: Mapping[bytes, tuple[str, str]] = {
    b"\0\0\0\x0cjP  \r\n\x87\n": JPEG_2000,
    b"\xff\x4f\xff\x51": JPEG_2000,
    **dict.fromkeys(tiff.STARTS, ("TIFF", "GTiff")),
}
"""The first bytes of a file, its format, and GDAL's name of the driver that reads it."""
_ALONE = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_PAM_ENABLED": False}
"""Files beside an image are not read."""

# rasterio logs what GDAL finds odd. Without a handler Python prints that to stderr.
logging.getLogger("rasterio").addHandler(logging.NullHandler())


def format_name(start: bytes) -> str:
    """The format of a file with these first bytes; empty if it is none that this module is for."""
    return next((name for first, (name, _) in STARTS.items() if start.startswith(first)), "")


def is_installed() -> bool:
    """Whether rasterio is."""
    return importlib.util.find_spec("rasterio") is not None


def check_installed(what: str) -> None:
    """Refuse an image if rasterio is absent. Raises `InputError`, whose message begins with `what`."""
    if not is_installed():
        raise InputError(f"{what}; install rasterio, which reads it (pip install rasterio), or convert it")


def shape(file: BinaryIO | io.BytesIO) -> Header:
    """What the header says."""
    with _opened(file) as image:
        turned = 1
        if image.driver == "GTiff":  # GDAL does not say how it is turned
            file.seek(0)
            turned = tiff.turned(file)
        alpha = len(_alpha(image))
        bands = 3 if _palette(image) is not None else image.count - alpha
        bits = 8 * np.dtype(image.dtypes[0]).itemsize if image.dtypes[0] in UNSIGNED else 32
        return Header(image.height, image.width, bands, alpha, bits, _grid(image), turned)


def alpha_bands(file: BinaryIO | io.BytesIO) -> list[int]:
    """Indices of the bands that are declared alpha."""
    with _opened(file) as image:
        return _alpha(image)


def decode(file: BinaryIO | io.BytesIO, *, keep_alpha: bool) -> Pixels:
    """The pixels, as `tiff.decode` returns them."""
    with _opened(file) as image:
        pixels = np.moveaxis(image.read(), 0, 2)
        if (palette := _palette(image)) is not None:
            return palette[pixels[..., 0]]
        if image.tags(ns="IMAGE_STRUCTURE").get("MINISWHITE") == "YES":
            return np.iinfo(pixels.dtype).max - pixels
        return without_bands(pixels, [] if keep_alpha else _alpha(image), image.nodata)


def classes(file: BinaryIO | io.BytesIO) -> UInt8[np.ndarray, "h w"]:
    """The numbers in an image of one band of 8 bits; the colours of a palette are ignored."""
    with _opened(file) as image:
        how = image.tags(ns="IMAGE_STRUCTURE")
        if how.get("COMPRESSION_REVERSIBILITY") == "LOSSY" or float(how.get("MAX_Z_ERROR", 0)) > 0.5:
            raise InputError(tiff.LOSSY.format("with loss"))
        if image.dtypes != ("uint8",):
            kind = image.dtypes[0]
            raise InputError(
                f"has {image.count} band{'s' * (image.count > 1)} of {kind}; class numbers must be one band of uint8"
            )
        return image.read(1)


@contextmanager
def _opened(file: BinaryIO | io.BytesIO) -> Iterator["DatasetReader"]:
    """The open image, of a size that is read."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError
    from rasterio.io import MemoryFile

    warnings.simplefilter("ignore", NotGeoreferencedWarning)
    start = file.read(32)
    driver = next(driver for first, (_, driver) in STARTS.items() if start.startswith(first))
    try:
        with ExitStack() as stack:
            stack.enter_context(rasterio.Env(**_ALONE))
            path = stack.enter_context(MemoryFile(file.getvalue())).name if isinstance(file, io.BytesIO) else file.name
            image = stack.enter_context(rasterio.open(path, driver=driver, sharing=False))
            _check(image, file.seek(0, io.SEEK_END))
            yield image
    except RasterioError as error:
        raise InputError(f"is cut off or damaged ({one_line(error)})") from error


def _check(image: "DatasetReader", size: int) -> None:
    """Refuse bands of several kinds, and more pixels than `size` bytes can hold."""
    kinds = set(map(str, image.dtypes))
    if len(kinds) != 1:
        raise InputError(f"has bands of several kinds ({', '.join(sorted(kinds))}); all must be of one: convert it")
    (kind,) = kinds
    itemsize = np.dtype(kind).itemsize
    check_bytes(image.height * image.width * image.count * (itemsize if kind in UNSIGNED else max(4, itemsize)), size)
    for height, width in image.block_shapes:
        check_bytes(height * width * itemsize, size)


def _alpha(image: "DatasetReader") -> list[int]:
    return [number for number, color in enumerate(image.colorinterp) if color.name == "alpha"]


def _palette(image: "DatasetReader") -> UInt8[np.ndarray, "256 3"] | None:
    """The colours of an image of one band of 8 bits that has a palette."""
    if image.dtypes != ("uint8",) or image.colorinterp[0].name != "palette":
        return None
    colors: dict[int, Any] = image.colormap(1)
    palette = np.zeros((256, 3), np.uint8)
    for number, color in colors.items():
        palette[number] = color[:3]
    return palette


def _grid(image: "DatasetReader") -> Grid | None:
    place = image.transform
    if place.is_identity or place.b or place.d or not place.a or not place.e:
        return None
    code = image.crs.to_epsg() if image.crs else None
    return Grid(place.c, place.f, place.a, -place.e, f"EPSG:{code}" if code else "")
