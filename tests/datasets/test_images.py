"""Images come back as they were saved, and one that is cut off is refused."""

import io
import os
import re
import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets.errors import InputError
from datasets.images import MOST_BANDS, read_classes, read_image, shape_of


def random_pixels(height: int, width: int, bands: int, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    most = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, most, (height, width, bands), dtype, endpoint=True)


def smooth_pixels(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5) + np.cos(y / 7), np.cos((x + y) / 9) * 2, np.sin(x * y / 300) * 2]
    return np.clip(np.stack(waves, 2) * 60 + 128, 0, 255).astype(np.uint8)


def saved(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def refused(path: Path, function=read_image) -> str:
    with pytest.raises(InputError) as error:
        function(path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) not in message  # who calls knows which name the user knows it by
    return message


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
    bands=st.integers(1, MOST_BANDS),
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


# --- what is cut off or damaged


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


# --- what is not supported

CHUNK_OF_NOTHING = struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    for content, expected in (
        (b"", "is empty"),
        (b"GIF89a..................", "is no PNG, JPEG or TIFF"),
        (b"plain text, much of it " * 9, "is no PNG, JPEG or TIFF"),
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
        (np.zeros((5, 6), np.float32), {}, "32 bits (float32); valid are uint8 and uint16"),
        (np.zeros((5, 6), np.int16), {}, "int16"),
        (np.zeros((5, 6), np.uint32), {}, "uint32"),
        (np.zeros((5, 6), bool), {}, "1 bits"),
        (
            np.zeros((5, 6, 14), np.uint8),
            {"photometric": "minisblack", "planarconfig": "contig"},
            "14 bands; valid are 1",
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
    assert "holds 2 images" in refused(tmp_path / "image.tif")


def test_a_jpeg_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "image.jpg", Image.fromarray(smooth_pixels(20, 30)).convert("CMYK"))
    for function in (read_image, shape_of):
        assert "4 bands, 8 bits); valid are baseline and progressive" in refused(path, function)
    path.write_bytes(imagecodecs.ljpeg_encode(random_pixels(20, 30, 1, "uint16")[..., 0]))
    assert "frame type 3" in refused(path)


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
    valid = "valid class numbers are one band"
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
    data = os.environ.get("NOISY_PAIRS_DATA")
    if not data or not (Path(data) / "xbd").is_dir():
        pytest.skip("NOISY_PAIRS_DATA does not name a folder that holds xbd/")
    for path in sorted(Path(data, "xbd").glob("*/images/*.png"))[:4]:
        check(path, np.asarray(Image.open(path).convert("RGB")))
