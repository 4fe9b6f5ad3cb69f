"""What is no image, or an image of a kind that is not supported, is refused."""

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.images.read import read_image, shape_of
from tests.helpers.fake_images import random_pixels, refused, saved, smooth_pixels

CHUNK_OF_NOTHING = struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    for content, expected in (
        (b"", "is empty"),
        (b"GIF89a..................", "is not a PNG, JPEG or TIFF"),
        (b"plain text, much of it " * 9, "is not a PNG, JPEG or TIFF"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "header is wrong"),
        (b"\xff\xd8\xff" + bytes(100), "header is wrong"),
    ):
        path.write_bytes(content)
        assert expected in refused(path)
        assert expected in refused(path, shape_of)
    assert "cannot be read (No such file" in refused(tmp_path / "absent.png")
    assert "cannot be read (Is a directory" in refused(tmp_path)


def test_a_png_without_pixels_is_refused(tmp_path: Path) -> None:
    header = b"IHDR" + CHUNK_OF_NOTHING
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    (tmp_path / "image.png").write_bytes(start + b"\0\0\0\0IEND\xaeB`\x82")
    assert "at least one pixel" in refused(tmp_path / "image.png", shape_of)
    refused(tmp_path / "image.png")


@pytest.mark.parametrize(
    ("pixels", "options", "expected"),
    [
        (np.zeros((5, 6), np.complex64), {}, "64 bits (complex64); valid are uint8, uint16, int8"),
        (np.zeros((5, 6), np.int64), {}, "int64"),
        (np.zeros((5, 6), np.int16), {"photometric": "miniswhite"}, "colours MINISWHITE"),
        (np.zeros((5, 6), bool), {}, "1 bits"),
        (
            np.zeros((5, 6, 14), np.uint8),
            {"photometric": "minisblack", "planarconfig": "contig"},
            "14 bands without alpha; valid are 1",
        ),
        (np.zeros((5, 6, 4), np.uint8), {"photometric": "separated"}, "colours SEPARATED"),
        (np.zeros((2, 5, 6, 3), np.uint8), {"photometric": "rgb"}, "axes QYXS"),
        (np.zeros((2, 3, 5, 6), np.uint8), {"photometric": "minisblack"}, "axes QQYX"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_tiff_of_another_kind_is_refused(tmp_path: Path, pixels: np.ndarray, options: dict, expected: str) -> None:
    tifffile.imwrite(tmp_path / "image.tif", pixels, **options)
    assert expected in refused(tmp_path / "image.tif")
    assert expected in refused(tmp_path / "image.tif", shape_of)


def test_a_tiff_of_several_images_is_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "image.tif") as file:
        for side in (16, 9):
            file.write(random_pixels(side, side, 3), photometric="rgb", metadata=None)
    assert "has 2 images" in refused(tmp_path / "image.tif")


def test_a_jpeg_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "image.jpg", Image.fromarray(smooth_pixels(20, 30)).convert("CMYK"))
    for function in (read_image, shape_of):
        assert "4 bands, 8 bits); valid are baseline and progressive" in refused(path, function)
    path.write_bytes(imagecodecs.ljpeg_encode(random_pixels(20, 30, 1, "uint16")[..., 0]))
    assert "frame type 3" in refused(path)
