"""`init` writes the list of what two folders hold, says what matches nothing, and leaves nothing half written."""

import re
import shutil
import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from datasets.errors import InputError
from datasets.manifest.__main__ import main
from datasets.manifest.holdout import HoldOut
from datasets.manifest.init import Folders, list_pairs
from datasets.tiles.source import TileSource
from tests.helpers.fake_pairs import data, load, own_store, pixels, save, sound

FIXTURES = (data, own_store)  # pytest finds them by their names
DRAWN = HoldOut(0.2, 0.2, 0)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def matched(before: list[str], after: list[str], folder: Path) -> tuple[list[tuple[str, str]], list[str]]:
    """The pairs of names that `init` finds, and what it says."""
    folders = Folders(image=touch(folder / "before", *before), partner=touch(folder / "after", *after))
    found = list_pairs(folders, folder / "pairs.csv", holdout=DRAWN)
    pairs = [(row["image"].removeprefix("before/"), row["partner"].removeprefix("after/")) for row in found.rows]
    return pairs, list(found.lines)


NFD = unicodedata.normalize("NFD", "Köln 1.png")


@pytest.mark.parametrize(
    ("before", "after", "how"),
    [
        (["a.png", "b.png", "c.png"], ["a.png", "b.png", "c.png"], "name"),
        (["a 1.PNG", "b 2.Png", "c.png"], ["a 1.png", "b 2.png", "c.png"], "name"),
        (["Köln 1.png", "b.png", "c.png"], [NFD, "b.png", "c.png"], "name"),
        (["a.png", "b.png", "c.png"], ["a.tif", "b.TIFF", "c.jpg"], "stem"),
        (["x/a.png", "y/b.png", "z/a.png"], ["x/a.tif", "y/b.tif", "z/a.tif"], "stem"),
        (["a_pre.png", "b_pre.png", "d_pre.png"], ["a_post.png", "b_post.png", "d_post.png"], "what differs"),
        (["roma_pre.png", "lima_pre.png", "ma_pre.png"], ["roma_post.png", "lima_post.png", "ma_post.png"], "what"),
        (["10_pre.png", "20_pre.png", "30_pre.png"], ["10_post.png", "20_post.png", "30_post.png"], "what differs"),
        (["aPre.png", "bPre.png", "Köln1Pre.png"], ["aPost.png", "bPost.png", "Köln1Post.png"], "what differs"),
        (["kyiv_1.png", "lviv_2.png", "oslo_3.png"], ["1.png", "2.png", "3.png"], "number"),
        (["a_1_pre.png", "b_2_pre.png", "c_3_pre.png"], ["a_01_post.png", "b_02_post.png", "c_03_post.png"], "number"),
        (["kyiv_1.png", "lviv_2.png", "oslo_3.png"], ["kyiv_01.png", "lviv_02.png", "oslo_03.png"], "number"),
        (["t1_007.png", "t1_8.png", "t1_12.png"], ["2020 t2_7.png", "2020 t2_08.png", "2020 t2_12.png"], "number"),
    ],
)
def test_files_of_one_place_are_matched(tmp_path: Path, before: list[str], after: list[str], how: str) -> None:
    pairs, lines = matched(before, after, tmp_path)
    assert sorted(pairs) == sorted(zip(before, after, strict=True))
    assert lines[0].startswith(f"3 partners matched by {how}")


def test_what_matches_nothing_is_listed_and_what_is_no_image_is_passed_over(tmp_path: Path) -> None:
    before = ["a.png", "b.png", "c.png", "only.png", "._a.png", ".hidden/b.png", "Thumbs.db", "notes.txt"]
    pairs, lines = matched(before, ["a.png", "b.png", "c.png", *(f"x{n:02}.png" for n in range(12))], tmp_path)
    assert [one for one, _ in pairs] == ["a.png", "b.png", "c.png"]
    assert any(line.endswith("before: only.png") and "no match for 1 of" in line for line in lines)
    assert any("no match for 12 of" in line and line.endswith("x09.png and 2 more") for line in lines)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([f"tile_{n}.png" for n in range(1, 31)], [f"tile_{n}0_mask.png" for n in (1, 2, 3)], [10, 20, 30]),
        ([f"tile_{n}0_pre.png" for n in (1, 2, 3)], [f"tile_{n}_post.png" for n in range(1, 31)], [10, 20, 30]),
        (
            [f"{name}_pre.png" for name in ("1_roma", "2_lima")],
            ["1_roma_post.png", "2_lima_post.png", "3_oslo_post.png"],
            [1, 2],
        ),
        (["kyiv_1.png", "lviv_2.png", "lviv_3.png"], ["kyiv_1.png", "lviv_2.png", "lutsk_3.png"], [1, 2]),
        (["kyiv_1.png", "lviv_2.png", "odesa_3.png"], ["kyiv_01.png", "lviv_02.png", "dnipro_03.png"], [1, 2]),
        (["kyiv_1.png", "kyiv_2.png"], ["kyiv_1.png", "lviv_2.png"], [1]),
        (["kyiv_1.png", "lviv_2.png", "lviv_3.png"], ["kyiv_1.png", "kyiv_2.png"], [1]),
        (
            ["before_1.png", "before_2.png", "before_0legend.png"],
            ["after_01.png", "after_02.png", "after_3.png"],
            [1, 2],
        ),
        (["tile_0.png", "tile_1.png", "tile_2.png"], ["tile_2_mask.png"], [2]),
    ],
)
def test_files_of_other_places_are_never_matched(
    tmp_path: Path, before: list[str], after: list[str], expected: list[int]
) -> None:
    folders = Folders(image=touch(tmp_path / "before", *before), partner=touch(tmp_path / "after", *after))
    rows = list_pairs(folders, tmp_path / "pairs.csv", holdout=HoldOut(0, 0, 0)).rows
    numbers = [[int(re.findall(r"\d+", row[column])[0]) for row in rows] for column in ("image", "partner")]
    assert numbers == [expected, expected]


def test_the_only_files_of_two_folders_are_a_pair(tmp_path: Path) -> None:
    """Where each split has a folder of its own, it may have one pair."""
    folders = Folders(image=touch(tmp_path / "before", "old.png"), partner=touch(tmp_path / "after", "new 7.png"))
    (row,) = list_pairs(folders, tmp_path / "pairs.csv", holdout=HoldOut(0, 0, 0)).rows
    assert (row["image"], row["partner"]) == ("before/old.png", "after/new 7.png")


def test_folders_are_looked_into_however_deep_they_are(tmp_path: Path) -> None:
    name = "/".join("abcdefghijk") + "/1.png"
    folders = Folders(image=touch(tmp_path / "before", name), partner=touch(tmp_path / "after", name))
    rows = list_pairs(folders, tmp_path / "pairs.csv", holdout=HoldOut(0, 0, 0)).rows
    assert [row["image"] for row in rows] == [f"before/{name}"]


def test_linked_folders_are_looked_into(tmp_path: Path) -> None:
    for time in ("before", "after"):
        touch(tmp_path / time, "kyiv/1.png", "kyiv/2.png")
        touch(tmp_path / f"elsewhere_{time}", "3.png")
        (tmp_path / time / "lviv").symlink_to(tmp_path / f"elsewhere_{time}")
        (tmp_path / time / "kyiv" / "round").symlink_to(tmp_path / time)
    folders = Folders(image=tmp_path / "before", partner=tmp_path / "after")
    rows = list_pairs(folders, tmp_path / "pairs.csv", holdout=HoldOut(0, 0, 0)).rows
    assert [row["image"] for row in rows] == ["before/kyiv/1.png", "before/kyiv/2.png", "before/lviv/3.png"]


def test_a_noisy_pair_is_named_with_its_folder_where_others_have_its_name(tmp_path: Path) -> None:
    names = [f"{place}{number}.png" for place in ("", "kyiv/", "lviv/") for number in (1, 2)]
    folders = Folders(image=touch(tmp_path / "before", *names), partner=touch(tmp_path / "after", *names))
    noisy = tmp_path / "noisy.txt"
    noisy.write_text("./1.png\nkyiv/2\nbefore/lviv/1.png\n")
    found = list_pairs(folders, tmp_path / "pairs.csv", holdout=HoldOut(0, 0, 0), noisy=noisy)
    marked = [row["image"] for row in found.rows if row["noisy"] == "yes"]
    assert marked == ["before/1.png", "before/kyiv/2.png", "before/lviv/1.png"]
    assert "6 pairs: 6 train, 0 val, 0 test; 3 noisy; 2 groups" in found.lines[-1]
    noisy.write_text("2\n")
    with pytest.raises(
        InputError, match=r"'2' matches 3 pairs, such as before/2\.png, .*; write its folder and ending, too"
    ):
        list_pairs(folders, tmp_path / "pairs.csv", holdout=HoldOut(0, 0, 0), noisy=noisy)


def test_numbers_that_are_not_unique_match_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"matches one of .* by name, stem or number, such as 'a1\.png' and 'x1\.png'"):
        matched(["a1.png", "b1.png", "c2.png"], ["x1.png", "y2.png", "z3.png"], tmp_path)


def found(words: list[str], folder: Path, **options: str) -> TileSource:
    """What a sweep reads from the list that `init` writes."""
    more = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    masks = ["--masks-before", str(folder / "masks"), "--masks-after", str(folder / "masks_after")]
    assert main(["init", *words, *masks, "--out", str(folder / "pairs.csv"), *more]) == 0
    return load(folder / "pairs.csv")


@pytest.fixture
def tree(data: Path) -> Path:
    """The files of six pairs in folders, with masks in two folders of their own."""
    for row in sound(data):
        path = data / row["partner_mask"]
        save(data / "masks_after" / path.name.replace("_after", ""), pixels(0, 32, 1))
        shutil.move(path, data / "masks_after" / path.name.replace("_after", ""))
    (data / "noisy.txt").write_bytes("\ufeff0.png\r\n2\r\nbefore\\4.png\r\n".replace("before\\", "").encode())
    return data


def test_a_list_is_written_that_is_read(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = found([str(tree / "before"), str(tree / "after")], tree, noisy=str(tree / "noisy.txt"))
    table = pd.read_csv(tree / "pairs.csv")
    assert list(table) == ["image", "partner", "split", "mask", "partner_mask", "noisy"]
    assert table["image"].tolist() == [f"before/{n}.png" for n in range(6)]
    assert table["partner_mask"].tolist() == [f"masks_after/{n}.png" for n in range(6)]
    assert table["noisy"].tolist() == ["yes", "no"] * 3
    assert sorted(table["split"]) == ["test", "train", "train", "train", "train", "val"]
    assert source.store.tiles["noisy"].sum() == 12
    output = capsys.readouterr().out
    assert "6 pairs: 4 train, 1 val, 1 test; 3 noisy" in output
    assert "python -m datasets.manifest check" in output


def test_groups_come_from_names_or_folders_and_stay_together(tmp_path: Path) -> None:
    names = [f"{place}_{n}.png" for place in ("kyiv", "lviv", "odesa") for n in range(3)]
    folders = Folders(image=touch(tmp_path / "a", *names), partner=touch(tmp_path / "b", *names))
    rows = list_pairs(folders, tmp_path / "x.csv", holdout=DRAWN, group="^[a-z]+").rows
    assert {row["group"] for row in rows} == {"kyiv", "lviv", "odesa"}
    assert len({(row["group"], row["split"]) for row in rows}) == 3
    nested = [name.replace("_", "/") for name in names]
    folders = Folders(image=touch(tmp_path / "c", *nested), partner=touch(tmp_path / "d", *nested))
    again = list_pairs(folders, tmp_path / "x.csv", holdout=DRAWN).rows
    assert [(row["group"], row["split"]) for row in again] == [(row["group"], row["split"]) for row in rows]


def test_both_images_may_be_in_one_folder(tmp_path: Path) -> None:
    names = [f"{place}_{time}_disaster.png" for place in ("a_1", "b_2", "c_3") for time in ("pre", "post")]
    folder = touch(tmp_path, *names)
    folders = Folders(image=folder / "*_pre_*.png", partner=folder / "*_post_*")
    rows = list_pairs(folders, tmp_path / "x.csv", holdout=DRAWN).rows
    assert [(row["image"], row["partner"]) for row in rows] == list(zip(names[::2], names[1::2], strict=True))


def test_folders_named_by_splits_are_the_splits(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        touch(tmp_path / split / "A", "1.png", "2.png")
        touch(tmp_path / split / "B", "1.png", "2.png")
    folders = Folders(image=tmp_path / "{split}" / "A", partner=tmp_path / "{split}" / "B")
    rows = list_pairs(folders, tmp_path / "x.csv", holdout=DRAWN).rows
    assert [row["split"] for row in rows] == ["train", "train", "val", "val", "test", "test"]
    shutil.rmtree(tmp_path / "val")
    rows = list_pairs(folders, tmp_path / "x.csv", holdout=DRAWN).rows
    assert sorted(row["split"] for row in rows) == ["test", "test", "train", "val"]  # drawn of the training pairs
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(InputError, match=r"is not a folder; \{split\} stands for train, val, test"):
        list_pairs(folders, tmp_path / "x.csv", holdout=DRAWN)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["before", "gone"], "gone does not exist"),
        (["before", "noisy.txt"], "noisy.txt is not a folder"),
        (["before", "empty"], "empty: no file there ends in .png, .jpg"),
        (["before", "after", "--noisy", "names.txt"], "names.txt: 1 name matches no pair, such as 'unknown'"),
        (["before", "after", "--group", "("], "--group '(': is not a regular expression"),
        (["before", "after", "--group", "x"], "--group 'x': 0.png does not match it"),
        (["before", "after", "--holdout", "0.5", "0.5"], "--holdout: give two shares"),
        (["before", "after", "--holdout-seed", "-1"], "--holdout-seed -1: must be 0 or more"),
        (["before", "after", "--holdout", "nan", "nan"], "--holdout: give two shares"),
        (["before", "after", "--out", "old.csv"], "old.csv exists; name another file"),
        (
            ["before", "after", "--out", "pairs.parquet"],
            "pairs.parquet: the list is a CSV file; let its name end in .csv",
        ),
        (
            ["before", "before/"],
            "before was given twice: name the folder of the first images, and that of the partners",
        ),
        (["{split}/before", "after"], "{split} must be in all folders, or in none"),
        (["two", "also"], "2 groups cannot be divided among train, val and test: pairs of one group stay"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    tree: Path, words: list[str], message: str, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tree / "empty").mkdir()
    for name in ("two", "also"):
        touch(tree / name, "a/1.png", "b/2.png")
    (tree / "old.csv").write_text("old")
    (tree / "names.txt").write_text("0.png\nunknown\n")
    monkeypatch.chdir(tree)
    assert main(["init", *words, *(() if "--out" in words else ("--out", "pairs.csv"))]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tree / "pairs.csv").exists()
    assert (tree / "old.csv").read_text() == "old"


def test_names_written_on_windows_are_found(tree: Path) -> None:
    found([str(tree / "before"), str(tree / "after")], tree)
    given = load(tree / "pairs.csv")
    text = (tree / "pairs.csv").read_text().replace("/", "\\").replace(",", ";").replace("\n", "\r\n")
    (tree / "pairs.csv").write_bytes(("\ufeff" + text).encode())
    assert load(tree / "pairs.csv").fingerprint == given.fingerprint
