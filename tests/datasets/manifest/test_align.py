"""Pairs whose coordinates differ are refused with the offset, or cut to the part that both images show."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile

from datasets.errors import InputError
from datasets.manifest.__main__ import main
from tests.helpers.fake_pairs import SMALL, SPLITS, data, listed, load, own_store, pixels

FIXTURES = (data, own_store)  # pytest finds them by their names
WORLD = pixels(0, 80)
"""What there is to see; a place in it is its row and column."""
CLASSES = np.random.default_rng(1).integers(0, 3, (80, 80), np.uint8)


def shown(path: Path, row: int, column: int, *, side: int = 40, world: np.ndarray = WORLD) -> None:
    """Write the part of the world from a place on, with its coordinates."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tags = [
        (33550, "d", 3, (2.0, 2.0, 0.0), True),
        (33922, "d", 6, (0, 0, 0, 100 + 2 * column, 900 - 2 * row, 0), True),
    ]
    part = world[row : row + side, column : column + side]
    tifffile.imwrite(path, part, photometric="rgb" if part.ndim == 3 else "minisblack", extratags=tags, metadata=None)


def shifted(folder: Path) -> Path:
    """Six pairs, whose partners lie 3 rows further down and 5 columns further left."""
    rows = []
    for number, split in enumerate(SPLITS):
        row = {"image": f"a/{number}.tif", "partner": f"b/{number}.tif", "split": split}
        row |= {"mask": f"c/{number}.tif", "partner_mask": f"d/{number}.tif", "noisy": "no"}
        shown(folder / row["image"], number, 10)
        shown(folder / row["partner"], number + 3, 5, side=42, world=255 - WORLD)
        shown(folder / row["mask"], number, 10, world=CLASSES)
        shown(folder / row["partner_mask"], number + 3, 5, side=42, world=2 - CLASSES)
        rows.append(row)
    return listed(folder / "pairs.csv", rows)


def test_what_does_not_lie_on_each_other_is_refused_with_the_offset(data: Path, capsys) -> None:
    assert main(["check", str(shifted(data)), "--size", "16"]) == 2
    error = capsys.readouterr().err
    assert "row 2: partner b/0.tif: lies 5 px to the west and 3 px to the south of its image" in error
    assert "--data.align crop" in error


def test_the_common_part_shows_one_place_in_both_images(data: Path, capsys) -> None:
    path = shifted(data)
    source = load(path, replace(SMALL, align="crop"))
    assert len(source.split) == 6 * 4  # 37 x 37 px in common
    number = source.store.tiles.index[source.store.tiles["pair"] == "a/2.tif"][0]
    np.testing.assert_array_equal(source.store.image()[number], WORLD[5:21, 10:26])
    np.testing.assert_array_equal(source.store.partner()[number], 255 - WORLD[5:21, 10:26])
    np.testing.assert_array_equal(source.store.mask()[number], CLASSES[5:21, 10:26])
    np.testing.assert_array_equal(source.store.partner_mask()[number], 2 - CLASSES[5:21, 10:26])
    assert main(["check", str(path), "--size", "16", "--align", "crop"]) == 0
    assert "--data.align crop" in capsys.readouterr().out
    with pytest.raises(
        InputError, match=r"row 2: partner b/0\.tif: has 37 x 37 px in common with its image, less than a"
    ):
        load(path, replace(SMALL, size=40, align="crop"))
    with pytest.raises(InputError, match=r"row 2: partner b/0\.tif: is 42 x 42 px, but its image 40 x 40 px"):
        load(path, replace(SMALL, align="ignore"))


def test_images_in_cells_keep_their_coordinates(data: Path) -> None:
    path = shifted(data)
    cells = [
        {**{f"t{k}_{what}": (data / folder / f"{n}.tif").read_bytes() for k, what, folder in COLUMNS}, "split": split}
        for n, split in enumerate(SPLITS)
    ]
    pq.write_table(pa.Table.from_pylist(cells), data / "x.parquet")
    with pytest.raises(InputError, match="lies 5 px to the west"):
        load(data / "x.parquet")
    found, given = (load(one, replace(SMALL, align="crop")) for one in (data / "x.parquet", path))
    np.testing.assert_array_equal(found.store.partner(), given.store.partner())


COLUMNS = ((1, "image", "a"), (2, "image", "b"), (1, "mask", "c"), (2, "mask", "d"))


def test_coordinates_that_agree_change_nothing(data: Path) -> None:
    path = shifted(data)
    for number in range(6):
        shown(data / f"b/{number}.tif", number, 10, world=255 - WORLD)
        shown(data / f"d/{number}.tif", number, 10, world=2 - CLASSES)
    prints = {load(path, replace(SMALL, align=align)).fingerprint for align in ("check", "ignore")}
    assert len(prints) == 1
