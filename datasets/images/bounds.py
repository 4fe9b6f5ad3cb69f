"""Limits on the size of an image, checked by its header before memory is allocated."""

from datasets.errors import InputError

MOST_BYTES = 2**32  # of pixels; a whole Sentinel-2 scene of 13 bands has 3.1 GB
FREE_BYTES = 2**27  # that any file may claim, however small it is
MOST_TIMES = 1100  # larger ones: bytes of pixels for each byte of the file; deflate makes 1,032 at most, JPEG 1,024


def check_bytes(pixels: int, file: int) -> None:
    """Refuse an image whose pixels are too many, or more than its file can hold: a decompression bomb.

    Args:
        pixels: bytes of all pixels once they are decoded.
        file: bytes of the file.

    Raises:
        InputError: says which.
    """
    if pixels > MOST_BYTES:
        raise InputError(
            f"has {_mib(pixels)} of pixels, at most {_mib(MOST_BYTES)} are read; cut it into smaller images"
        )
    if pixels > FREE_BYTES and pixels > MOST_TIMES * file:
        raise InputError(f"is damaged (its header claims {_mib(pixels)} of pixels, which {file:,} bytes cannot hold)")


def _mib(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
