"""Where GeoTIFF files lie, and what two of them have in common."""

from dataclasses import replace
from pathlib import Path

import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from datasets.images.grid import Grid, Overlap, misplaced, overlap
from datasets.images.read import shape_of
from tests.helpers.fake_images import random_pixels

HERE = Grid(left=500_000.0, top=4_000_000.0, across=0.5, down=0.5, system="EPSG:32636")
KEYS = (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32636)
SCALE = (33550, "d", 3, (0.5, 0.5, 0.0), True)


def written(path: Path, *tags: tuple) -> Path:
    tifffile.imwrite(path, random_pixels(8, 9, 3), photometric="rgb", extratags=list(tags), metadata=None)
    return path


def keys(*values: int) -> tuple:
    return (34735, "H", len(values), values, True)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ([SCALE, (33922, "d", 6, (0, 0, 0, 5e5, 4e6, 0), True), keys(*KEYS)], HERE),
        ([SCALE, (33922, "d", 6, (2, 4, 0, 500_001, 3_999_998, 0), True), keys(*KEYS)], HERE),  # of another pixel
        ([(34264, "d", 16, (0.5, 0, 0, 5e5, 0, -0.5, 0, 4e6, *(0,) * 7, 1), True), keys(*KEYS)], HERE),
        (
            [
                SCALE,
                (33922, "d", 6, (0, 0, 0, 500_000.25, 3_999_999.75, 0), True),
                keys(1, 1, 0, 2, 1025, 0, 1, 2, *KEYS[8:]),
            ],
            HERE,  # coordinates of centres
        ),
        ([SCALE, (33922, "d", 6, (0, 0, 0, 5e5, 4e6, 0), True)], replace(HERE, system="")),
        ([SCALE], None),
        ([(34264, "d", 16, (0.5, 0.1, 0, 5e5, 0.1, -0.5, 0, 4e6, *(0,) * 7, 1), True), keys(*KEYS)], None),  # rotated
        ([], None),
    ],
)
def test_the_grid_is_that_of_the_tags(tmp_path: Path, tags: list, expected: Grid | None) -> None:
    assert shape_of(written(tmp_path / "a.tif", *tags)).grid == expected


SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@given(st.integers(-30, 30), st.integers(-30, 30), SIDES, SIDES)
def test_the_common_part_is_that_of_the_sets_of_pixels(down: int, across: int, size: tuple, other: tuple) -> None:
    """Pixels with numbers of their own, looked up one by one."""
    partner = replace(HERE, top=HERE.top - 0.5 * down, left=HERE.left + 0.5 * across)
    ours = {(row, column) for row in range(size[0]) for column in range(size[1])}
    common = {(row + down, column + across) for row in range(other[0]) for column in range(other[1])} & ours
    found = overlap(HERE, partner, size, other)
    if not common:
        assert "no part in common" in str(found)
        return
    assert isinstance(found, Overlap)
    assert found.height * found.width == len(common)
    assert found.image == min(common)
    assert found.partner == (min(common)[0] - down, min(common)[1] - across)


@pytest.mark.parametrize(
    ("partner", "expected"),
    [
        (HERE, ""),
        (replace(HERE, left=HERE.left + 0.2), ""),
        (replace(HERE, system=""), ""),
        (replace(HERE, left=HERE.left + 6), "lies 12 px to the east of its image, by their coordinates"),
        (
            replace(HERE, left=HERE.left - 6, top=HERE.top - 1.5),
            "lies 12 px to the west and 3 px to the south of its image",
        ),
        (replace(HERE, top=HERE.top + 0.3), "lies 1 px to the north"),
        (replace(HERE, across=0.6), "has pixels of 0.6 x 0.5, but its image of 0.5 x 0.5"),
        (replace(HERE, across=0.5000001), ""),
        (replace(HERE, system="EPSG:4326"), "has coordinates in EPSG:4326, but its image in EPSG:32636"),
        (None, ""),
    ],
)
def test_what_does_not_lie_on_its_image_says_where_it_lies(partner: Grid | None, expected: str) -> None:
    found = misplaced(HERE, partner, (1024, 1024))
    assert found.startswith(expected)
    assert bool(found) == bool(expected)
