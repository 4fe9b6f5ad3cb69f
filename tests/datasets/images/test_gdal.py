"""Images that GDAL reads, by rasterio: the same pixels as were written, or a refusal in one line."""

import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from datasets.images.grid import Grid
from datasets.images.read import read_classes, read_image, read_opacity, shape_of, shape_of_bytes
from tests.helpers.fake_images import random_pixels, refused

JP2 = {"driver": "JP2OpenJPEG", "QUALITY": 100, "REVERSIBLE": "YES", "YCBCR420": "NO"}
LERC = {"driver": "GTiff", "compress": "LERC"}
WEBP = {"driver": "GTiff", "compress": "WEBP", "WEBP_LOSSLESS": "YES"}
#: Options that lose nothing, kind of numbers, bands.
KINDS = {
    "JPEG 2000": (JP2, "uint8", 3),
    "JPEG 2000 of 16 bits": (JP2, "uint16", 1),
    "TIFF by LERC": (LERC, "uint8", 5),
    "TIFF by LERC of signed numbers": (LERC, "int16", 2),
    "TIFF by WebP": (WEBP, "uint8", 3),
}


def written(path: Path, pixels: np.ndarray, options: dict[str, object], **more: object) -> Path:
    """A file whose place is known, with these pixels (height, width, bands)."""
    height, width, bands = pixels.shape
    place = {"crs": "EPSG:32636", "transform": from_origin(500_000, 4_000_000, 10, 10)}
    kind = {"height": height, "width": width, "count": bands, "dtype": pixels.dtype}
    with rasterio.open(path, "w", **place, **kind, **options, **more) as image:
        image.write(np.moveaxis(pixels, 2, 0))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_that_were_written(tmp_path: Path, kind: str) -> None:
    options, dtype, bands = KINDS[kind]
    pixels = random_pixels(40, 56, bands, dtype)
    path = written(tmp_path / "image.jp2", pixels, options)
    shape = shape_of(path)
    read_as = dtype if dtype in ("uint8", "uint16") else "float32"
    assert (shape.height, shape.width, shape.bands, shape.alpha, shape.dtype) == (40, 56, bands, 0, read_as)
    assert shape.grid == Grid(500_000, 4_000_000, 10, 10, "EPSG:32636")
    assert shape_of_bytes(path.read_bytes()) == shape
    np.testing.assert_array_equal(read_image(path), pixels.astype(read_as))
    np.testing.assert_array_equal(read_image(path, select=(bands, 1)), pixels[..., [-1, 0]].astype(read_as))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, kind: str) -> None:
    options, dtype, bands = KINDS[kind]
    path = written(tmp_path / "image.jp2", random_pixels(40, 56, bands, dtype), options)
    content = path.read_bytes()
    for share in (0.02, 0.3, 0.6, 0.95):
        path.write_bytes(content[: int(len(content) * share)])
        refused(path)


def test_a_file_that_claims_more_than_it_holds_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "image.jp2", random_pixels(40, 56, 3), JP2)
    content = bytearray(path.read_bytes())
    side = struct.pack(">I", 30_000)
    header, size = content.index(b"ihdr") + 4, content.index(b"\xff\x51") + 6
    content[header : header + 8] = content[size : size + 8] = 2 * side
    content[size + 16 : size + 24] = 2 * side  # one tile
    path.write_bytes(content)
    assert "bytes cannot hold" in refused(path, shape_of)
    assert "bytes cannot hold" in refused(path)


def test_nodata_and_alpha_are_those_of_the_file(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=(20, 30, 2)).astype(np.float32)
    numbers[3:5, 4] = -9999
    read = read_image(written(tmp_path / "numbers.tif", numbers, LERC, nodata=-9999))
    np.testing.assert_array_equal(read, np.where(numbers == -9999, np.nan, numbers))
    pixels = random_pixels(20, 30, 4)
    pixels[7, :, 3] = 0
    path = written(tmp_path / "alpha.tif", pixels, LERC, photometric="RGB", alpha="YES")
    assert (shape_of(path).bands, shape_of(path).alpha) == (3, 1)
    np.testing.assert_array_equal(read_image(path), pixels[..., :3])
    np.testing.assert_array_equal(read_image(path, 4), pixels)
    np.testing.assert_array_equal(read_opacity(path), pixels[..., 3] > 0)
    assert read_opacity(written(tmp_path / "colours.tif", pixels[..., :3], LERC)) is None


def test_where_0_is_white_it_is_read_as_by_the_tiff_reader(tmp_path: Path) -> None:
    pixels = random_pixels(20, 30, 1)
    for options in (LERC, {"driver": "GTiff"}):
        path = written(tmp_path / "image.tif", pixels, options, photometric="MINISWHITE")
        np.testing.assert_array_equal(read_image(path), 255 - pixels)


def test_how_a_tiff_is_turned_is_told(tmp_path: Path) -> None:
    path = written(tmp_path / "image.tif", random_pixels(16, 24, 1), LERC)
    with rasterio.open(path, "r+") as image:
        image.update_tags(TIFFTAG_MINSAMPLEVALUE=6)
    content = path.read_bytes()
    assert shape_of(path).turned == 1
    # GDAL cannot write an orientation, so the number of a tag of the same kind (280) becomes that of it (274).
    before, after = (struct.pack("<HHI", tag, 3, 1) for tag in (280, 274))
    assert content.count(before) == 1
    path.write_bytes(content.replace(before, after))
    assert (shape_of(path).turned, shape_of(path).height) == (6, 16)
    assert shape_of_bytes(path.read_bytes()) == shape_of(path)


def test_masks_hold_class_numbers_whatever_their_colours(tmp_path: Path) -> None:
    numbers = random_pixels(20, 30, 1) % 4
    path = written(tmp_path / "mask.tif", numbers, LERC, photometric="palette")
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0], [9, 8, 7]], np.uint8)
    with rasterio.open(path, "r+") as image:
        image.write_colormap(1, {number: tuple(map(int, color)) for number, color in enumerate(colors)})
    np.testing.assert_array_equal(read_classes(path), numbers[..., 0])
    np.testing.assert_array_equal(read_image(path), colors[numbers[..., 0]])
    assert "one band of uint8" in refused(written(tmp_path / "two.tif", random_pixels(9, 9, 2), LERC), read_classes)


@pytest.mark.parametrize(
    "options",
    [
        {"driver": "JP2OpenJPEG", "QUALITY": 20},
        {**LERC, "max_z_error": 2},
        {"driver": "GTiff", "compress": "JPEG"},  # not read by GDAL, but written by it
    ],
    ids=["JPEG 2000", "LERC", "JPEG"],
)
def test_masks_that_have_lost_class_numbers_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    path = written(tmp_path / "mask.tif", random_pixels(40, 56, 1) % 4, options)
    assert "does not keep class numbers; save masks as PNG" in refused(path, read_classes)
    assert read_image(path).shape == (40, 56, 1)


def test_what_lies_beside_an_image_and_what_names_other_files_is_not_read(tmp_path: Path) -> None:
    path = written(tmp_path / "image.jp2", random_pixels(20, 30, 3), JP2)
    expected = shape_of(path)
    place = "<PAMDataset><GeoTransform>1, 2, 0, 3, 0, -2</GeoTransform></PAMDataset>"
    path.with_name("image.jp2.aux.xml").write_text(place)
    assert shape_of(path) == expected
    virtual = '<VRTDataset rasterXSize="30" rasterYSize="20"><VRTRasterBand dataType="Byte" band="1"/></VRTDataset>'
    (tmp_path / "image.vrt").write_text(virtual)
    assert "is not a PNG, JPEG or TIFF" in refused(tmp_path / "image.vrt")


@pytest.mark.parametrize(("kind", "told"), [("JPEG 2000", "is JPEG 2000"), ("TIFF by LERC", "is compressed by LERC")])
def test_without_rasterio_the_remedy_is_named(
    tmp_path: Path, kind: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, dtype, bands = KINDS[kind]
    path = written(tmp_path / "image.jp2", random_pixels(40, 56, bands, dtype), options)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    assert told in refused(path)
    assert "install rasterio, which reads it" in refused(path, shape_of)
