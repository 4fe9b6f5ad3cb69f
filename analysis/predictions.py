"""Predictions on some test images of each cell, `predictions/<key>.parquet`, to be looked at."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis import parquet
from analysis.errors import RecordsError

#: A file's columns: a row an image; pixels row by row, `image` as RGB, `truth` and `predicted` as class numbers.
PREDICTIONS = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),
        pa.field("height", pa.int64(), nullable=False),
        pa.field("width", pa.int64(), nullable=False),
        pa.field("image", pa.binary(), nullable=False),
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
    """(H, W, 3), RGB."""
    truth: NDArray[np.uint8]
    """(H, W)."""
    predicted: NDArray[np.uint8]
    """(H, W)."""


def write_predictions(folder: str | PathLike[str], key: str, found: Iterable[Prediction]) -> Path:
    """Write a cell's predictions and return the path; replaces older ones.

    Raises `RecordsError` for arrays that do not fit each other, `OSError` when the file cannot be written.
    """
    rows = []
    for one in found:
        size = one.truth.shape
        if one.predicted.shape != size or one.image.shape != (*size, 3):
            raise RecordsError(f"predictions of {key}: image {one.number}'s arrays differ in size")
        pixels = {name: getattr(one, name).astype(np.uint8).tobytes() for name in ("image", "truth", "predicted")}
        rows.append({"key": key, "number": one.number, "height": size[0], "width": size[1], **pixels})
    return parquet.write(Path(folder, "predictions", f"{key}.parquet"), pa.Table.from_pylist(rows, PREDICTIONS))


def read_predictions(folder: str | PathLike[str], keys: Sequence[str]) -> list[Prediction]:
    """The predictions of these cells, in this order; a cell that has none is passed over.

    Raises `RecordsError` where a file cannot be read or holds something else.
    """
    found = []
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
                    "image": np.frombuffer(row["image"], np.uint8).reshape(*size, 3),
                    "truth": np.frombuffer(row["truth"], np.uint8).reshape(size),
                    "predicted": np.frombuffer(row["predicted"], np.uint8).reshape(size),
                }
            except ValueError as error:
                raise RecordsError(f"{path} is damaged ({error}): {_REMEDY}") from error
            found.append(Prediction(key=row["key"], number=row["number"], **arrays))
    return found
