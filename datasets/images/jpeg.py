"""Decodes complete JPEG files only: libjpeg silently fills missing data with grey.

Pillow refuses a file that lacks its end marker. It accepts one that has an end marker after missing data.
"""

import io
import os
import re
import struct
from typing import BinaryIO, NoReturn

import imagecodecs
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from datasets.errors import InputError
from datasets.images.bounds import Header, check_bytes

START = b"\xff\xd8\xff"
SOF, SOS, END = 0xC0, 0xDA, 0xD9  # markers: first of the frame headers, start of a scan, end of the image
APP1, ORIENTATION = 0xE1, 0x0112  # the marker of EXIF data, and the tag in them that says how the image is turned
FRAMES = {SOF, *range(0xC1, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)}
DECODED = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive, all with Huffman codes
# What is not part of a scan's data. One 0xff: any number of them may precede a marker, and a pattern that matches them
# all takes time quadratic in their number.
MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
MAX_SCANS = 100  # a progressive JPEG has about ten; each costs a pass over all pixels, however short it is
FILLER = b"\xaa" * 1024  # unlike the zeros that libjpeg fills in


def shape(file: BinaryIO | io.BytesIO) -> Header:
    """What the header says.

    Raises:
        InputError: another kind of JPEG: lossless, arithmetic codes, CMYK, 12 bits.
    """
    marker, bits, height, width, bands, turned = _frame(file)
    if marker not in DECODED or bits != 8 or bands not in (1, 3) or not height:
        raise InputError(
            f"is a JPEG of a rare kind (frame type {marker - SOF}, {bands} bands, {bits} bits); valid are baseline and "
            "progressive ones, grey or colour, of 8 bits: convert it"
        )
    check_bytes(height * width * bands, file.seek(0, os.SEEK_END))
    return Header(height, width, bands, 0, 8, turned=turned)


def alpha_bands(file: BinaryIO | io.BytesIO) -> list[int]:
    """None: a JPEG has no alpha."""
    return []


def decode(file: BinaryIO | io.BytesIO, *, keep_alpha: bool) -> UInt8[np.ndarray, "h w b"]:
    """The pixels, grey or RGB; a JPEG has no alpha to keep.

    Raises:
        InputError: another kind of JPEG (see `shape`), or one that is cut off. (A progressive one that ends after
            one of its scans is complete, if blurred.)
    """
    shape(file)
    file.seek(0)
    data = file.read()
    body, end = data[: _end(data)], bytes((0xFF, END))
    pixels = imagecodecs.jpeg8_decode(body + end)
    # A decoder that has all data never reads what follows; one that lacks data takes the filler for pixels.
    if not np.array_equal(pixels, imagecodecs.jpeg8_decode(body + FILLER + end)):
        raise InputError("is cut off or damaged (the last rows of the JPEG are missing)")
    return np.atleast_3d(pixels)


def classes(file: BinaryIO | io.BytesIO) -> NoReturn:
    """Refuse: JPEG is lossy and does not keep class numbers."""
    raise InputError("is a JPEG, which does not keep class numbers; save masks as PNG or TIFF")


def extent(data: bytes) -> tuple[int, int]:
    """Height and width of a JPEG of any kind, such as a tile of a TIFF: what a decoder allocates memory for."""
    _, _, height, width, _, _ = _frame(io.BytesIO(data))
    return height, width


def _frame(file: BinaryIO | io.BytesIO) -> tuple[int, int, int, int, int, int]:
    """The frame header: its marker, bits per sample, height, width, bands; and how EXIF says the image is turned.

    The header must be whole up to the scan.
    """
    frame: tuple[int, int, int, int, int] | None = None
    turned = 1
    file.seek(2)
    while True:
        mark, marker, length = struct.unpack(">BBH", file.read(4))
        if mark != 0xFF or length < 2:
            raise InputError("is cut off or damaged (its JPEG header is wrong)")
        if marker == SOS and frame:
            return (*frame, turned)
        segment = file.read(length - 2)
        if marker == APP1 and segment.startswith(b"Exif\0"):
            turned = orientation(segment)
        if marker in FRAMES:
            frame = (marker, *struct.unpack(">BHHB", segment[:6]))


def orientation(exif: bytes) -> int:
    """How viewers turn the image; 1 if the EXIF data do not say it, or are damaged."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        return int(tags.get(ORIENTATION, 1))
    except Exception:  # of many kinds
        return 1


def _end(data: bytes) -> int:
    """Where the data before the end marker of the image ends. Segments, such as a thumbnail, are passed over."""
    position, scans = 2, 0
    while marker := MARKER.search(data, position):
        if marker[1][0] == END:
            return len(data[: marker.start()].rstrip(b"\xff"))
        scans += marker[1][0] == SOS
        if scans > MAX_SCANS:
            raise InputError(f"is a JPEG of more than {MAX_SCANS} scans; save it again as a baseline JPEG")
        (length,) = struct.unpack_from(">H", data, marker.end())
        position = marker.end() + length
    raise InputError("is cut off (the end of the JPEG is missing)")
