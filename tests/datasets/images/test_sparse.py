"""Blocks that a sparse TIFF leaves out are nodata, as GDAL reads them; a file that lost its data is refused."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from datasets.images.read import read_classes, read_image
from tests.helpers.fake_images import random_pixels, refused, smooth_pixels

NODATA = 42113  # GDAL_NODATA


def leave_out(path: Path, blocks: Sequence[int], page: int = 0) -> None:
    """Give blocks the offset 0 and no bytes, as GDAL does with SPARSE_OK."""
    with tifffile.TiffFile(path, mode="r+") as file:
        tags = file.pages[page].tags
        for kind in ("Offsets", "ByteCounts"):
            tag = tags[f"Tile{kind}" if f"Tile{kind}" in tags else f"Strip{kind}"]
            values = np.atleast_1d(tag.value).tolist()
            tag.overwrite([0 if block in blocks else value for block, value in enumerate(values)])


def write(path: Path, pixels: np.ndarray, nodata: str | None = None, **options: Any) -> Path:
    tags = [] if nodata is None else [(NODATA, "s", 0, nodata, True)]
    tifffile.imwrite(path, pixels, metadata=None, extratags=tags, **options)
    return path


@pytest.mark.parametrize("bigtiff", [False, True])
@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "zstd", "packbits"])
@pytest.mark.parametrize("blocks", [{"tile": (16, 16)}, {"rowsperstrip": 16}], ids=["tiles", "strips"])
def test_a_block_that_is_left_out_is_nodata_and_all_others_are_what_they_were(
    tmp_path: Path, blocks: dict, compression: str | None, bigtiff: bool
) -> None:
    pixels = random_pixels(48, 32, 1)[..., 0]
    path = write(tmp_path / "mask.tif", pixels, "7", compression=compression, bigtiff=bigtiff, **blocks)
    across = 2 if "tile" in blocks else 1
    leave_out(path, [across])  # the first block of the second row
    expected = pixels.copy()
    expected[16:32, : 32 // across] = 7
    np.testing.assert_array_equal(read_classes(path), expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("planar", [False, True])
def test_bands_are_left_out_alone_or_together(tmp_path: Path, dtype: str, planar: bool) -> None:
    pixels = random_pixels(32, 32, 5, dtype)
    layout = {"planarconfig": "separate" if planar else "contig", "photometric": "minisblack", "tile": (16, 16)}
    path = write(tmp_path / "image.tif", pixels.transpose(2, 0, 1) if planar else pixels, **layout)
    leave_out(path, [6 if planar else 2])
    expected = pixels.copy()
    expected[(slice(16, 32), slice(0, 16), 1) if planar else (slice(16, 32), slice(0, 16))] = 0
    if planar:  # block 6 is the third of the second band
        assert (expected[16:, :16, 0] == pixels[16:, :16, 0]).all()
    np.testing.assert_array_equal(read_image(path), expected)


def test_a_page_that_is_one_block_may_be_left_out(tmp_path: Path) -> None:
    path, pixels = tmp_path / "image.tif", smooth_pixels(40, 50)
    with tifffile.TiffWriter(path) as file:
        for band in pixels.transpose(2, 0, 1):
            file.write(band, photometric="minisblack", metadata=None)
    leave_out(path, [0], page=1)
    np.testing.assert_array_equal(read_image(path), pixels * np.array([1, 0, 1], np.uint8))


def test_tiles_of_jpeg_may_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "image.tif", smooth_pixels(32, 32), photometric="rgb", compression="jpeg", tile=(16, 16))
    whole = read_image(path)
    leave_out(path, [1])
    whole[:16, 16:] = 0
    np.testing.assert_array_equal(read_image(path), whole)


@pytest.mark.parametrize("blocks", [{"tile": (16, 16)}, {"rowsperstrip": 40}], ids=["tiles", "one strip"])
@pytest.mark.parametrize(("nodata", "value"), [(None, 0), ("255", 255)])
def test_a_mask_of_background_alone_has_no_data_at_all(
    tmp_path: Path, blocks: dict, nodata: str | None, value: int
) -> None:
    path = write(tmp_path / "mask.tif", random_pixels(40, 40, 1)[..., 0], nodata, **blocks)
    with tifffile.TiffFile(path) as file:
        start = min(file.pages[0].dataoffsets)
    leave_out(path, range(9))
    assert "was its writer stopped?" in refused(
        path
    )  # GDAL leaves such a file if it is killed: the data, but no places
    path.write_bytes(path.read_bytes()[:start])
    np.testing.assert_array_equal(read_classes(path), np.full((40, 40), value))


@pytest.mark.parametrize(
    ("text", "eight", "sixteen"),  # what rasterio 1.4 (GDAL 3.9) reads
    [
        ("0", 0, 0),
        ("255", 255, 255),
        ("255.0", 255, 255),
        ("  7 ", 7, 7),
        ("1e2", 100, 100),
        ("7,5", 8, 8),
        ("2.4", 2, 2),
        ("2.5", 3, 3),
        ("300", 255, 300),
        ("70000", 255, 65535),
        ("-9999", 0, 0),
        ("-3.4028234663852886e+38", 0, 0),
        ("nan", 0, 0),
        ("inf", 255, 65535),
        ("-inf", 0, 0),
        ("", 0, 0),
        ("none", 0, 0),
    ],
)
def test_nodata_becomes_a_pixel_as_in_gdal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str, eight: int, sixteen: int
) -> None:
    for dtype, value in (("uint8", eight), ("uint16", sixteen)):
        path = write(tmp_path / "image.tif", np.full((32, 32), 9, dtype), text, tile=(16, 16))
        leave_out(path, [0])
        capfd.readouterr()
        pixels = read_image(path)[..., 0]
        assert (pixels[:16, :16] == value).all()
        assert (pixels[16:] == 9).all()
        assert capfd.readouterr().err == ""  # tifffile would complain of values that it does not understand


def test_a_large_sparse_mask_is_no_bomb(tmp_path: Path) -> None:
    side = 12_000  # more than a file of this size could hold
    path = write(tmp_path / "mask.tif", np.full((16, 16), 3, np.uint8), tile=(16, 16))
    with tifffile.TiffWriter(path) as file:
        blocks = (np.full((1024, 1024), 3, np.uint8) for _ in range(144))
        file.write(blocks, shape=(side, side), dtype="uint8", tile=(1024, 1024), compression="zstd", metadata=None)
    leave_out(path, range(143))
    path_size = path.stat().st_size
    mask = read_classes(path)
    assert side * side > 1100 * path_size
    assert (mask[:11_264].any(), mask[11_264:, :11_264].any(), (mask[11_264:, 11_264:] == 3).all()) == (0, 0, 1)


def test_a_small_file_without_data_may_not_claim_any_size(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.tif", np.zeros((40, 40), np.uint8), rowsperstrip=40)
    with tifffile.TiffFile(path) as file:
        start = file.pages[0].dataoffsets[0]
    leave_out(path, [0])
    path.write_bytes(path.read_bytes()[:start])
    assert not read_classes(path).any()
    with tifffile.TiffFile(path, mode="r+") as file:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            file.pages[0].tags[name].overwrite(60_000)  # 3.6 GB
    assert "header claims 3,433 MiB of pixels" in refused(path, read_classes)


def test_overviews_may_be_sparse_too(tmp_path: Path) -> None:
    pixels = random_pixels(32, 32, 1)[..., 0]
    with tifffile.TiffWriter(tmp_path / "image.tif") as file:
        file.write(pixels, tile=(16, 16), metadata=None)
        file.write(pixels[::2, ::2], tile=(16, 16), subfiletype=1, metadata=None)
    leave_out(tmp_path / "image.tif", [0], page=1)
    np.testing.assert_array_equal(read_classes(tmp_path / "image.tif"), pixels)


@pytest.mark.parametrize("kind", ["Offsets", "ByteCounts"])
def test_a_block_with_a_place_or_a_size_alone(tmp_path: Path, kind: str) -> None:
    """A size without a place is damage. A place without a size is nodata, as in GDAL."""
    path = write(tmp_path / "mask.tif", np.full((32, 32), 9, np.uint8), tile=(16, 16))
    with tifffile.TiffFile(path, mode="r+") as file:
        tag = file.pages[0].tags[f"Tile{kind}"]
        tag.overwrite([0, *tag.value[1:]])
    if kind == "Offsets":
        assert "lacks some of its data" in refused(path)
    else:
        assert not read_classes(path)[:16, :16].any()


def test_a_sparse_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.tif", random_pixels(64, 64, 1)[..., 0], "0", tile=(16, 16), compression="lzw")
    leave_out(path, [0, 3, 5])
    data = path.read_bytes()
    read_image(path)
    for cut in range(8, len(data), 97):
        path.write_bytes(data[:cut])
        refused(path)
