"""A row that cannot be used is named with its number and costs its own pair alone; all are told at once."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from datasets.errors import InputError
from datasets.manifest import source
from datasets.manifest.config import ManifestSettings
from datasets.source import Place
from datasets.tiles.pairs import ProblemsError
from datasets.tiles.source import TileSource
from tests.helpers.fake_pairs import Rows, listed, pixels, read_rows, save, sound

SMALL = ManifestSettings(size=16)


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def load(path: Path, *, skip_bad: bool = False) -> TileSource:
    return source.load(SMALL, Place(root=path, skip_bad=skip_bad))


def fault_missing(data: Path, rows: Rows) -> tuple[int, str]:
    (data / rows[1]["image"]).unlink()
    return 3, "image before/1.png: does not exist"


def fault_missing_mask(data: Path, rows: Rows) -> tuple[int, str]:
    (data / rows[1]["partner_mask"]).unlink()
    return 3, "partner_mask masks/1_after.png: does not exist"


def fault_missing_label_file(data: Path, rows: Rows) -> tuple[int, str]:
    rows[1]["mask"] = "labels/1.json"
    return 3, "mask labels/1.json: does not exist"


def fault_folder(data: Path, rows: Rows) -> tuple[int, str]:
    rows[1]["partner"] = "before"
    return 3, "partner before: is not a file"


def fault_long_name(data: Path, rows: Rows) -> tuple[int, str]:
    rows[1]["partner"] = "x" * 300
    return 3, "File name too long"


def fault_no_image_file(data: Path, rows: Rows) -> tuple[int, str]:
    (data / rows[1]["image"]).write_text("GIF89a")
    return 3, "image before/1.png: is not a PNG, JPEG or TIFF"


def fault_bands(data: Path, rows: Rows) -> tuple[int, str]:
    rows[1]["image"], rows[1]["partner"] = "1.tif", "2.tif"
    save(data / "1.tif", pixels(1, bands=4))
    save(data / "2.tif", pixels(1, bands=3))
    return 3, "image 1.tif: has 4 bands, but --data.bands is 3"


def fault_depth(data: Path, rows: Rows) -> tuple[int, str]:
    save(data / rows[1]["partner"], pixels(1, dtype="uint16"))
    return 3, "partner after/1.png: has 16 bits per value, but most images 8 bits"


def fault_partner_size(data: Path, rows: Rows) -> tuple[int, str]:
    save(data / rows[1]["partner"], pixels(1, side=40)[:, :36])
    save(data / rows[1]["partner_mask"], np.zeros((40, 36), np.uint8))
    return 3, "partner after/1.png: is 36 x 40 px, but its image 32 x 32 px"


def fault_mask_size(data: Path, rows: Rows) -> tuple[int, str]:
    save(data / rows[1]["mask"], np.zeros((32, 30), np.uint8))
    return 3, "mask masks/1.png: is 30 x 32 px, but its image 32 x 32 px"


def fault_mask_lies_elsewhere(data: Path, rows: Rows) -> tuple[int, str]:
    for column, left in (("image", 100.0), ("mask", 108.0)):
        place = [(33550, "d", 3, (2.0, 2.0, 0.0), True), (33922, "d", 6, (0, 0, 0, left, 900.0, 0), True)]
        image = pixels(9) if column == "image" else np.zeros((32, 32), np.uint8)
        rows[1][column] = f"{column}.tif"
        colors = "rgb" if column == "image" else "minisblack"
        tifffile.imwrite(data / rows[1][column], image, photometric=colors, extratags=place, metadata=None)
    return 3, "mask mask.tif: lies 4 px to the east of its image, by their coordinates; correct it, or trust the pixels"


def fault_partner_mask_lies_elsewhere(data: Path, rows: Rows) -> tuple[int, str]:
    fault_mask_lies_elsewhere(data, rows)
    rows[1]["image"], rows[1]["partner"] = "before/1.png", "image.tif"
    rows[1]["mask"], rows[1]["partner_mask"] = "", "mask.tif"
    return 3, "partner_mask mask.tif: lies 4 px to the east of its partner, by their coordinates; correct it, or trust"


def fault_mask_is_turned(data: Path, rows: Rows) -> tuple[int, str]:
    rows[1]["mask"] = "mask.tif"
    turned = [(274, "H", 1, 3, True)]
    tifffile.imwrite(data / "mask.tif", np.zeros((32, 32), np.uint8), photometric="minisblack", extratags=turned)
    return (
        3,
        "mask mask.tif: is turned by its EXIF orientation (3), its image otherwise (1); correct it, or trust the",
    )


def fault_small(data: Path, rows: Rows) -> tuple[int, str]:
    for column in ("image", "partner"):
        save(data / rows[1][column], pixels(ord(column[0]))[:15])
    rows[1]["mask"] = rows[1]["partner_mask"] = ""
    return 3, "before/1.png: is 32 x 15 px, smaller than a tile (--data.size 16)"


def fault_split(data: Path, rows: Rows) -> tuple[int, str]:
    rows[1]["split"] = "Train"
    return 3, "split 'Train': must be train, val or test"


def fault_noisy(data: Path, rows: Rows) -> tuple[int, str]:
    rows[1]["noisy"] = "perhaps"
    return 3, "noisy 'perhaps': must be true, false, yes, no, 1, 0 or empty"


def fault_no_partner(data: Path, rows: Rows) -> tuple[int, str]:
    rows[1]["partner"] = ""
    return 3, "no partner"


def fault_no_split(data: Path, rows: Rows) -> tuple[int, str]:
    rows[1]["split"] = " "
    return 3, "no split"


def fault_twice(data: Path, rows: Rows) -> tuple[int, str]:
    rows.insert(2, {**rows[0], "image": "before/../before/0.png"})
    return 4, "has the same two images as row 2"


def fault_turned_round(data: Path, rows: Rows) -> tuple[int, str]:
    rows.insert(2, {**rows[0], "image": rows[0]["partner"], "partner": rows[0]["image"]})
    return 4, "has the same two images as row 2"


def fault_one_image(data: Path, rows: Rows) -> tuple[int, str]:
    rows[1]["partner"] = rows[1]["image"]
    return 3, "image and partner are the same file"


def fault_leak(data: Path, rows: Rows) -> tuple[int, str]:
    rows[4]["image"] = rows[0]["partner"]
    return 6, "image after/0.png: is also in train (row 2)"


def fault_leak_by_link(data: Path, rows: Rows) -> tuple[int, str]:
    (data / "link.png").symlink_to(data / rows[0]["image"])
    rows[4]["partner"] = "link.png"
    return 6, "partner link.png: is also in train (row 2)"


def fault_truncated(data: Path, rows: Rows) -> tuple[int, str]:
    path = data / rows[1]["image"]
    path.write_bytes(path.read_bytes()[:-40])
    return 3, "before/1.png: is cut off"


def fault_mask_is_a_photograph(data: Path, rows: Rows) -> tuple[int, str]:
    save(data / rows[1]["mask"], pixels(3))
    return 3, "masks/1.png: "


FAULTS: dict[str, Callable[[Path, Rows], tuple[int, str]]] = {
    name.removeprefix("fault_"): function for name, function in globals().items() if name.startswith("fault_")
}
IN_PIXELS = ("truncated", "mask_is_a_photograph")


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_with_its_row_and_costs_that_pair_alone(data: Path, name: str) -> None:
    rows = sound(data)
    row, message = FAULTS[name](data, rows)
    path = listed(data / "pairs.csv", rows)
    with pytest.raises(ProblemsError) as error:
        load(path)
    assert "rows are lines of the file" in str(error.value).splitlines()[0]
    assert {problem.where for problem in error.value.problems} == {f"row {row}"}
    assert message in str(error.value)
    assert str(data) not in "".join(problem.what for problem in error.value.problems)
    loaded = load(path, skip_bad=True)
    assert loaded.store.pairs["pair"].nunique() == len(rows) - 1
    assert f"left out: row {row}: " in loaded.notes[0]


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in IN_PIXELS])
def test_headers_and_listings_tell_before_anything_is_made(data: Path, tmp_path: Path, name: str) -> None:
    rows = sound(data)
    row, message = FAULTS[name](data, rows)
    path = listed(data / "pairs.csv", rows)
    pairs, problems = read_rows(path)
    assert [problem.where for problem in problems] == [f"row {row}"] * len(problems)
    assert message in " ".join(problem.what for problem in problems)
    assert len(pairs) == len(rows) - 1
    with pytest.raises(ProblemsError):
        load(path)
    assert not (tmp_path / "cache").exists()


def test_all_faults_are_told_at_once_in_the_order_of_the_rows(data: Path) -> None:
    rows = sound(data)
    many = [{**rows[0], "image": f"absent {number}.png", "noisy": "?"} for number in range(12)]
    path = listed(data / "pairs.csv", [*rows, *many])
    with pytest.raises(ProblemsError) as error:
        load(path)
    found = [int(problem.where.removeprefix("row ")) for problem in error.value.problems]
    assert found == sorted(found)
    assert set(found) == set(range(8, 20))
    assert {problem.what.split()[0] for problem in error.value.problems} == {"image", "noisy"}
    assert "24 problems" in str(error.value)


def test_groups_that_pandas_has_made_floats_keep_all_digits(data: Path) -> None:
    rows = sound(data)
    days: list[float | None] = [20190101, 20190108, 20190115, 0.1, 1e300, None]
    table = [{**row, "group": day} for row, day in zip(rows, days, strict=True)]
    pairs, problems = read_rows(listed(data / "pairs.parquet", table))
    assert not problems
    assert [pair.group for pair in pairs] == ["20190101", "20190108", "20190115", "0.1", "1e+300", ""]


def test_rows_of_parquet_files_are_counted_from_one(data: Path) -> None:
    rows = sound(data)
    rows[2]["split"] = "valid"
    with pytest.raises(ProblemsError, match="the first row is row 1") as error:
        load(listed(data / "pairs.parquet", rows))
    assert error.value.problems[0].where == "row 3"


def test_a_split_without_rows_is_a_problem(data: Path) -> None:
    with pytest.raises(ProblemsError, match="no row has test; each of train, val, test is needed"):
        load(listed(data / "pairs.csv", sound(data)[:5]))
    with pytest.raises(InputError, match="no row of split test can be used") as error:
        load(data / "pairs.csv", skip_bad=True)
    assert "\n" not in str(error.value)


def test_a_split_that_loses_all_rows_is_refused_even_if_bad_rows_may_be_left_out(data: Path) -> None:
    rows = sound(data)
    (data / rows[5]["image"]).unlink()
    with pytest.raises(InputError, match="no row of split test can be used") as error:
        load(listed(data / "pairs.csv", rows), skip_bad=True)
    assert "\n" not in str(error.value)


def test_splits_without_rows_are_one_problem(data: Path) -> None:
    _, problems = read_rows(listed(data / "pairs.csv", sound(data)[:3]), SMALL)
    assert [problem.what for problem in problems] == ["no row has val or test; each of train, val, test is needed"]


def test_where_no_row_is_left_the_first_problem_is_told(data: Path) -> None:
    rows = sound(data)
    for row in rows:
        row["image"] = f"absent/{row['image']}"
    path = listed(data / "pairs.csv", rows)
    with pytest.raises(InputError, match=r"no row can be used; the first problem is row 2: image absent/") as error:
        load(path, skip_bad=True)
    assert "\n" not in str(error.value)


def test_an_image_may_have_several_partners(data: Path) -> None:
    rows = sound(data)
    rows[1]["image"] = rows[0]["image"]
    pairs, problems = read_rows(listed(data / "pairs.csv", rows), SMALL)
    assert not problems
    assert [pair.name for pair in pairs[:3]] == [
        "before/0.png + after/0.png",
        "before/0.png + after/1.png",
        "before/2.png",
    ]
