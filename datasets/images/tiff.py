"""Reads TIFF files of one image with any layout of bands; refuses incomplete files."""

import io
import logging
import math
from collections.abc import Sequence
from fractions import Fraction
from typing import BinaryIO

import numpy as np
import tifffile
from jaxtyping import Float32, Shaped, UInt8, UInt16
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFrame, TiffPage, TiffPageSeries

from datasets.errors import InputError, one_line
from datasets.images import jpeg
from datasets.images.bounds import Header, check_bytes
from datasets.images.grid import KEYS, SCALE, TIEPOINTS, TRANSFORM, grid_from_tags

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
UNSIGNED = ("uint8", "uint16")
"""Kinds of numbers that stay as they are."""
AS_FLOAT = ("int8", "int16", "uint32", "int32", "float16", "float32", "float64")
"""Kinds that become float32."""
PLAIN = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB)
JPEGS = (COMPRESSION.JPEG, COMPRESSION.OJPEG)
DEFLATES = (COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE)
# Others, such as JPEG 2000, allocate as much memory for a tile as the tile itself claims.
COMPRESSIONS = (COMPRESSION.NONE, COMPRESSION.LZW, *DEFLATES, COMPRESSION.PACKBITS, COMPRESSION.ZSTD, COMPRESSION.LZMA)
VALID = "none, LZW, deflate, PackBits, Zstandard, LZMA and JPEG"
BLOCK = 16  # px by which a JPEG may exceed its tile
BAND_AXES = set("SCQI")  # the letters of tifffile: samples, channels, unknown, pages
ORIENTATION = 274
NODATA = 42113  # the tag GDAL_NODATA, a number as text
PADDING = 32  # bytes that may follow all that the directories of a TIFF name, such as the rest of the last one

# tifffile logs what it finds odd, such as nodata of -9999 for 8 bits. Without a handler Python prints that to stderr.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

LOSSY = "is compressed {}, which does not keep class numbers; save masks as PNG, or as TIFF without loss"

Pixels = UInt8[np.ndarray, "h w b"] | UInt16[np.ndarray, "h w b"] | Float32[np.ndarray, "h w b"]


class CompressionError(InputError):
    """The file has a compression that only GDAL reads."""


def shape(file: BinaryIO | io.BytesIO) -> Header:
    """What the header says."""
    with tifffile.TiffFile(file, _multifile=False) as tiff:
        series = _only_image(tiff)
        sizes = dict(zip(series.axes, series.shape, strict=True))
        bands = int(np.prod([size for axis, size in sizes.items() if axis not in "YX"]))
        if series.keyframe.photometric == PHOTOMETRIC.PALETTE:
            bands = 3
        alpha = len(_alpha_bands(series))
        bits = 8 * series.dtype.itemsize if series.dtype.name in UNSIGNED else 32
        tags = series.keyframe.tags
        grid = grid_from_tags({tag: tags[tag].value for tag in (SCALE, TIEPOINTS, TRANSFORM, KEYS) if tag in tags})
        return Header(sizes["Y"], sizes["X"], bands - alpha, alpha, bits, grid, _turned(series.keyframe))


def turned(file: BinaryIO | io.BytesIO) -> int:
    """How viewers turn or mirror the first image, as EXIF counts it; also for compressions that are not read here."""
    with tifffile.TiffFile(file, _multifile=False) as tiff:
        return _turned(tiff.pages.first)


def alpha_bands(file: BinaryIO | io.BytesIO) -> list[int]:
    """Indices of the bands that are declared alpha."""
    with tifffile.TiffFile(file, _multifile=False) as tiff:
        return _alpha_bands(_only_image(tiff))


def decode(file: BinaryIO | io.BytesIO, *, keep_alpha: bool) -> Pixels:
    """The pixels, with or without the bands that are declared alpha; a palette as RGB of 8 bits per sample.

    Signed and floating-point numbers, and integers of more than 16 bits, become float32. In these, nodata and what is
    not finite is NaN.
    """
    with tifffile.TiffFile(file, _multifile=False) as tiff:
        series = _only_image(tiff)
        pixels = _read_pixels(tiff, series)
        page = series.keyframe
        if page.photometric == PHOTOMETRIC.PALETTE:
            assert page.colormap is not None
            return np.ascontiguousarray((page.colormap.T >> 8).astype(np.uint8)[pixels[..., 0]])
        if page.photometric == PHOTOMETRIC.MINISWHITE:
            return np.iinfo(pixels.dtype).max - pixels
        return without_bands(pixels, [] if keep_alpha else _alpha_bands(series), _declared_nodata(series))


def without_bands(pixels: np.ndarray, dropped: Sequence[int], nodata: float | None) -> Pixels:
    """The pixels without these bands; as float32 if they are of a kind in `AS_FLOAT`, with NaN for nodata."""
    kept = np.ascontiguousarray(np.delete(pixels, dropped, axis=2) if dropped else pixels)
    return kept if kept.dtype.name in UNSIGNED else _as_float(kept, nodata)


def _as_float(pixels: np.ndarray, nodata: float | None) -> Float32[np.ndarray, "h w b"]:
    absent = np.zeros(pixels.shape, bool) if nodata is None else pixels == np.asarray(nodata).astype(pixels.dtype)
    with np.errstate(over="ignore"):  # float64 beyond float32 becomes infinite, which is absent
        values = pixels.astype(np.float32)
    values[absent | ~np.isfinite(values)] = np.nan
    return values


def classes(file: BinaryIO | io.BytesIO) -> UInt8[np.ndarray, "h w"]:
    """The numbers in an image of one band of 8 bits; the colours of a palette are ignored."""
    with tifffile.TiffFile(file, _multifile=False) as tiff:
        series = _only_image(tiff)
        if series.keyframe.compression in JPEGS:
            raise InputError(LOSSY.format("by JPEG"))
        pixels = _read_pixels(tiff, series)
        if pixels.dtype != np.uint8 or pixels.shape[2] != 1:
            bands = f"{pixels.shape[2]} band{'s' * (pixels.shape[2] > 1)}"
            raise InputError(f"has {bands} of {pixels.dtype}; class numbers must be one band of uint8")
        return np.ascontiguousarray(pixels[..., 0])


def _turned(page: TiffPage | TiffFrame) -> int:
    value = page.aspage().tags.valueof(ORIENTATION, default=1)
    return value if isinstance(value, int) else 1


def _only_image(tiff: tifffile.TiffFile) -> TiffPageSeries:
    """The one image of the file; overviews and transparency masks do not count."""
    len(tiff.pages)  # finds all pages; otherwise tifffile may loop forever if a page points back to an earlier one
    images = [series for series in tiff.series if not (series.keyframe.is_reduced or series.keyframe.is_mask)]
    if len(images) != 1:
        raise InputError(
            f"has {len(images)} images; a TIFF must have one (is it cut off?)"
            if not images
            else f"has {len(images)} images; a TIFF must have one: save each to a file of its own"
        )
    series = images[0]
    page = series.keyframe
    others = [axis for axis, size in zip(series.axes, series.shape, strict=True) if axis not in "YX" and size > 1]
    if not {"Y", "X"} <= set(series.axes) or len(others) > 1 or not set(others) <= BAND_AXES:
        raise InputError(f"has the axes {series.axes} {series.shape}; valid are height, width and bands")
    if series.dtype.name not in (*UNSIGNED, *AS_FLOAT) or page.bitspersample != 8 * series.dtype.itemsize:
        raise InputError(
            f"has samples of {one_line(page.bitspersample, most=40)} bits ({series.dtype}); valid are "
            f"{', '.join((*UNSIGNED, *AS_FLOAT))}"
        )
    if not _has_known_colors(page):
        colors = PHOTOMETRIC(page.photometric).name
        raise InputError(f"has the colours {colors}; valid are grey, RGB, 8-bit palette and JPEG: convert it")
    if page.samplesperpixel > 1 and page.planarconfig not in (1, 2):
        actual = one_line(page.planarconfig, most=40)
        raise InputError(f"is damaged (its PlanarConfiguration is {actual}; valid are 1 and 2)")
    if page.compression not in (*COMPRESSIONS, *JPEGS):
        how = one_line(getattr(page.compression, "name", page.compression), most=40)  # a damaged tag has many values
        raise CompressionError(f"is compressed by {how}; without rasterio, valid are {VALID}")
    itemsize = series.dtype.itemsize if series.dtype.name in UNSIGNED else max(4, series.dtype.itemsize)
    counts = [count for one in series.pages if one is not None for count in one.databytecounts]
    stored = Fraction(sum(map(bool, counts)), max(1, len(counts)))
    # A block is bounded by the file even if it is left out: so the table of blocks bounds what a small file can claim.
    for shape, share in ((series.shape, stored), (page.chunks, Fraction(1))):
        check_bytes(math.prod(map(int, shape)) * itemsize, tiff.filehandle.size, share)
    return series


def _has_known_colors(page: TiffPage) -> bool:
    if page.photometric in (PHOTOMETRIC.PALETTE, PHOTOMETRIC.MINISWHITE):
        unsigned = page.dtype is not None and page.dtype.name in UNSIGNED
        return (
            unsigned
            and page.samplesperpixel == 1
            and (page.bitspersample == 8 or page.photometric != PHOTOMETRIC.PALETTE)
        )
    return page.photometric in PLAIN or (page.photometric == PHOTOMETRIC.YCBCR and page.compression in JPEGS)


def _alpha_bands(series: TiffPageSeries) -> list[int]:
    """Indices of the bands that are declared alpha, associated (1) or not (2)."""
    page = series.keyframe
    first = page.samplesperpixel - len(page.extrasamples)
    return [first + i for i, kind in enumerate(page.extrasamples) if kind in (1, 2)]


def _read_pixels(tiff: tifffile.TiffFile, series: TiffPageSeries) -> Shaped[np.ndarray, "h w b"]:
    """All bands, as the last axis, if the file is complete: some codecs silently fill in missing data.

    A block of no bytes was never written, because all its pixels are nodata (GDAL: sparse files): it is filled with the
    nodata value, or 0 if there is none.
    """
    pages = [page for page in series.pages if page is not None]  # a later page of one contiguous block is None
    for page in pages:
        _check_blocks(tiff, page, series.keyframe)
    if not any(count for page in pages for count in page.databytecounts):
        _check_end(tiff)
    series.keyframe.nodata = _nodata(series)
    if all(any(page.databytecounts) for page in pages):
        pixels = series.asarray(maxworkers=1)
    else:  # tifffile takes a page of one block for stored, and reads its pixels from the start of the file
        pixels = np.stack([_read_page(page, series.keyframe) for page in pages]).reshape(series.shape)
    names = [axis for axis, length in zip(series.axes, pixels.shape, strict=True) if axis in "YX" or length > 1]
    pixels = pixels.reshape([n for axis, n in zip(series.axes, pixels.shape, strict=True) if axis in "YX" or n > 1])
    if len(names) == 2:
        names, pixels = [*names, "S"], pixels[..., None]
    bands = next(axis for axis in names if axis not in "YX")
    pixels = pixels.transpose([names.index(axis) for axis in ("Y", "X", bands)])
    return np.ascontiguousarray(pixels, dtype=pixels.dtype.newbyteorder("="))


def _read_page(page: TiffPage | TiffFrame, first: TiffPage) -> np.ndarray:
    if any(page.databytecounts):
        return page.asarray(maxworkers=1)
    return np.full(first.shape, first.nodata, first.dtype)


def _nodata(series: TiffPageSeries) -> float:
    """The value of pixels that are not stored, converted as GDAL does it: rounded and clipped, 0 for NaN."""
    value = _declared_nodata(series)
    if series.dtype.kind == "f":
        return 0.0 if value is None else value
    limits = np.iinfo(series.dtype)
    if value is None or math.isnan(value):
        return 0
    return int(np.clip(np.floor(value + 0.5), limits.min, limits.max))


def _declared_nodata(series: TiffPageSeries) -> float | None:
    """The value that stands for nodata; None if the file names none."""
    try:
        return float(str(series.keyframe.tags.valueof(NODATA, default="")).replace(",", "."))
    except ValueError:
        return None


def _check_blocks(tiff: tifffile.TiffFile, page: TiffPage | TiffFrame, first: TiffPage) -> None:
    """Refuse a page that lacks the data of a block which it counts."""
    blocks = [(start, count) for start, count in zip(page.dataoffsets, page.databytecounts, strict=False) if count]
    # tifffile fills in what a table of offsets lacks.
    complete = len(page.dataoffsets) == len(page.databytecounts) >= math.prod(first.chunked)
    if not complete or any(not start or start + count > tiff.filehandle.size for start, count in blocks):
        raise InputError("is cut off or damaged (the TIFF lacks some of its data)")
    if first.compression in JPEGS:
        _check_jpegs(tiff, blocks, first)


def _check_end(tiff: tifffile.TiffFile) -> None:
    """Refuse an empty image whose file ends in data that belong to nothing: its writer was stopped.

    GDAL writes the places of the blocks when it closes a file; until then, no block has any bytes.
    """
    ends = [0]
    for page in tiff.pages:
        ends += [start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if isinstance(page, TiffPage):
            ends += [max(tag.offset, tag.valueoffset + tag.valuebytecount) for tag in page.tags]
    if tiff.filehandle.size > max(ends) + PADDING:
        raise InputError("is cut off or damaged (the TIFF does not say where its data are: was its writer stopped?)")


def _check_jpegs(tiff: tifffile.TiffFile, blocks: Sequence[tuple[int, int]], first: TiffPage) -> None:
    """Refuse a JPEG larger than its tile, because it is decoded as a whole before it is cut."""
    height, width = first.chunks[:2] if first.planarconfig == 1 else first.chunks[-2:]
    for start, count in blocks:
        tiff.filehandle.seek(start)
        h, w = jpeg.extent(tiff.filehandle.read(count))
        if h > height + BLOCK or w > width + BLOCK:
            raise InputError(f"is damaged (a JPEG of {w} x {h} px in a tile of {width} x {height})")
