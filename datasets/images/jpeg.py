"""Decodes complete JPEG files only: libjpeg silently fills missing data with grey."""

import os
import re
import struct
from typing import BinaryIO, NoReturn

import imagecodecs
import numpy as np
from jaxtyping import UInt8

from datasets.errors import InputError
from datasets.images.bounds import check_bytes

START = b"\xff\xd8\xff"
SOF, SOS, END = 0xC0, 0xDA, 0xD9  # markers: first of the frame headers, start of a scan, end of the image
FRAMES = {SOF, *range(0xC1, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)}
DECODED = {0xC0, 0xC1, 0xC2}  # baseline, extended and progressive, all with Huffman codes
# What is not part of a scan's data. One 0xff: any number of them may stand before a marker, and a pattern that takes
# them all takes the square of their number of steps.
MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)
MOST_SCANS = 100  # a progressive one has ten or so; each costs a pass over all pixels, however short it is
FILLER = b"\xaa" * 1024  # unlike the zeros that libjpeg makes up


def shape(file: BinaryIO) -> tuple[int, int, int, int]:
    """Height, width, bands (1 or 3) and bits a sample: 8.

    Raises:
        InputError: another kind of JPEG: lossless, arithmetic codes, CMYK, 12 bits.
    """
    height, width, bands, _ = _frame(file)
    check_bytes(height * width * bands, file.seek(0, os.SEEK_END))
    return height, width, bands, 8


def decode(file: BinaryIO) -> UInt8[np.ndarray, "h w b"]:
    """The pixels, grey or RGB.

    Raises:
        InputError: another kind of JPEG (see `shape`), or one that is cut off. (A progressive one that ends after
            one of its scans is whole, if blurred.)
    """
    height, width, bands, first_scan = _frame(file)
    file.seek(0)
    data = file.read()
    check_bytes(height * width * bands, len(data))
    body = data[: _end(data, first_scan)]
    end = bytes((0xFF, END))
    pixels = imagecodecs.jpeg8_decode(body + end)
    # A decoder that has all it needs never looks at what follows; one that lacks data takes it for pixels.
    if not np.array_equal(pixels, imagecodecs.jpeg8_decode(body + FILLER + end)):
        raise InputError("is cut off or damaged (the last rows of the JPEG are missing)")
    return np.atleast_3d(pixels)


def classes(file: BinaryIO) -> NoReturn:
    """Refuse: JPEG is lossy and does not keep class numbers."""
    raise InputError("is a JPEG, which does not keep class numbers; save masks as PNG or TIFF")


def extent(data: bytes) -> tuple[int, int]:
    """Height and width of a JPEG of any kind, such as a TIFF's tile: what a decoder takes memory for."""
    position = 2
    while True:
        mark, marker, length = struct.unpack_from(">BBH", data, position)
        if mark != 0xFF or length < 2:
            raise InputError("is cut off or damaged (its JPEG header is wrong)")
        if marker in FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 5)
            return height, width
        position += 2 + length


def _frame(file: BinaryIO) -> tuple[int, int, int, int]:
    """Height, width, bands, and where the first scan's header starts."""
    file.seek(2)
    dimensions: tuple[int, int, int] | None = None
    while True:
        position = file.tell()
        mark, marker, length = struct.unpack(">BBH", file.read(4))
        if mark != 0xFF or length < 2:
            raise InputError("is cut off or damaged (its JPEG header is wrong)")
        if marker == SOS and dimensions:
            return *dimensions, position
        segment = file.read(length - 2)
        if marker in FRAMES:
            dimensions = _dimensions(marker, segment)


def _dimensions(marker: int, segment: bytes) -> tuple[int, int, int]:
    bits, height, width, bands = struct.unpack(">BHHB", segment[:6])
    if marker not in DECODED or bits != 8 or bands not in (1, 3) or not height:
        raise InputError(
            f"is a JPEG of a rare kind (frame type {marker - SOF}, {bands} bands, {bits} bits); valid are baseline and "
            "progressive ones, grey or colour, of 8 bits: convert it"
        )
    return height, width, bands


def _end(data: bytes, scan: int) -> int:
    """Where the end marker of the image stands whose first scan's header stands at `scan`."""
    position, scans = scan, 0
    while marker := MARKER.search(data, position):
        if marker[1][0] == END:
            return len(data[: marker.start()].rstrip(b"\xff"))
        scans += marker[1][0] == SOS
        if scans > MOST_SCANS:
            raise InputError(f"is a JPEG of more than {MOST_SCANS} scans; save it anew")
        (length,) = struct.unpack_from(">H", data, marker.end())
        position = marker.end() + length
    raise InputError("is cut off (the end of the JPEG is missing)")
