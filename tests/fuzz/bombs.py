"""Small files that claim, or unpack to, more than any machine has."""

import io
import json
import pickle
import struct
import zlib

import imagecodecs
import numpy as np
import tifffile

from tests.fuzz.pictures import jpegs
from tests.helpers.fake_images import smooth_pixels


def png(width: int, height: int, colour: int = 2, depth: int = 8, data: bytes = b"") -> bytes:
    """A PNG whose pixels are `data`, compressed as often as is asked for."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(6)) if colour == 3 else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + palette
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def jpeg(width: int, height: int, *, scans: int = 0) -> bytes:
    """A JPEG of another size than its data, its last scan as often as is asked for."""
    data = jpegs()[1 if scans else 0]
    for kind in (b"\xff\xc0", b"\xff\xc2"):
        at = data.find(kind)
        if at > 0:
            data = data[: at + 5] + struct.pack(">HH", height, width) + data[at + 9 :]
            break
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * scans + data[-2:]


def tiff(side: int = 24, claim: int = 0, **options: object) -> bytes:
    """A TIFF that claims another height and width than it has."""
    file = io.BytesIO()
    tifffile.imwrite(file, smooth_pixels(side, side)[..., 0], metadata=None, **options)
    file.seek(0)
    with tifffile.TiffFile(file, mode="r+") as opened:
        if claim:
            for name in ("ImageWidth", "ImageLength"):
                opened.pages[0].tags[name].overwrite(claim)
    return file.getvalue()


def tiff_of(tag: int, content: bytes) -> bytes:
    """A TIFF of one strip of 16 x 16 grey pixels in any compression, with any content."""
    tags = [
        (256, 3, 16),
        (257, 3, 16),
        (258, 3, 8),
        (259, 3, tag),
        (262, 3, 1),
        (273, 4, 122),
        (277, 3, 1),
        (278, 3, 16),
    ]
    tags.append((279, 4, len(content)))
    entries = b"".join(struct.pack("<HHII", name, kind, 1, value) for name, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + content


def images() -> dict[str, bytes]:
    """All that `read_image` is to refuse, or to read as what it shows, without memory for what is claimed."""
    much = bytes(2**28)  # packed a thousandfold
    return {
        "PNG of 2^31 px a side": png(2**31 - 1, 2**31 - 1),
        "PNG of 60,000 px a side, without data": png(60_000, 60_000),
        "PNG of 30,000 px a side, 16 bits": png(30_000, 30_000, depth=16, data=bytes(10_000)),
        "PNG with a palette of 2^31 px a side": png(2**31 - 1, 2**31 - 1, colour=3),
        "PNG of 8 px that unpacks to 256 MiB": png(8, 8, colour=0, data=much),
        "JPEG of 65,500 px a side": jpeg(65_500, 65_500),
        "JPEG of 65,500 px a side, progressive": jpeg(65_500, 65_500, scans=1),
        "JPEG of 2,000 scans": jpeg(24, 24, scans=2_000),
        "JPEG of fill bytes": jpegs()[0][:-2] + b"\xff" * 2_000_000,
        "JPEG of fill bytes and an end": jpegs()[0][:-2] + b"\xff" * 2_000_000 + b"\xd9",
        "TIFF of 2^31 px a side": tiff(claim=2**31 - 1),
        "TIFF of 65,000 px a side, deflate": tiff(claim=65_000, compression="deflate"),
        "TIFF with tiles, 65,000 px a side": tiff(claim=65_000, tile=(16, 16), compression="deflate"),
        "TIFF, deflate, 256 MiB in a strip": tiff_of(8, zlib.compress(much)),
        "TIFF, Zstandard, 256 MiB in a strip": tiff_of(50000, imagecodecs.zstd_encode(much)),
        "TIFF, LZMA, 256 MiB in a strip": tiff_of(34925, imagecodecs.lzma_encode(much)),
        "TIFF, LZW, 64 MiB in a strip": tiff_of(5, imagecodecs.lzw_encode(much[: 2**26])),
        "TIFF, PackBits, 64 MiB in a strip": tiff_of(32773, b"\x81\0" * 2**19),
        "TIFF with a JPEG of 65,500 px a side": tiff_of(7, jpeg(65_500, 65_500)),
        "TIFF with JPEG 2000": tiff_of(34712, imagecodecs.jpeg2k_encode(smooth_pixels(16, 16)[..., 0])),
        "TIFF of 2^32 directories": b"II*\0" + struct.pack("<IH", 8, 0) + struct.pack("<I", 8) * 1000,
    }


def labels() -> dict[str, bytes]:
    """Label files."""

    def of(*shapes: str) -> bytes:
        return json.dumps({"features": {"xy": [{"properties": {}, "wkt": wkt} for wkt in shapes]}}).encode()

    zigzag = ", ".join(f"{x % 900} {1023 * (x % 2)}" for x in range(200_000))
    return {
        "a hundred thousand collections": of("GEOMETRYCOLLECTION (" * 100_000 + ")" * 100_000),
        "a hundred thousand brackets": of("POLYGON " + "(" * 100_000 + ")" * 100_000),
        "edges that cross 200 million rows": of(f"POLYGON (({zigzag}, 0 0))"),
        "JSON of a hundred thousand lists": b"[" * 100_000,
        "a coordinate of a million digits": of(f"POLYGON ((0 0, {'9' * 1_000_000} 0, 1 1, 0 0))"),
    }


def batches() -> dict[str, bytes]:
    """CIFAR-10's batches."""
    hex_codec = b"c_codecs\nencode\n"
    doubled = hex_codec + b"X\x01\0\0\0aX\x03\0\0\0hex\x86R"
    return {
        "a place of 2^28": b"\x80\x02Nr\xff\xff\xff\x0f.",
        "2^60 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"x.",
        "a frame of 2^63": b"\x80\x04\x95" + struct.pack("<Q", 2**64 - 1) + b"N.",
        "an array of 2^40": b"\x80\x02cnumpy\nndarray\nJ\0\0\0\x7f\x85R.",
        "another encoding": b"\x80\x02" + doubled + b".",
        "an object of NumPy": pickle.dumps({"data": np.array([{}], object), "labels": [1]}, protocol=4),
        "labels in labels": pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [_nested(40)]}, protocol=4),
        "a million marks": b"\x80\x02" + b"(" * 1_000_000 + b".",
        "a hundred thousand lists": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    }


def _nested(depth: int) -> list:
    inner: list = [0]
    for _ in range(depth):
        inner = [inner, inner]
    return inner


def plans() -> dict[str, bytes]:
    """Files in the place of sweep.yaml."""
    laughs = "a0: &a0 [1, 1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    return {
        "a billion laughs": (laughs + "seeds: *a39\n").encode(),
        "laughs for a recipe": (laughs + "recipe: *a39\n").encode(),
        "laughs for names": (laughs + "recipe: {data: {dataset: manifest, classes: *a39}}\n").encode(),
        "itself": b"&a {recipe: *a}\n",
        "five thousand brackets": b"[" * 5_000,
        "two million letters": b"# " + b"x" * 2_000_000,
        "a number of a million digits": b"rho: [" + b"9" * 900_000 + b"]",
    }
