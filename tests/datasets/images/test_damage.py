"""An image that is cut off or damaged is refused."""

import re
import signal
import struct
from contextlib import suppress
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.errors import InputError
from datasets.images.read import read_image
from tests.helpers.fake_images import refused, smooth_pixels


def png_file(path: Path) -> None:
    Image.fromarray(smooth_pixels(40, 50)).save(path, "png")


def palette_file(path: Path) -> None:
    Image.fromarray(smooth_pixels(40, 50)).quantize(16).save(path, "png")


def baseline_file(path: Path) -> None:
    Image.fromarray(smooth_pixels(40, 50)).save(path, "jpeg", quality=90)


def progressive_file(path: Path) -> None:
    Image.fromarray(smooth_pixels(40, 50)).save(path, "jpeg", quality=90, progressive=True)


def tiff_file(path: Path) -> None:
    tifffile.imwrite(path, smooth_pixels(40, 50), photometric="rgb", rowsperstrip=8)


def lzw_file(path: Path) -> None:
    tifffile.imwrite(path, smooth_pixels(40, 50), photometric="rgb", compression="lzw", predictor=True)


def pages_file(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        for band in smooth_pixels(40, 50).transpose(2, 0, 1):
            file.write(band, photometric="minisblack", metadata=None)


def pillows_tiff_file(path: Path) -> None:
    Image.fromarray(smooth_pixels(40, 50)).save(path, "tiff", compression="tiff_adobe_deflate")  # directory at the end


def jpeg_tiff_file(path: Path) -> None:
    Image.fromarray(smooth_pixels(40, 50)).save(path, "tiff", compression="jpeg")


FILES = (
    png_file,
    palette_file,
    baseline_file,
    progressive_file,
    tiff_file,
    lzw_file,
    pages_file,
    pillows_tiff_file,
    jpeg_tiff_file,
)


@pytest.mark.parametrize("make", FILES, ids=lambda make: make.__name__)
def test_an_image_that_is_cut_off_anywhere_is_refused(tmp_path: Path, make) -> None:
    path = tmp_path / "image"
    make(path)
    data = path.read_bytes()
    read_image(path)
    for cut in sorted({0, 1, 2, 5, 9, 30, len(data) - 2, len(data) - 1, *range(13, len(data), 1 + len(data) // 80)}):
        path.write_bytes(data[:cut])
        refused(path)


@pytest.mark.parametrize("make", [baseline_file, progressive_file], ids=lambda make: make.__name__)
def test_a_jpeg_with_an_end_but_not_all_of_its_pixels_is_refused(tmp_path: Path, make) -> None:
    path = tmp_path / "image"
    make(path)
    data, complete = path.read_bytes(), read_image(path)
    ends_of_scans = [at.start() for at in re.finditer(rb"\xff[\xc4\xda]", data)]
    filled_up = 0
    for cut in range(data.index(b"\xff\xda") + 20, len(data) - 2, 1 + len(data) // 300):
        body = data[:cut].rstrip(b"\xff")
        path.write_bytes(body + b"\xff\xd9")
        try:
            made_up = imagecodecs.jpeg8_decode(path.read_bytes())
        except imagecodecs.Jpeg8Error:
            made_up = None
        if len(body) in ends_of_scans or np.array_equal(made_up, complete):
            continue  # whole, if blurred; or bits that no pixel shows
        refused(path)
        filled_up += made_up is not None
    assert filled_up > 100  # so often libjpeg would have said nothing


def test_a_jpeg_whose_header_is_damaged_behind_its_size_is_refused(tmp_path: Path) -> None:
    """libjpeg skips what is no segment, and decodes without the lost tables."""
    path = tmp_path / "image"
    Image.fromarray(smooth_pixels(40, 50)).save(path, "jpeg", quality=90)
    data = path.read_bytes()
    tables = [at.start() for at in re.finditer(rb"\xff\xc4", data)]
    assert data.index(b"\xff\xc0") < tables[0]
    path.write_bytes(data[: tables[-1] + 25] + data[tables[-1] + 29 :])
    assert "header is wrong" in refused(path)


@pytest.mark.parametrize("make", [png_file, palette_file], ids=lambda make: make.__name__)
def test_a_png_with_a_changed_byte_is_refused_or_the_same(tmp_path: Path, make) -> None:
    path = tmp_path / "image"
    make(path)
    data, complete = path.read_bytes(), read_image(path)
    changed = 0
    for place in range(0, len(data), 7):
        path.write_bytes(data[:place] + bytes([data[place] ^ 16]) + data[place + 1 :])
        try:
            np.testing.assert_array_equal(read_image(path), complete)
        except InputError:
            changed += 1
    assert changed > len(data) // 7 * 0.8


def test_a_tiff_whose_writer_was_stopped_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, smooth_pixels(40, 50), photometric="rgb", rowsperstrip=8, metadata=None, compression="lzw")
    with tifffile.TiffFile(path, mode="r+") as file:
        tag = file.pages[0].tags["StripOffsets"]
        tag.overwrite([*tag.value[:-1], 0])
    assert "lacks some of its data" in refused(path)


@pytest.mark.parametrize("compression", [None, "lzw"])
@pytest.mark.parametrize("layout", ["contig", "separate"])
@pytest.mark.parametrize("tables", [("StripOffsets", "StripByteCounts"), ("StripOffsets",), ("StripByteCounts",)])
def test_a_tiff_with_a_table_of_fewer_blocks_than_it_has_is_refused(
    tmp_path: Path, tables: tuple[str, ...], layout: str, compression: str | None
) -> None:
    path, pixels = tmp_path / "image.tif", smooth_pixels(40, 50)
    laid = pixels if layout == "contig" else pixels.transpose(2, 0, 1)
    options = {"photometric": "rgb", "planarconfig": layout, "rowsperstrip": 8, "compression": compression}
    tifffile.imwrite(path, laid, metadata=None, **options)
    np.testing.assert_array_equal(read_image(path), pixels)
    with tifffile.TiffFile(path) as file:
        tags = [file.pages[0].tags[name] for name in tables]
    data = bytearray(path.read_bytes())
    for tag in tags:  # 5, of the 15 of three bands; 3 of the 5 of interleaved ones
        struct.pack_into("<I", data, tag.offset + 4, 5 if layout == "separate" else 3)
    path.write_bytes(data)
    assert "lacks some of its data" in refused(path)


def test_a_tag_of_a_thousand_values_is_told_briefly(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, smooth_pixels(40, 50), photometric="rgb", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["Compression"].overwrite([7, 9] * 500)
    assert len(refused(path)) < 200


@pytest.mark.parametrize("value", [0, 3, 255])
def test_a_tiff_whose_bands_are_laid_out_in_no_known_way_is_refused(tmp_path: Path, value: int) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, smooth_pixels(40, 50), photometric="rgb", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["PlanarConfiguration"].overwrite(value)
    assert f"PlanarConfiguration is {value}; valid are 1 and 2" in refused(path)


@pytest.mark.parametrize("back_to", [0, 1, 2])
def test_a_tiff_whose_pages_lead_back_to_an_earlier_one_ends(tmp_path, back_to):
    path = tmp_path / "circle.tif"
    with tifffile.TiffWriter(path) as writer:
        for value in range(3):
            writer.write(np.zeros((16, 16 + value), np.uint8), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        offsets = [page.offset for page in tiff.pages]
    data = bytearray(path.read_bytes())
    (tags,) = struct.unpack_from("<H", data, offsets[-1])
    struct.pack_into("<I", data, offsets[-1] + 2 + 12 * tags, offsets[back_to])
    path.write_bytes(data)

    def hang(number, frame):
        pytest.fail("no answer within 10 s")

    before = signal.signal(signal.SIGALRM, hang)
    signal.alarm(10)
    try:
        with suppress(InputError):  # tifffile does not say how many pages there were
            assert read_image(path).shape[0] == 16
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
