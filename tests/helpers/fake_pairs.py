"""Small sets of image pairs, and manifests that list them."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image

from datasets.errors import InputError
from datasets.manifest import source
from datasets.manifest.config import ManifestSettings
from datasets.manifest.rows import read_manifest
from datasets.source import Place
from datasets.tiles.pairs import PairFiles, Problem
from datasets.tiles.source import TileSource

SMALL = ManifestSettings(size=16)
COLUMNS = ("image", "partner", "split", "mask", "partner_mask", "noisy", "group")
SPLITS = ("train", "train", "train", "val", "val", "test")

Rows = list[dict[str, str]]


def pixels(seed: int, side: int = 32, bands: int = 3, dtype: str = "uint8") -> np.ndarray:
    """Noise of the whole range, (side, side, bands)."""
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (side, side, bands), dtype)


def save(path: Path, image: np.ndarray) -> None:
    """Write (h, w) or (h, w, bands) by the ending of the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if path.suffix in (".tif", ".tiff"):
        photometric = "rgb" if image.ndim == 3 and image.shape[2] == 3 else "minisblack"
        tifffile.imwrite(path, image, photometric=photometric, planarconfig="contig" if image.ndim == 3 else None)
    elif path.suffix == ".png":
        path.write_bytes(imagecodecs.png_encode(image))
    else:
        Image.fromarray(image).save(path, quality=95)


def sound(folder: Path, *, side: int = 32, bands: int = 3, dtype: str = "uint8", ending: str = ".png") -> Rows:
    """Six pairs without a fault, three to train, two to validate, one to test; every other one is noisy.

    The left half of each mask is class 1; the right half of a noisy partner's mask is class 2.
    """
    rows = []
    for number, split in enumerate(SPLITS):
        image, partner = f"before/{number}{ending}", f"after/{number}{ending}"
        save(folder / image, pixels(2 * number, side, bands, dtype))
        save(folder / partner, pixels(2 * number + 1, side, bands, dtype))
        mask = np.zeros((side, side), np.uint8)
        mask[:, : side // 2] = 1
        save(folder / "masks" / f"{number}.png", mask)
        noisy = number % 2 == 0
        mask[:, side // 2 :] = 2 if noisy else 0
        save(folder / "masks" / f"{number}_after.png", mask)
        masks = (f"masks/{number}.png", f"masks/{number}_after.png")
        group = ("north", "south")[number // 3]
        rows.append(dict(zip(COLUMNS, (image, partner, split, *masks, "yes" if noisy else "no", group), strict=True)))
    return rows


def listed(path: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    """Write a manifest as CSV, or as Parquet where the name says so."""
    if path.suffix == ".parquet":
        pd.DataFrame(rows).to_parquet(path)
        return path
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def faulty(folder: Path) -> Path:
    """Rows 2, 4 and 5 have faults: one that listings tell, one that only pixels do, and a word."""
    rows = [*sound(folder), *sound(folder / "more")]
    for row in rows[6:]:
        row |= {column: f"more/{row[column]}" for column in ("image", "partner", "mask", "partner_mask")}
    (folder / rows[0]["image"]).unlink()
    damaged = folder / rows[2]["partner"]
    damaged.write_bytes(damaged.read_bytes()[:-30])
    rows[3]["noisy"] = "maybe"
    return listed(folder / "pairs.csv", rows)


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder whose name needs care."""
    return tmp_path / "Bilder aus Köln"


def load(path: Path, settings: ManifestSettings = SMALL, *, skip_bad: bool = False) -> TileSource:
    return source.load(settings, Place(root=path, skip_bad=skip_bad))


def read_rows(path: Path, settings: ManifestSettings = SMALL) -> tuple[list[PairFiles], list[Problem]]:
    """The pairs of a manifest that can be used, and what is wrong with the other rows, without a look at pixels."""
    listing = read_manifest(path, size=settings.size, bands=settings.bands)
    return list(listing.pairs), list(listing.problems)


def line(error: pytest.ExceptionInfo[InputError]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)
