"""Predictions of each cell on some test images, `predictions/<key>.parquet`, for visual inspection."""

import io
import json
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

#: The columns of a file, which has one row per image: `jpeg` in RGB, `truth` and `predicted` as class numbers, row by
#: row. Uncompressed images would take most of the disk space of a sweep.
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

#: The same for pairs of images, with the first image of each.
PAIRS = PREDICTIONS.append(pa.field("before", pa.binary(), nullable=False))

#: The metadata of a file that names the classes in label order, as JSON.
CLASSES = b"classes"

_REMEDY = "delete it to continue without the predictions of this cell"


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """The prediction of a cell's probe for one test image. All arrays are uint8; class 255 is ignored."""

    key: str
    number: int
    """Number of the test image. Cells of one seed have the same images."""
    image: NDArray[np.uint8]
    """(H, W, 3), RGB. Reading gives slightly other values than were written, because of JPEG."""
    truth: NDArray[np.uint8]
    """(H, W)."""
    predicted: NDArray[np.uint8]
    """(H, W)."""
    classes: Sequence[str] = ()
    """Names of the classes in label order; empty in files of earlier versions."""
    before: NDArray[np.uint8] | None = None
    """The first image of a pair, of which `image` is the second; None: the probe sees one image."""


def write_predictions(folder: str | PathLike[str], key: str, predictions: Iterable[Prediction]) -> Path:
    """Write the predictions of a cell, replacing older ones, and return the path.

    Raises `RecordsError` for arrays of different sizes, `OSError` if the file cannot be written.
    """
    rows, classes = [], list[str]()
    for one in predictions:
        size, classes = one.truth.shape, list(one.classes)
        pictures = {"jpeg": one.image} | ({} if one.before is None else {"before": one.before})
        if one.predicted.shape != size or any(picture.shape != (*size, 3) for picture in pictures.values()):
            raise RecordsError(f"predictions of {key}: the arrays of image {one.number} differ in size")
        pixels = {name: getattr(one, name).astype(np.uint8).tobytes() for name in ("truth", "predicted")}
        jpegs = {name: _packed(picture.astype(np.uint8)) for name, picture in pictures.items()}
        rows.append({"key": key, "number": one.number, "height": size[0], "width": size[1], **jpegs, **pixels})
    schema = PAIRS if rows and "before" in rows[0] else PREDICTIONS
    table = pa.Table.from_pylist(rows, schema.with_metadata({CLASSES: json.dumps(classes)}))
    return parquet.write(Path(folder, "predictions", f"{key}.parquet"), table)


def read_predictions(folder: str | PathLike[str], keys: Sequence[str]) -> list[Prediction]:
    """The predictions of these cells, in this order. A cell without predictions is skipped.

    Raises `RecordsError` if a file cannot be read or does not hold predictions.
    """
    predictions = []
    for key in keys:
        path = Path(folder, "predictions", f"{key}.parquet")
        if not path.is_file():
            continue
        table = parquet.read(path, remedy=_REMEDY)
        if table.schema not in (PREDICTIONS, PAIRS):
            raise RecordsError(f"{path} does not hold predictions: move it elsewhere")
        classes = _class_names(path, table)
        for row in table.to_pylist():
            size = row["height"], row["width"]
            try:
                if min(size) < 1:  # for NumPy, -1 means "as many as fit"
                    raise ValueError(f"an image of {size[1]} x {size[0]} px")
                before = _unpacked(row["before"], size) if "before" in row else None
                arrays = {
                    "image": _unpacked(row["jpeg"], size),
                    "truth": np.frombuffer(row["truth"], np.uint8).reshape(size),
                    "predicted": np.frombuffer(row["predicted"], np.uint8).reshape(size),
                }
            except Exception as error:  # Pillow raises many types for a damaged image
                raise RecordsError(f"{path} is damaged ({describe_error(error)}): {_REMEDY}") from error
            one = Prediction(key=row["key"], number=row["number"], classes=classes, before=before, **arrays)
            predictions.append(one)
    return predictions


def _class_names(path: Path, table: pa.Table) -> list[str]:
    names = (table.schema.metadata or {}).get(CLASSES, b"[]")
    try:
        return [str(name) for name in json.loads(names)]
    except (ValueError, TypeError) as error:
        raise RecordsError(f"{path} is damaged ({describe_error(error)}): {_REMEDY}") from error


def _packed(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _unpacked(jpeg: bytes, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Raises ValueError before decoding an image of another size, or what Pillow raises for a damaged one."""
    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as image:
        if (image.height, image.width, image.mode) != (*size, "RGB"):
            raise ValueError(f"an image of {image.width} x {image.height} px as {image.mode}")
        return np.asarray(image)
