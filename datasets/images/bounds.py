"""What the header of an image says, and limits on its size, checked before memory is allocated."""

from fractions import Fraction
from typing import NamedTuple

from datasets.errors import InputError
from datasets.images.grid import Grid

MAX_BYTES = 2**32  # of pixels; a whole Sentinel-2 scene of 13 bands has 3.1 GB
ALWAYS_ALLOWED = 2**27  # bytes of pixels that any file may claim, however small it is
MAX_RATIO = 1100  # above that: bytes of pixels per byte of the file; deflate reaches 1,032 at most, JPEG 1,024


class Header(NamedTuple):
    """What the header of an image says."""

    height: int
    width: int
    bands: int
    """Without alpha."""
    alpha: int
    """Bands that are declared alpha."""
    bits: int
    """Of a value as it is decoded: 8, 16, or 32 for float32."""
    grid: Grid | None = None
    """Where the image lies, if the file says so."""
    turned: int = 1
    """How viewers turn or mirror the image, as EXIF counts it; 1: not at all."""


def check_bytes(pixels: int, file: int, stored: Fraction = Fraction(1)) -> None:
    """Refuse an image with too many pixels, or with more than its file can hold (a decompression bomb).

    Args:
        pixels: bytes of all decoded pixels.
        file: bytes of the file.
        stored: share of the pixels that the file holds; the others are nodata.

    Raises:
        InputError: says which limit is exceeded.
    """
    if pixels > MAX_BYTES:
        raise InputError(
            f"has {_mib(pixels)} of pixels; at most {_mib(MAX_BYTES)} are read: cut it into smaller images"
        )
    if pixels > ALWAYS_ALLOWED and pixels * stored > MAX_RATIO * file:
        raise InputError(f"is damaged (its header claims {_mib(pixels)} of pixels, which {file:,} bytes cannot hold)")


def _mib(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
