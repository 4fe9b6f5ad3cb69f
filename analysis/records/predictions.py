"""Predictions on some test images of each cell, `predictions/<key>.parquet`, to be looked at."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from analysis.errors import RecordsError
from analysis.records import parquet
from analysis.text import describe_error

#: A file's columns: a row an image; `jpeg` as RGB, `truth` and `predicted` as class numbers, row by row. The image is
#: for looking at, and as bytes would take most of a sweep's disk.
PREDICTIONS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
        pa.field("height", pa.int64(), nullable=False),
        pa.field("width", pa.int64(), nullable=False),
        pa.field("jpeg", pa.binary(), nullable=False),
        pa.field("truth", pa.binary(), nullable=False),
        pa.field("predicted", pa.binary(), nullable=False),
    ]
)

_REMEDY = "delete it to do without this cell's predictions"


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """One test image as a cell's probe sees it: all of uint8; class 255 is ignored."""

    key: str
    number: int
    """Which test image it is: cells of one seed show the same ones."""
    image: NDArray[np.uint8]
    """(H, W, 3), RGB; what is read differs a little from what was written."""
    truth: NDArray[np.uint8]
    """(H, W)."""
    predicted: NDArray[np.uint8]
    """(H, W)."""


def write_predictions(folder: str | PathLike[str], key: str, predictions: Iterable[Prediction]) -> Path:
    """Write a cell's predictions and return the path; replaces older ones.

    Raises `RecordsError` for arrays that do not fit each other, `OSError` when the file cannot be written.
    """
    rows = []
    for one in predictions:
        size = one.truth.shape
        if one.predicted.shape != size or one.image.shape != (*size, 3):
            raise RecordsError(f"predictions of {key}: image {one.number}'s arrays differ in size")
        pixels = {name: getattr(one, name).astype(np.uint8).tobytes() for name in ("truth", "predicted")}
        jpeg = _packed(one.image.astype(np.uint8))
        rows.append({"key": key, "number": one.number, "height": size[0], "width": size[1], "jpeg": jpeg, **pixels})
    return parquet.write(Path(folder, "predictions", f"{key}.parquet"), pa.Table.from_pylist(rows, PREDICTIONS))


def read_predictions(folder: str | PathLike[str], keys: Sequence[str]) -> list[Prediction]:
    """The predictions of these cells, in this order; a cell that has none is passed over.

    Raises `RecordsError` where a file cannot be read or holds something else.
    """
    predictions = []
    for key in keys:
        path = Path(folder, "predictions", f"{key}.parquet")
        if not path.is_file():
            continue
        table = parquet.read(path, remedy=_REMEDY)
        if table.schema != PREDICTIONS:
            raise RecordsError(f"{path} holds no predictions: move it elsewhere")
        for row in table.to_pylist():
            size = row["height"], row["width"]
            try:
                if min(size) < 1:  # NumPy takes -1 for "as many as fit"
                    raise ValueError(f"an image of {size[1]} x {size[0]} px")
                arrays = {
                    "image": _unpacked(row["jpeg"], size),
                    "truth": np.frombuffer(row["truth"], np.uint8).reshape(size),
                    "predicted": np.frombuffer(row["predicted"], np.uint8).reshape(size),
                }
            except Exception as error:  # Pillow raises many kinds for a damaged image
                raise RecordsError(f"{path} is damaged ({describe_error(error)}): {_REMEDY}") from error
            predictions.append(Prediction(key=row["key"], number=row["number"], **arrays))
    return predictions


def _packed(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _unpacked(jpeg: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Raises ValueError or what Pillow raises for a damaged image; nothing is decoded that has another size."""
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        if (image.height, image.width, image.mode) != (*size, "RGB"):
            raise ValueError(f"an image of {image.width} x {image.height} px as {image.mode}")
        return np.asarray(image)
