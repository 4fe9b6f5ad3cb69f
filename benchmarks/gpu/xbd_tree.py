"""An xBD tree of random pixels, for the speed of tiles: half of its pairs show damaged buildings."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

PICTURES = 4
"""Different images. Their files are linked under the names of all pairs, because the store has a copy for each."""


def make_tree(root: Path, *, train: int, test: int, side: int) -> None:
    """Write a tree, which appears when it is complete.

    Args:
        root: its folder; nothing is done if it exists.
        train: pairs of the folder `train`, which become training and validation tiles.
        test: pairs of the folder `test`.
        side: of the images, px, a multiple of 8.
    """
    if root.exists():
        return
    draft = root.with_name(f".{root.name}.part")
    (draft / "files").mkdir(parents=True)
    for number in range(PICTURES):
        pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(draft / "files" / f"{number}.png", compress_level=0)
    for subtype in (None, "no-damage", "destroyed"):
        (draft / "files" / f"{subtype}.json").write_text(json.dumps(_labels(side, subtype)))
    for split, count in (("train", train), ("test", test)):
        for folder in ("images", "labels"):
            (draft / split / folder).mkdir(parents=True)
        for number in range(count):
            _link_pair(draft, split, number)
    draft.rename(root)


def _link_pair(root: Path, split: str, number: int) -> None:
    """Link the files of both sides of a pair; every second one shows destroyed buildings after the disaster."""
    after = "destroyed" if number % 2 else "no-damage"
    for place, (side, subtype) in enumerate((("pre", None), ("post", after))):
        name = f"random-{split}_{number:08}_{side}_disaster"
        picture = root / "files" / f"{(2 * number + place) % PICTURES}.png"
        (root / split / "images" / f"{name}.png").hardlink_to(picture)
        (root / split / "labels" / f"{name}.json").hardlink_to(root / "files" / f"{subtype}.json")


def _labels(side: int, subtype: str | None) -> object:
    """The content of a label file: 16 square buildings, so that each quarter of the image shows some."""
    step, width = side // 4, side // 8
    features = []
    for top in range(0, side, step):
        for left in range(0, side, step):
            right, bottom = left + width, top + width
            corners = ((left, top), (right, top), (right, bottom), (left, bottom), (left, top))
            wkt = f"POLYGON (({', '.join(f'{x} {y}' for x, y in corners)}))"
            properties = {"feature_type": "building"} | ({"subtype": subtype} if subtype else {})
            features.append({"properties": properties, "wkt": wkt})
    return {"features": {"xy": features}, "metadata": {"width": side, "height": side}}
