"""Small trees that lie as xBD does."""

import json
from pathlib import Path

import numpy as np
from PIL import Image


def box(left, top, right, bottom):
    """A rectangle as xBD writes polygons: pixels from `left` up to but without `right`, likewise for rows."""
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return f"POLYGON (({', '.join(f'{x} {y}' for x, y in corners)}))"


HOUSE = box(4, 6, 12, 16)  # 80 pixels of the first tile


def label(path: Path, buildings, size: int) -> None:
    """`buildings`: (wkt, subtype) each; subtype None leaves it out, as the files before a disaster do."""
    features = []
    for number, (wkt, subtype) in enumerate(buildings):
        properties = {"feature_type": "building", "uid": f"uid-{number}"}
        if subtype is not None:
            properties["subtype"] = subtype
        features.append({"properties": properties, "wkt": wkt})
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"width": size, "height": size, "original_width": size, "original_height": size}
    path.write_text(json.dumps({"features": {"lng_lat": features, "xy": features}, "metadata": metadata}))


def image(path: Path, size: int, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)).save(path)


def pair(root: Path, split: str, name: str, after=(), before=None, size: int = 64) -> None:
    """One pair; `after`: (wkt, subtype) of each building; `before`: polygons, those of `after` if None."""
    before = [wkt for wkt, _ in after] if before is None else before
    for number, side in enumerate(("pre", "post")):
        image(root / split / "images" / f"{name}_{side}_disaster.png", size, seed=2 * hash_of(name) + number)
        buildings = [(wkt, None) for wkt in before] if side == "pre" else after
        label(root / split / "labels" / f"{name}_{side}_disaster.json", buildings, size)


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode()[-4:], "little")


def tree(root: Path, train: int = 4, tier3: int = 2, test: int = 2, size: int = 64) -> Path:
    """A sound tree of two disasters: every other pair shows a destroyed house, the others the same house unharmed."""
    number = 0
    for split, count in (("train", train), ("tier3", tier3), ("test", test)):
        for _ in range(count):
            disaster = ("blue-flood", "red-fire")[number // 2 % 2]
            subtype = ("destroyed", "no-damage")[number % 2]
            pair(root, split, f"{disaster}_{number:08}", [(HOUSE, subtype)], size=size)
            number += 1
    return root
