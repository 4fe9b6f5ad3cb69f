"""Reads masks of class numbers, from label files of xBD or from images of class numbers."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import shapely
from jaxtyping import UInt8

from datasets.errors import InputError, describe_error, one_line, refuse_pointer
from datasets.images import polygons
from datasets.images.read import Embedded, Picture, read_classes
from datasets.types import IGNORED

DAMAGES = {"no-damage": 1, "minor-damage": 2, "major-damage": 3, "destroyed": 4}
UNCLASSIFIED = "un-classified"
BUILDING = "building"  # subtype of buildings before a disaster
# Only these are parsed: GEOS reads collections recursively, and deep ones crash the process.
WKT = re.compile(r"\s*(MULTI)?POLYGON\b[\x00-\x7f]*\Z", re.IGNORECASE)
MAX_COORDINATE = 1e9  # px; beyond any real image, and far from overflow

Unclassified = Literal["no-damage", "ignore"]


@dataclass(frozen=True)
class Mask:
    """Class numbers of an image."""

    labels: UInt8[np.ndarray, "h w"]
    buildings: Mapping[str, int] = field(default_factory=dict)
    """xBD: number of polygons of each subtype; `building` without subtypes."""


def read_mask(picture: Picture, height: int, width: int, *, unclassified: Unclassified) -> Mask:
    """Read the mask of an image of `height` x `width` px.

    A .json file is an xBD label file. The polygons of `features.xy` get these classes, all other pixels 0: no-damage 1,
    minor-damage 2, major-damage 3, destroyed 4. All are 1 in a file named `..._pre_disaster.json`, and in one without
    subtypes unless it is named `..._post_disaster.json`. A polygon covers the pixels whose centres it contains (see
    `polygons.rasterize`). The official targets differ along edges: they cover every pixel that an edge touches.

    Any other file is an image of one band of 8 bits, whose values are the classes; 255 is `IGNORED`.

    Args:
        picture: the file, or the cell of a table.
        height: rows of the image.
        width: columns of the image.
        unclassified: class of un-classified buildings: that of no-damage, or `IGNORED`.

    Raises:
        InputError: the file cannot be read, has another size than the image, or has an unknown subtype. The message
            does not name the file.
    """
    if not isinstance(picture, Embedded) and picture.suffix.lower() == ".json":
        return _parse_label_file(_load_json(picture), height, width, unclassified, picture.stem)
    labels = read_classes(picture)
    _check_shape(labels, height, width)
    return Mask(labels)


def read_changes(picture: Picture, height: int, width: int) -> UInt8[np.ndarray, "h w"]:
    """Read a mask of what changed in a pair of images: 0 where nothing did, 1 elsewhere.

    The file is an image of one band of 8 bits with the values 0 and 1, or 0 and 255.

    Raises:
        InputError: the file cannot be read, has another size than the images, or other values. The message does not
            name the file.
    """
    changes = read_classes(picture)
    _check_shape(changes, height, width)
    values = np.unique(changes).tolist()
    if not (set(values) <= {0, 1} or set(values) <= {0, IGNORED}):
        shown = ", ".join(map(str, values[:5])) + ", ..." * (len(values) > 5)
        raise InputError(f"has the values {shown}; a mask of changes has 0 (unchanged) and 1, or 0 and 255 (changed)")
    return (changes > 0).astype(np.uint8)


def _check_shape(labels: UInt8[np.ndarray, "h w"], height: int, width: int) -> None:
    if labels.shape != (height, width):
        size = f"is {labels.shape[1]} x {labels.shape[0]} px, but its image {width} x {height}"
        raise InputError(f"{size}; they must agree")


def _load_json(path: Path) -> Any:
    try:
        content = path.read_bytes()
        refuse_pointer(content)
        return json.loads(content)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"is cut off or damaged (no JSON: {describe_error(error)})") from error


def _parse_label_file(content: Any, height: int, width: int, unclassified: Unclassified, name: str) -> Mask:
    try:
        features = [(feature["properties"].get("subtype"), feature["wkt"]) for feature in content["features"]["xy"]]
        size = {key: content.get("metadata", {}).get(key) for key in ("width", "height")}
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(
            "is not an xBD label file: it lacks features.xy, or one of these lacks properties or wkt"
        ) from error
    for key, needed in (("width", width), ("height", height)):
        if size[key] not in (None, needed):
            raise InputError(
                f"is for a {key} of {one_line(size[key], most=30)} px, but its image has {needed}; they must agree"
            )
    stated = [None if name.endswith("_pre_disaster") else subtype for subtype, _ in features]
    subtypes = _name_subtypes(stated, needed=name.endswith("_post_disaster"))
    classes = {**DAMAGES, BUILDING: 1, UNCLASSIFIED: IGNORED if unclassified == "ignore" else 1}
    values = np.array([classes[subtype] for subtype in subtypes], np.uint8)
    shapes = _parse_polygons([wkt for _, wkt in features])
    return Mask(polygons.rasterize(shapes, values, height, width), dict(Counter(subtypes)))


def _name_subtypes(subtypes: Sequence[Any], *, needed: bool) -> list[str]:
    """The subtypes; all `BUILDING` if no polygon has one and none is needed."""
    if all(subtype is None for subtype in subtypes) and not needed:
        return [BUILDING] * len(subtypes)
    valid = (*DAMAGES, UNCLASSIFIED)
    for number, subtype in enumerate(subtypes):
        if subtype not in valid:
            name = "no subtype" if subtype is None else f"the unknown subtype {one_line(repr(subtype), most=60)}"
            raise InputError(f"polygon {number} of features.xy has {name}; valid are {', '.join(valid)}")
    return list(subtypes)


def _parse_polygons(texts: Sequence[Any]) -> np.ndarray:
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"polygon {number} of features.xy has a wkt that is not text")
        if not WKT.match(text):
            raise _not_a_polygon(number, text)
    with np.errstate(invalid="ignore", over="ignore"):  # NumPy warns of nan and 1e999, which are refused below
        shapes = shapely.from_wkt(np.array(texts, object), on_invalid="ignore")
    kinds = (shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON)
    bad = ~np.isin(shapely.get_type_id(shapes), kinds)  # invalid WKT becomes None, of type -1
    points, owner = shapely.get_coordinates(shapes, return_index=True)
    bad[owner[~(np.abs(points) < MAX_COORDINATE).all(axis=1)]] = True  # also true for nan
    if bad.any():
        number = int(np.argmax(bad))
        raise _not_a_polygon(number, texts[number])
    return shapes


def _not_a_polygon(number: int, text: str) -> InputError:
    shown = one_line(repr(text[:200]), most=60)
    return InputError(f"polygon {number} of features.xy is not a polygon in px, written as WKT: {shown}")
