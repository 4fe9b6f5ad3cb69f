"""Images come back as they were saved, and so do class numbers."""

import io
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets.images.read import MAX_BANDS, read_classes, read_image, shape_of
from tests.helpers.fake_images import random_pixels, refused, saved, smooth_pixels
from tests.helpers.real import real


def check(path: Path, expected: np.ndarray) -> None:
    pixels = read_image(path)
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.dtype == expected.dtype
    assert pixels.dtype.isnative
    shape = shape_of(path)
    assert (shape.height, shape.width, shape.bands, shape.dtype) == (*expected.shape, expected.dtype.name)


# --- round trips

sides = st.integers(1, 40)
dtypes = st.sampled_from(["uint8", "uint16"])


@settings(deadline=None)
@given(sides, sides, st.sampled_from([1, 3]), dtypes, st.booleans(), st.integers(0, 9))
def test_png_comes_back(tmp_path_factory, height, width, bands, dtype, alpha, seed) -> None:
    pixels = random_pixels(height, width, bands + alpha, dtype, seed)
    path = tmp_path_factory.getbasetemp() / "image.png"
    path.write_bytes(imagecodecs.png_encode(pixels if bands + alpha > 1 else pixels[..., 0]))
    check(path, pixels[..., :bands])


@settings(deadline=None)
@given(
    height=sides,
    width=sides,
    bands=st.integers(1, MAX_BANDS),
    dtype=dtypes,
    planar=st.booleans(),
    order=st.sampled_from("<>"),
    compression=st.sampled_from([None, "lzw", "deflate", "zstd"]),
    predictor=st.booleans(),
    tiled=st.booleans(),
    bigtiff=st.booleans(),
)
def test_tiff_comes_back(
    tmp_path_factory, height, width, bands, dtype, planar, order, compression, predictor, tiled, bigtiff
) -> None:
    pixels = random_pixels(height, width, bands, dtype)
    path = tmp_path_factory.getbasetemp() / "image.tif"
    path.unlink(missing_ok=True)
    if bands == 1:
        laid, layout = pixels[..., 0], {}
    else:
        laid, layout = (pixels.transpose(2, 0, 1), "separate") if planar else (pixels, "contig")
        layout = {"planarconfig": layout}
    tifffile.imwrite(
        path,
        laid,
        photometric="rgb" if bands == 3 else "minisblack",
        byteorder=order,
        compression=compression,
        predictor=predictor and compression is not None,
        tile=(16, 16) if tiled else None,
        bigtiff=bigtiff,
        **layout,
    )
    check(path, pixels)


@pytest.mark.parametrize("options", [{}, {"metadata": None}, {"imagej": True}])
def test_a_tiff_may_hold_its_bands_as_pages(tmp_path: Path, options: dict) -> None:
    pixels = random_pixels(7, 9, 5, "uint16")
    tifffile.imwrite(tmp_path / "image.tif", pixels.transpose(2, 0, 1), photometric="minisblack", **options)
    check(tmp_path / "image.tif", pixels)


def test_only_declared_alpha_is_dropped_from_a_tiff(tmp_path: Path) -> None:
    pixels = random_pixels(7, 9, 4)
    for kind, bands in (("unassalpha", 3), ("assocalpha", 3), ("unspecified", 4)):
        tifffile.imwrite(tmp_path / "image.tif", pixels, photometric="rgb", extrasamples=[kind])
        check(tmp_path / "image.tif", pixels[..., :bands])


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize(
    ("bands", "photometric", "extra", "alpha"),
    [
        (4, "rgb", [2], 3),  # how GDAL and rasterio write four bands of 8 bits
        (4, "rgb", [1], 3),
        (2, "minisblack", [2], 1),
        (4, "minisblack", [2, 0, 0], 1),  # how GDAL writes ALPHA=YES
        (5, "minisblack", [0, 0, 0, 2], 4),
    ],
)
def test_alpha_of_a_tiff_is_kept_if_so_many_bands_are_asked_for(
    tmp_path: Path, bands: int, photometric: str, extra: list[int], alpha: int, planar: bool, dtype: str
) -> None:
    pixels = random_pixels(7, 9, bands, dtype)
    layout = {"planarconfig": "separate" if planar else "contig", "photometric": photometric, "extrasamples": extra}
    tifffile.imwrite(tmp_path / "image.tif", pixels.transpose(2, 0, 1) if planar else pixels, **layout)
    without = np.delete(pixels, alpha, axis=2)
    check(tmp_path / "image.tif", without)
    assert shape_of(tmp_path / "image.tif").alpha == 1
    for asked, expected in ((bands, pixels), (bands - 1, without), (bands + 1, without)):
        np.testing.assert_array_equal(read_image(tmp_path / "image.tif", asked), expected)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("bands", [1, 3])
def test_alpha_of_a_png_is_kept_if_so_many_bands_are_asked_for(tmp_path: Path, bands: int, dtype: str) -> None:
    pixels = random_pixels(7, 9, bands + 1, dtype)
    (tmp_path / "image.png").write_bytes(imagecodecs.png_encode(pixels))
    assert shape_of(tmp_path / "image.png").alpha == 1
    for asked, expected in ((bands + 1, pixels), (bands, pixels[..., :bands])):
        np.testing.assert_array_equal(read_image(tmp_path / "image.png", asked), expected)


def test_white_as_zero_is_turned_round(tmp_path: Path) -> None:
    pixels = random_pixels(7, 9, 1)
    tifffile.imwrite(tmp_path / "image.tif", pixels[..., 0], photometric="miniswhite")
    check(tmp_path / "image.tif", 255 - pixels)


def test_overviews_of_a_tiff_are_passed_over(tmp_path: Path) -> None:
    pixels = random_pixels(32, 32, 3)
    with tifffile.TiffWriter(tmp_path / "image.tif") as file:
        file.write(pixels, photometric="rgb", metadata=None)
        file.write(pixels[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    check(tmp_path / "image.tif", pixels)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_a_palette_becomes_rgb(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(smooth_pixels(20, 30)).quantize(11)
    check(saved(tmp_path / f"image.{suffix}", image), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("mode", "transparency"), [("RGB", (0, 0, 0)), ("L", 0), ("P", b"\0\x80\xff")])
def test_a_transparent_colour_of_a_png_stays_what_it_is(tmp_path: Path, mode: str, transparency: object) -> None:
    image = Image.fromarray(smooth_pixels(20, 30)).convert(mode)
    expected = np.atleast_3d(np.asarray(image.convert("RGB") if mode == "P" else image))
    check(saved(tmp_path / "image.png", image, transparency=transparency), expected)


def test_a_png_of_single_bits_is_spread_over_8(tmp_path: Path) -> None:
    pixels = smooth_pixels(20, 30)[..., :1] > 128
    check(saved(tmp_path / "image.png", Image.fromarray(pixels[..., 0])), pixels.astype(np.uint8) * 255)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (50, 67), (1, 300)])
def test_a_jpeg_is_what_another_decoder_makes_of_it(
    tmp_path: Path, mode: str, progressive: bool, size: tuple[int, int]
) -> None:
    image = Image.fromarray(smooth_pixels(*size)).convert(mode)
    path = saved(tmp_path / "image.jpg", image, progressive=progressive, quality=93)
    check(path, np.atleast_3d(np.asarray(Image.open(path))))


def test_a_jpeg_with_restarts_a_thumbnail_and_a_tail_is_read(tmp_path: Path) -> None:
    thumbnail = io.BytesIO()
    Image.fromarray(smooth_pixels(16, 16)).save(thumbnail, "jpeg")
    exif = Image.Exif()
    exif[0x9286] = thumbnail.getvalue()  # a user's comment: a JPEG inside of a segment
    image = Image.fromarray(smooth_pixels(50, 67))
    path = saved(tmp_path / "image.jpg", image, restart_marker_blocks=2, exif=exif, comment=b"\xff\xd9")
    path.write_bytes(path.read_bytes() + b"what cameras append\xff\xd9")
    check(path, np.asarray(Image.open(path)))


def test_a_name_does_not_tell_the_kind(tmp_path: Path) -> None:
    pixels = random_pixels(7, 9, 3)
    Image.fromarray(pixels).save(tmp_path / "image.jpg", "png")
    check(tmp_path / "image.jpg", pixels)


def test_exif_does_not_turn_an_image(tmp_path: Path) -> None:
    pixels = random_pixels(7, 9, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    check(saved(tmp_path / "image.png", Image.fromarray(pixels), exif=exif), pixels)


# --- images of class numbers


@settings(deadline=None)
@given(sides, sides, st.sampled_from(["png", "tif"]))
def test_class_numbers_come_back(tmp_path_factory, height, width, suffix) -> None:
    numbers = random_pixels(height, width, 1)[..., 0]
    path = tmp_path_factory.getbasetemp() / f"classes.{suffix}"
    Image.fromarray(numbers).save(path)
    np.testing.assert_array_equal(read_classes(path), numbers)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("colours", [2, 4, 16, 200])
def test_class_numbers_of_a_palette_are_its_numbers(tmp_path: Path, suffix: str, colours: int) -> None:
    numbers = random_pixels(9, 7, 1)[..., 0] % colours
    image = Image.fromarray(numbers)
    image.putpalette(random_pixels(1, colours, 3).tobytes())
    path = saved(tmp_path / f"classes.{suffix}", image)
    assert image.mode == "P"
    np.testing.assert_array_equal(read_classes(path), numbers)


def test_what_holds_no_class_numbers_is_refused(tmp_path: Path) -> None:
    colour = Image.fromarray(smooth_pixels(9, 7))
    valid = "class numbers must be one band"
    assert valid in refused(saved(tmp_path / "a.png", colour), read_classes)
    assert valid in refused(saved(tmp_path / "b.tif", colour), read_classes)
    assert valid in refused(saved(tmp_path / "c.png", colour.convert("L").convert("I;16")), read_classes)
    assert valid in refused(saved(tmp_path / "d.tif", colour.convert("L").convert("I;16")), read_classes)
    assert valid in refused(saved(tmp_path / "e.png", colour.convert("1")), read_classes)
    assert "JPEG" in refused(saved(tmp_path / "f.jpg", colour.convert("L")), read_classes)
    palette = saved(tmp_path / "g.png", colour.quantize(16))
    palette.write_bytes(palette.read_bytes()[:-30])
    assert "cut off" in refused(palette, read_classes)


# --- real photographs


@pytest.mark.realdata
def test_real_satellite_images_are_read_as_another_decoder_does() -> None:
    for path in sorted(real("xbd").glob("*/images/*.png"))[:4]:
        check(path, np.asarray(Image.open(path).convert("RGB")))
