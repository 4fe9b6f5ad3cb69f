"""Pairs of images that become small stores, what makes and compares these, and the fixtures of their tests."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from datasets.errors import InputError
from datasets.tiles import cutting
from datasets.tiles.cutting import Cut
from datasets.tiles.pairs import PairFiles
from datasets.tiles.request import BuildRequest
from datasets.tiles.store import Store, open_store

SIZE, HEIGHT, WIDTH = 8, 20, 27  # 2 x 3 tiles; 4 rows and 3 columns of pixels are in none
CUT = Cut(size=SIZE, bands=3, noisy_classes=(2, 3))
ARRAYS = ("images", "partners", "masks", "partner_masks")
WHAT = "is cut off (the end of the PNG is missing)"  # what is said of a file that `spoil` took


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(pixels))
    return path


def make_pair(root: Path, number: int, *, masks: str = "both", height: int = HEIGHT, **fields: object) -> PairFiles:
    generator = np.random.default_rng(number)
    images = generator.integers(0, 256, (2, height, WIDTH, 3), dtype=np.uint8)
    # Rare damage, so that some tiles are noisy and some are not.
    labels = np.where(generator.random((2, height, WIDTH)) < 0.02, generator.integers(0, 4, (2, height, WIDTH)), 1)
    labels[:, :5, :5] = 255
    names = [f"{side}/{number}.png" for side in ("image", "partner", "mask", "partner_mask")]
    paths = [save(root / name, pixels) for name, pixels in zip(names[:2], images, strict=True)]
    paths += [save(root / name, pixels.astype(np.uint8)) for name, pixels in zip(names[2:], labels, strict=True)]
    return PairFiles(
        name=f"pair {number}",
        image=paths[0],
        partner=paths[1],
        split=("train", "val", "test")[number % 3],
        group="ab"[number % 2],
        mask=paths[2] if masks in ("both", "image") else None,
        partner_mask=paths[3] if masks in ("both", "partner") else None,
        **fields,
    )


def xbd_pair(root: Path, number: int, *subtypes: str) -> PairFiles:
    pair = make_pair(root, number, masks="none")
    squares = [f"POLYGON (({x} 1, {x + 2} 1, {x + 2} 3, {x} 3, {x} 1))" for x in range(0, 24, 4)]
    labels = []
    for side, known in (("pre", False), ("post", True)):
        features = [
            {"properties": {"subtype": subtype} if known else {}, "wkt": wkt}
            for subtype, wkt in zip(subtypes, squares, strict=False)
        ]
        labels.append(root / f"{number}_{side}.json")
        labels[-1].write_text(json.dumps({"features": {"xy": features}}))
    return replace(pair, mask=labels[0], partner_mask=labels[1])


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def at(store: Store, array: str) -> np.ndarray:
    return {
        "images": store.image,
        "partners": store.partner,
        "masks": store.mask,
        "partner_masks": store.partner_mask,
    }[array]()


def same(one: Store, other: Store) -> bool:
    """Whether two stores hold the same, whatever they say."""
    return (
        one.fingerprint == other.fingerprint
        and all(np.array_equal(at(one, array), at(other, array)) for array in ARRAYS)
        and one.tiles.equals(other.tiles)
        and one.pairs.equals(other.pairs)
        and np.array_equal(one.class_counts, other.class_counts)
    )


def refused(function: Callable[[], object], kind: type[InputError] = InputError) -> str:
    with pytest.raises(kind) as error:
        function()
    if kind is InputError:
        assert "\n" not in str(error.value)
    return str(error.value)


# --- fixtures


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def pairs(root: Path) -> list[PairFiles]:
    return [make_pair(root, number) for number in range(5)]


@pytest.fixture
def bring(root: Path, tmp_path: Path) -> Callable[..., Store]:
    """`open_store` with the usual request."""

    def call(pairs: Sequence[PairFiles], cut: Cut = CUT, *, folder: str = "stores", **options: object) -> Store:
        return open_store(
            BuildRequest(pairs=pairs, cut=cut, folder=tmp_path / folder, **{"root": root, "quiet": True, **options})
        )

    return call


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pairs whose pixels were read."""
    names: list[str] = []
    cut_pair = cutting.cut_pair

    def noted(pair: PairFiles, *rest: object) -> cutting.PairTiles:
        names.append(pair.name)
        return cut_pair(pair, *rest)

    monkeypatch.setattr(cutting, "cut_pair", noted)
    return names


@pytest.fixture
def spoilt(pairs) -> list[PairFiles]:
    """Two pairs with three files that are cut off, and their names."""
    for path in (pairs[1].image, pairs[1].partner_mask, pairs[4].partner):
        spoil(path)
    return pairs
