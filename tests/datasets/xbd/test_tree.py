"""What a listing of an xBD tree tells: its pairs, and every file that does not fit."""

import re
import shutil
from pathlib import Path

import pytest

from datasets.errors import InputError
from datasets.xbd.config import XbdSettings
from datasets.xbd.tree import find_root, list_pairs, remarks

SETTINGS = XbdSettings(size=32)
PAIRS = {
    "train": ("blue-flood_00000001", "red-fire_00000003"),
    "tier3": ("red-fire_00000002",),
    "test": ("blue-flood_00000005",),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Empty files, since nothing may be opened."""
    for split, names in PAIRS.items():
        for name in names:
            for side in ("pre", "post"):
                touch(tmp_path / split / "images" / f"{name}_{side}_disaster.png")
                touch(tmp_path / split / "labels" / f"{name}_{side}_disaster.json")
    return tmp_path


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def found(root: Path, settings: XbdSettings = SETTINGS) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """Names of the pairs; what is wrong and which pair it costs, by file."""
    pairs, problems = list_pairs(find_root(root), settings.masks)
    assert problems == sorted(problems)
    return [pair.name for pair in pairs], {problem.where: (problem.what, problem.pair) for problem in problems}


def message(root: Path | None, settings: XbdSettings = SETTINGS) -> str:
    with pytest.raises(InputError) as error:
        list_pairs(find_root(root), settings.masks)
    assert "\n" not in str(error.value)
    return str(error.value)


ALL = sorted(name for names in PAIRS.values() for name in names)


def test_a_sound_tree_is_listed_in_order_of_names(root: Path) -> None:
    pairs, problems = list_pairs(find_root(root), SETTINGS.masks)
    assert problems == []
    assert [(pair.name, pair.group, pair.split) for pair in pairs] == [
        ("blue-flood_00000001", "blue-flood", ""),
        ("blue-flood_00000005", "blue-flood", "test"),
        ("red-fire_00000002", "red-fire", ""),
        ("red-fire_00000003", "red-fire", ""),
    ]
    first = pairs[0]
    assert first.noisy is None  # the masks tell
    assert [path.relative_to(root).as_posix() for path in first.files] == [
        "train/images/blue-flood_00000001_pre_disaster.png",
        "train/images/blue-flood_00000001_post_disaster.png",
        "train/labels/blue-flood_00000001_pre_disaster.json",
        "train/labels/blue-flood_00000001_post_disaster.json",
    ]
    assert all(path.is_file() for pair in pairs for path in pair.files)


def test_hold_other_folders_and_stray_files_cost_nothing(root: Path) -> None:
    touch(root / "hold" / "images" / "blue-flood_00000099_pre_disaster.png")
    touch(root / "train" / "images" / "._blue-flood_00000001_pre_disaster.png")
    touch(root / "train" / "images" / "Thumbs.db")
    touch(root / "train" / "labels" / "readme.txt")
    touch(root / "train" / "targets" / "anything.png")
    touch(root / "xview2.tar.gz")
    assert found(root) == (ALL, {})
    assert remarks(root) == [
        "images that are not read: 1 in hold/images (such as blue-flood_00000099_pre_disaster.png)"
    ]


@pytest.mark.parametrize(
    "folder",
    [
        "hold/images",
        "tier2/images",
        "Train/images",
        "train",
        "train/train/images",
        "train/red-fire/images",
        "train/masks",
    ],
)
def test_folders_of_images_that_are_not_read_are_named(root: Path, folder: str) -> None:
    assert remarks(root) == []
    for number in range(3):
        touch(root / folder / f"red-fire_{number:08}_pre_disaster.tif")
    assert found(root) == (ALL, {})
    (line,) = remarks(root)
    assert line.startswith("images that are not read: 3 in ")
    assert f" {folder} (such as red-fire_00000000_pre_disaster.tif)" in line


def test_folders_that_a_tree_lacks_are_named(root: Path) -> None:
    shutil.rmtree(root / "train")
    assert remarks(root) == ["there is no train/images or tier1/images, where xBD has 2,799 pairs"]
    shutil.rmtree(root / "tier3")
    assert remarks(root)[1:] == ["there is no tier3/images, where xBD has 6,369 pairs"]


# --- other releases and copies


def test_tier1_is_train(root: Path) -> None:
    (root / "train").rename(root / "tier1")
    assert found(root) == (ALL, {})
    assert remarks(root) == []
    pairs, _ = list_pairs(root, SETTINGS.masks)
    assert {pair.name: pair.split for pair in pairs} == {
        name: "test" if split == "test" else "" for split, names in PAIRS.items() for name in names
    }


@pytest.mark.parametrize("end", [".PNG", ".tif", ".TIFF", ".jpg"])
def test_images_and_labels_may_have_other_ends(root: Path, end: str) -> None:
    for path in list(root.glob("*/images/*")):
        path.rename(path.with_suffix(end))
    for path in list(root.glob("test/labels/*")):
        path.rename(path.with_suffix(".JSON"))
    assert found(root) == (ALL, {})
    pairs, _ = list_pairs(root, SETTINGS.masks)
    assert {pair.image.suffix for pair in pairs} == {end}
    assert all(path.is_file() for pair in pairs for path in pair.files)


def test_an_image_of_two_ends_is_read_once_as_before(root: Path) -> None:
    for end in (".PNG", ".tif"):
        touch(root / f"train/images/blue-flood_00000001_pre_disaster{end}")
    names, problems = found(root)
    assert names == ALL
    assert {where: pair for where, (_, pair) in problems.items()} == {
        "train/images/blue-flood_00000001_pre_disaster.PNG": "",
        "train/images/blue-flood_00000001_pre_disaster.tif": "",
    }
    assert all("blue-flood_00000001_pre_disaster.png again; keep one" in what for what, _ in problems.values())
    pairs, _ = list_pairs(root, SETTINGS.masks)
    assert pairs[0].image.suffix == ".png"


def test_sidecars_of_geotiffs_are_passed_over(root: Path) -> None:
    for end in (".tif.aux.xml", ".tif.ovr", ".tfw"):
        touch(root / f"train/images/blue-flood_00000001_pre_disaster{end}")
    assert found(root) == (ALL, {})


# --- what does not fit


def test_a_missing_partner_costs_its_pair_and_is_named(root: Path) -> None:
    (root / "train/images/red-fire_00000003_post_disaster.png").unlink()
    names, problems = found(root)
    assert names == [name for name in ALL if name != "red-fire_00000003"]
    what, pair = problems.pop("train/images/red-fire_00000003_post_disaster.png")
    assert pair == "red-fire_00000003"
    assert "missing" in what
    assert problems == {}


def test_a_missing_label_costs_its_pair_and_is_named(root: Path) -> None:
    (root / "tier3/labels/red-fire_00000002_pre_disaster.json").unlink()
    names, problems = found(root)
    assert names == [name for name in ALL if name != "red-fire_00000002"]
    what, pair = problems.pop("tier3/labels/red-fire_00000002_pre_disaster.json")
    assert pair == "red-fire_00000002"
    assert "tier3/images/red-fire_00000002_pre_disaster.png exists" in what
    assert problems == {}


def test_labels_without_images_are_named_and_cost_nothing(root: Path) -> None:
    touch(root / "test/labels/red-fire_00000009_post_disaster.json")
    names, problems = found(root)
    assert names == ALL
    assert set(problems) == {"test/labels/red-fire_00000009_post_disaster.json"}
    what, pair = problems["test/labels/red-fire_00000009_post_disaster.json"]
    assert "test/images/red-fire_00000009_post_disaster.png" in what
    assert pair == ""


def test_a_folder_that_was_not_unpacked_is_one_problem(root: Path) -> None:
    shutil.rmtree(root / "train" / "labels")
    shutil.rmtree(root / "tier3" / "images")
    names, problems = found(root)
    assert names == ["blue-flood_00000005"]
    assert set(problems) == {"train/labels", "tier3/images"}
    assert all("unpack" in what for what, _ in problems.values())


def test_a_pair_in_two_folders_is_used_from_neither(root: Path) -> None:
    for kind, suffix in (("images", "png"), ("labels", "json")):
        for side in ("pre", "post"):
            touch(root / "test" / kind / f"red-fire_00000003_{side}_disaster.{suffix}")
    names, problems = found(root)
    assert names == [name for name in ALL if name != "red-fire_00000003"]
    ((where, (what, pair)),) = problems.items()
    assert {where, what.split()[3].rstrip(";")} == {
        f"{split}/images/red-fire_00000003_pre_disaster.png" for split in ("train", "test")
    }
    assert pair == "red-fire_00000003"


def test_names_of_the_challenge_are_one_problem_that_tells_what_to_download(root: Path) -> None:
    for number in range(3):
        for side in ("pre", "post"):
            touch(root / "test" / "images" / f"test_{side}_{number:05}.png")
    names, problems = found(root)
    assert names == ALL
    ((where, (what, _)),) = problems.items()
    assert where == "test/images/test_post_00000.png"
    assert re.search(r"6 files.*no labels.*current release.*xview2\.org", what)


@pytest.mark.parametrize(
    "stray",
    [
        "train/images/blue-flood_0000001_pre_disaster.png",  # seven digits
        "train/images/blue-flood_00000001_pre_disaster.webp",
        "train/images/blue-flood_00000001_during_disaster.png",
        "train/images/holiday.JPG",
        "train/labels/blue-flood_00000001_pre_disaster_old.json",
    ],
)
def test_what_looks_like_an_image_or_a_label_must_be_named_like_one(root: Path, stray: str) -> None:
    touch(root / stray)
    names, problems = found(root)
    assert names == ALL
    ((where, (what, pair)),) = problems.items()
    assert where == stray
    assert "<disaster>_<8 digits>_{pre,post}_disaster" in what
    assert pair == ""


# --- targets


TARGETS = XbdSettings(size=32, masks="targets")


def add_targets(root: Path, split: str) -> None:
    for name in PAIRS[split]:
        for side in ("pre", "post"):
            touch(root / split / "targets" / f"{name}_{side}_disaster_target.png")


def test_targets_are_taken_where_a_folder_has_them_and_polygons_elsewhere(root: Path) -> None:
    add_targets(root, "train")
    add_targets(root, "test")
    shutil.rmtree(root / "train" / "labels")  # not needed then
    pairs, problems = list_pairs(find_root(root), TARGETS.masks)
    assert problems == []
    assert {(pair.mask.parent.relative_to(root).as_posix(), pair.mask.suffix) for pair in pairs if pair.mask} == {
        ("train/targets", ".png"),
        ("test/targets", ".png"),
        ("tier3/labels", ".json"),
    }
    assert all(path.is_file() for pair in pairs for path in pair.files)


def test_one_missing_target_is_not_made_up_for_by_polygons(root: Path) -> None:
    add_targets(root, "train")
    where = "train/targets/red-fire_00000003_post_disaster_target.png"
    (root / where).unlink()
    names, problems = found(root, TARGETS)
    assert names == [name for name in ALL if name != "red-fire_00000003"]
    assert set(problems) == {where}


def test_targets_that_are_nowhere_are_refused(root: Path) -> None:
    assert "--data.masks polygons" in message(root, TARGETS)


# --- no tree at all


def test_no_root_says_where_to_register_and_how_the_data_must_lie(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    for root in (None, tmp_path / "absent", tmp_path / "file", tmp_path / "empty"):
        told = message(root)
        assert "https://xview2.org" in told
        assert "{train,tier3,test}/{images,labels}/<disaster>_<8 digits>_{pre,post}_disaster.{png,json}" in told
        assert str(root) in told or "--data-root" in told


def test_a_root_one_folder_off_is_told_the_right_one(root: Path) -> None:
    assert "name its parent folder" in message(root / "train")
    outer = root.parent / "outer"
    outer.mkdir()
    root.rename(outer / "xbd")
    assert f"{outer / 'xbd'} is: name that" in message(outer)
