"""Reads the header and the pixels of PNG files."""

import io
import os
import struct
from typing import BinaryIO

import imagecodecs
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL.PngImagePlugin import PngImageFile

from datasets.errors import InputError
from datasets.images import jpeg
from datasets.images.bounds import Header, check_bytes

START = b"\x89PNG\r\n\x1a\n"
END = b"IEND\xaeB`\x82"
BANDS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}  # by colour type, without alpha; a palette becomes RGB
DECODED = {**BANDS, 3: 4, 4: 2, 6: 4}  # bands that libpng decodes at most
PALETTE = 3
MOST_EXIF = 2**16  # bytes, as in a JPEG
ALPHA = (4, 6)  # colour types that end in alpha

Pixels = UInt8[np.ndarray, "h w b"] | UInt16[np.ndarray, "h w b"]


def shape(file: BinaryIO | io.BytesIO) -> Header:
    """What the header says."""
    height, width, depth, color = _read_header(file)
    return Header(height, width, BANDS[color], int(color in ALPHA), 16 if depth == 16 else 8, turned=_turned(file))


def alpha_bands(file: BinaryIO | io.BytesIO) -> list[int]:
    """Indices of the bands of alpha."""
    header = shape(file)
    return [header.bands] * header.alpha


def decode(file: BinaryIO | io.BytesIO, *, keep_alpha: bool) -> Pixels:
    """The pixels, with or without alpha; a palette as RGB, grey of fewer than 8 bits scaled to 0 to 255."""
    header = shape(file)
    pixels = imagecodecs.png_decode(_without_transparency(_read_all(file)))
    return np.ascontiguousarray(np.atleast_3d(pixels)[..., : header.bands + header.alpha * keep_alpha])


def classes(file: BinaryIO | io.BytesIO) -> UInt8[np.ndarray, "h w"]:
    """The numbers in a grey or palette image of 8 bits; the colours of a palette are ignored."""
    _, _, depth, color = _read_header(file)
    if color == PALETTE:
        _read_all(file)
        file.seek(0)
        # The class itself, because Image.open warns of large images, which are common here.
        return np.array(PngImageFile(file))
    if color != 0 or depth != 8:
        actual = (
            f"{BANDS[color]} band{'s' * (BANDS[color] > 1)}{' and alpha' if color in ALPHA else ''} of {depth} bits"
        )
        raise InputError(f"has {actual}; class numbers must be one band of 8 bits or a palette")
    return imagecodecs.png_decode(_without_transparency(_read_all(file)))


def _without_transparency(data: bytes) -> bytes:
    """The file without its tRNS chunk, from which libpng would make a fourth band; all images of xBD have one."""
    start = len(START)
    while (kind := data[start + 4 : start + 8]) != b"IDAT" and kind:
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if kind == b"tRNS":
            return data[:start] + data[end:]
        start = end
    return data


def _turned(file: BinaryIO | io.BytesIO) -> int:
    """How viewers turn the image, by the EXIF data before its pixels."""
    file.seek(len(START))
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"eXIf":
            return jpeg.orientation(file.read(min(length, MOST_EXIF)))
        file.seek(length + 4, os.SEEK_CUR)
    return 1


def _read_header(file: BinaryIO | io.BytesIO) -> tuple[int, int, int, int]:
    """Height, width, bits per sample and colour type."""
    file.seek(0)
    start, width, height, depth, color = struct.unpack(">12x4sIIBB7x", file.read(33))
    if start != b"IHDR" or color not in BANDS:
        raise InputError("is cut off or damaged (its PNG header is wrong)")
    check_bytes(height * width * DECODED[color] * (2 if depth == 16 else 1), file.seek(0, os.SEEK_END))
    return height, width, depth, color


def _read_all(file: BinaryIO | io.BytesIO) -> bytes:
    """The content of the file, which must have its end chunk: libpng does not check that."""
    file.seek(0)
    data = file.read()
    if END not in data[-4096:]:
        raise InputError("is cut off (the end of the PNG is missing)")
    return data
