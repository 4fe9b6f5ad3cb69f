"""Image files to begin with, and the readers of images, class images and textures."""

import io
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from hypothesis import strategies as st
from PIL import Image

from datasets.errors import InputError
from datasets.images.masks import read_mask
from datasets.images.read import read_classes, read_image, shape_of
from datasets.vts.photos import read_categories
from tests.fuzz.law import Reader
from tests.fuzz.mutations import mutated, png_checksums
from tests.helpers.fake_images import random_pixels, smooth_pixels

SIDE = 24


def _pillow(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _tiff(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def pngs() -> list[bytes]:
    colour = Image.fromarray(smooth_pixels(SIDE, SIDE))
    return [
        *(
            _pillow(image, "png")
            for image in (colour, colour.convert("L"), colour.convert("RGBA"), colour.convert("1"))
        ),
        _pillow(colour.quantize(16), "png"),
        _pillow(colour.quantize(200), "png", transparency=3),
        imagecodecs.png_encode(random_pixels(SIDE, SIDE, 3, "uint16")),
    ]


def jpegs() -> list[bytes]:
    colour = Image.fromarray(smooth_pixels(SIDE, SIDE))
    return [
        _pillow(colour, "jpeg", quality=90),
        _pillow(colour, "jpeg", quality=50, progressive=True),
        _pillow(colour.convert("L"), "jpeg"),
        _pillow(colour, "jpeg", restart_marker_rows=1, exif=Image.Exif()),
    ]


def tiffs() -> list[bytes]:
    rgb, grey = smooth_pixels(SIDE, SIDE), smooth_pixels(SIDE, SIDE)[..., 0]
    pages = io.BytesIO()
    with tifffile.TiffWriter(pages) as file:
        for band in rgb.transpose(2, 0, 1):
            file.write(band, photometric="minisblack", metadata=None)
    found = [_tiff(rgb, photometric="rgb", compression=how, rowsperstrip=8) for how in (None, "lzw", "zstd", "lzma")]
    found += [_tiff(grey, compression="deflate", predictor=True), _tiff(grey, tile=(16, 16), bigtiff=True)]
    found += [_tiff(random_pixels(SIDE, SIDE, 5, "uint16"), photometric="minisblack", planarconfig="separate")]
    found += [_tiff(grey, byteorder=">", compression="packbits"), pages.getvalue()]
    found += [_pillow(Image.fromarray(rgb), "tiff", compression="jpeg")]
    return [*found, _pillow(Image.fromarray(rgb).quantize(16), "tiff", compression="tiff_lzw")]


def _image(folder: Path, data: bytes) -> None:
    path = folder / "image"
    path.write_bytes(data)
    try:
        shape = shape_of(path)
    except InputError:
        shape = None
    pixels = read_image(path)
    assert pixels.dtype in (np.uint8, np.uint16)
    assert shape is not None, "pixels of what has no shape"
    assert (*pixels.shape, pixels.dtype.name) == (shape.height, shape.width, shape.bands, shape.dtype)


def _classes(folder: Path, data: bytes) -> None:
    path = folder / "mask"
    path.write_bytes(data)
    numbers = read_classes(path)
    assert numbers.ndim == 2
    assert numbers.dtype == np.uint8
    assert read_mask(path, *numbers.shape, unclassified="ignore").labels.shape == numbers.shape


def _textures(folder: Path, data: bytes) -> None:
    for name in ("first", "noise", "second"):
        category = folder / "textures" / name
        category.mkdir(parents=True, exist_ok=True)
        for number in range(4):
            if not (category / f"{number}.png").exists():
                Image.fromarray(smooth_pixels(SIDE, SIDE)).save(category / f"{number}.png")
    (folder / "textures" / "second" / "3.png").write_bytes(data)
    names, images, _, _ = read_categories(folder / "textures", (), min_side=16, scale=0.9)
    assert names == ("first", "noise", "second")
    assert all(image.dtype == np.uint8 and image.shape[2] == 3 for of_one in images for image in of_one)


def readers() -> list[Reader]:
    png, jpeg, tiff = mutated(pngs(), png_checksums), mutated(jpegs()), mutated(tiffs())
    return [
        *(
            Reader(name=name, inputs=inputs, read=_image, errors=(InputError,))
            for name, inputs in (("png", png), ("jpeg", jpeg), ("tiff", tiff))
        ),
        Reader(name="class image", inputs=png | tiff, read=_classes, errors=(InputError,)),
        Reader(name="textures", inputs=st.one_of(png, jpeg, tiff), read=_textures, errors=(InputError,)),
    ]
