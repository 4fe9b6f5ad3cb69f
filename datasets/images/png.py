"""PNG files: what the header says, and the pixels as the file has them."""

import os
import struct
from typing import BinaryIO

import imagecodecs
import numpy as np
from jaxtyping import UInt8, UInt16
from PIL.PngImagePlugin import PngImageFile

from datasets.errors import InputError
from datasets.images.bounds import affordable

START = b"\x89PNG\r\n\x1a\n"
END = b"IEND\xaeB`\x82"
BANDS = {0: 1, 2: 3, 3: 3, 4: 1, 6: 3}  # by colour type; alpha does not count, a palette gives RGB
DECODED = {**BANDS, 3: 4, 4: 2, 6: 4}  # as libpng makes them at most
PALETTE = 3

Pixels = UInt8[np.ndarray, "h w b"] | UInt16[np.ndarray, "h w b"]


def shape(file: BinaryIO) -> tuple[int, int, int, int]:
    """Height, width, bands without alpha, and bits a sample (8 or 16) of the pixels that `decode` gives."""
    height, width, depth, colour = _header(file)
    return height, width, BANDS[colour], 16 if depth == 16 else 8


def decode(file: BinaryIO) -> Pixels:
    """The pixels, without alpha; a palette as RGB, grey of fewer than 8 bits spread over 0 to 255."""
    _, _, bands, _ = shape(file)
    pixels = imagecodecs.png_decode(_opaque(_whole(file)))
    return np.ascontiguousarray(np.atleast_3d(pixels)[..., :bands])


def classes(file: BinaryIO) -> UInt8[np.ndarray, "h w"]:
    """The numbers of a grey or palette image of 8 bits as they are in the file: no colours looked up."""
    _, _, depth, colour = _header(file)
    if colour == PALETTE:
        _whole(file)
        file.seek(0)
        # The class itself, since Image.open warns of large images, which are nothing unusual here.
        return np.array(PngImageFile(file))
    if colour != 0 or depth != 8:
        found = f"{BANDS[colour]} bands{' and alpha' if colour >= 4 else ''} of {depth} bits"
        raise InputError(f"has {found}; valid class numbers are one band of 8 bits or a palette")
    return imagecodecs.png_decode(_opaque(_whole(file)))


def _opaque(data: bytes) -> bytes:
    """The file without its tRNS chunk: each of xBD's has one, and libpng would make a fourth band of it."""
    start = len(START)
    while (kind := data[start + 4 : start + 8]) != b"IDAT" and kind:
        end = start + 12 + int.from_bytes(data[start : start + 4], "big")
        if kind == b"tRNS":
            return data[:start] + data[end:]
        start = end
    return data


def _header(file: BinaryIO) -> tuple[int, int, int, int]:
    """Height, width, bits a sample and colour type."""
    file.seek(0)
    start, width, height, depth, colour = struct.unpack(">12x4sIIBB7x", file.read(33))
    if start != b"IHDR" or colour not in BANDS:
        raise InputError("is cut off or damaged (its PNG header is wrong)")
    affordable(height * width * DECODED[colour] * (2 if depth == 16 else 1), file.seek(0, os.SEEK_END))
    return height, width, depth, colour


def _whole(file: BinaryIO) -> bytes:
    """All of the file; libpng itself does not miss the end of one."""
    file.seek(0)
    data = file.read()
    if END not in data[-4096:]:
        raise InputError("is cut off (the end of the PNG is missing)")
    return data
