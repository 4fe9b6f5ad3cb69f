"""TIFF files of signed and floating-point numbers are read as float32, with NaN where there are no data."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from datasets.images.grid import Overlap
from datasets.images.read import common_part, read_image, read_opacity, shape_of
from tests.helpers.fake_images import random_pixels, refused, saved

KINDS = ("int8", "int16", "uint32", "int32", "float16", "float32", "float64")


def numbers(kind: str, seed: int = 0) -> np.ndarray:
    """Numbers that float32 can hold, (20, 30, 4)."""
    drawn = np.random.default_rng(seed).integers(0 if kind[0] == "u" else -100, 100, (20, 30, 4))
    return drawn.astype(kind) if kind[0] != "f" else (drawn / 8).astype(kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}])
def test_numbers_are_those_of_the_file(tmp_path: Path, kind: str, options: dict) -> None:
    path, pixels = tmp_path / "a.tif", numbers(kind)
    if kind == "float16":
        options = {name: value for name, value in options.items() if name != "predictor"}
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig", **options)
    shape = shape_of(path)
    assert (shape.height, shape.width, shape.bands, shape.dtype) == (20, 30, 4, "float32")
    np.testing.assert_array_equal(read_image(path), pixels.astype(np.float32))
    assert read_image(path).dtype == np.float32


@pytest.mark.parametrize(
    ("kind", "nodata"), [("int16", "-32768"), ("float32", "-9999"), ("float64", "nan"), ("int32", "7")]
)
def test_declared_nodata_and_what_is_not_finite_is_nan(tmp_path: Path, kind: str, nodata: str) -> None:
    pixels = numbers(kind)
    expected = pixels.astype(np.float32)
    expected[expected == float(nodata)] = np.nan
    if nodata != "nan":
        pixels[3, 4, 1], expected[3, 4, 1] = float(nodata), np.nan
    if kind[0] == "f":
        pixels[5, 6], expected[5, 6] = [np.inf, -np.inf, np.nan, 1], [np.nan, np.nan, np.nan, 1]
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, pixels, photometric="minisblack", planarconfig="contig", extratags=[(42113, "s", 0, nodata, True)]
    )
    np.testing.assert_array_equal(read_image(path), expected)


def test_bands_are_selected_by_number(tmp_path: Path) -> None:
    path, pixels = tmp_path / "a.tif", random_pixels(8, 9, 6, "uint16")
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(read_image(path, 3, select=(6, 1, 2)), pixels[..., [5, 0, 1]])
    assert shape_of(path).offers(3, (6, 1, 2))
    assert not shape_of(path).offers(3, (7, 1, 2))


def test_opacity_is_the_band_that_is_declared_alpha(tmp_path: Path) -> None:
    pixels = random_pixels(8, 9, 4)
    pixels[:3, :, 3] = 0
    pixels[3:, :, 3] |= 1
    for name in ("a.png", "a.tif"):
        opaque = read_opacity(saved(tmp_path / name, Image.fromarray(pixels)))
        assert opaque is not None
        np.testing.assert_array_equal(opaque, pixels[..., 3] > 0)
    assert read_opacity(saved(tmp_path / "b.jpg", Image.fromarray(pixels[..., :3]))) is None
    # The first of two further bands is alpha.
    more = np.dstack([pixels, pixels[..., :1]])
    tifffile.imwrite(tmp_path / "c.tif", more, photometric="rgb", planarconfig="contig", extrasamples=["unassalpha", 0])
    opaque = read_opacity(tmp_path / "c.tif")
    assert opaque is not None
    np.testing.assert_array_equal(opaque, pixels[..., 3] > 0)


def test_a_file_of_floats_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, numbers("float32"), photometric="minisblack", planarconfig="contig")
    path.write_bytes(path.read_bytes()[:-500])
    assert "cut off" in refused(path)


@pytest.mark.parametrize("turned", [1, 6])
def test_how_an_image_is_turned_is_told_and_its_pixels_are_left(tmp_path: Path, turned: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turned
    image = Image.fromarray(random_pixels(16, 24, 3))
    plain = saved(tmp_path / "plain.jpg", image)
    path = saved(tmp_path / "a.jpg", image, exif=exif)
    assert (shape_of(path).turned, shape_of(path).height) == (turned, 16)
    np.testing.assert_array_equal(read_image(path), read_image(plain))
    png = saved(tmp_path / "a.png", image, exif=exif)
    assert shape_of(png).turned == turned
    np.testing.assert_array_equal(read_image(png), np.asarray(image))
    tifffile.imwrite(tmp_path / "a.tif", np.asarray(image), photometric="rgb", extratags=[(274, "H", 1, turned, True)])
    assert shape_of(tmp_path / "a.tif").turned == turned
    other = shape_of(plain)
    found = common_part(other, shape_of(path), "check")
    if turned == 1:
        assert found == Overlap(16, 24, (0, 0), (0, 0))
    else:
        assert "is turned by its EXIF orientation (6), its image otherwise (1)" in str(found)


def test_exif_data_that_are_damaged_turn_nothing(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "a.jpg", Image.fromarray(random_pixels(16, 24, 3)), exif=b"Exif\0\0" + b"MM\0*\xff\xff\xff\xff junk"
    )
    assert shape_of(path).turned == 1
