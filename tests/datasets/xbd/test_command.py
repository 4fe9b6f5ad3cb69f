"""`python -m datasets.xbd`: what a user sees, and what is left behind."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.manifest.config import ManifestSettings
from datasets.manifest.source import load as load_manifest
from datasets.source import Place
from datasets.types import IGNORED
from datasets.xbd import preview
from datasets.xbd.__main__ import main
from datasets.xbd.config import CLASSES, XbdSettings
from datasets.xbd.source import load
from tests.helpers import fake_xbd
from tests.helpers.fake_xbd import HOUSE
from tests.helpers.real import real

SIZE = ("--size", "32")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fake_xbd.tree(tmp_path / "xbd")


def run(*words) -> int:
    return main([str(word) for word in words])


# --- prepare


def test_prepare_says_what_it_brought_in(root: Path, tmp_path: Path, capsys) -> None:
    assert run("prepare", root, "--store", tmp_path / "stores", *SIZE) == 0
    told = capsys.readouterr().out
    lines = {line.split()[0]: line.split() for line in told.splitlines() if line}
    assert "xBD (2 disasters, 6 + 2 image pairs)" in told
    assert lines["blue-flood"][1:3] == ["4", "16"]  # pairs, tiles
    assert lines["total"][1:3] == ["8", "32"]
    source = load(XbdSettings(size=32), Place(root=root, store=tmp_path / "stores"))
    noisy = source.store.tiles["noisy"].to_numpy()
    for number, split in enumerate(("train", "val", "test")):
        of_split = source.split == number
        assert lines[split][1:] == [str(of_split.sum()), str((of_split & ~noisy).sum()), str((of_split & noisy).sum())]
    assert set(CLASSES) <= set(lines)
    assert lines["fingerprint"][1] == source.fingerprint
    assert lines["store"][1] == str(source.store.path)


def test_prepare_finds_what_it_made(root: Path, tmp_path: Path, capsys) -> None:
    words = ("prepare", root, "--store", tmp_path / "stores", *SIZE)
    assert run(*words) == 0
    first = capsys.readouterr()
    (made,) = (path for path in (tmp_path / "stores").iterdir() if path.is_dir())
    before = {path.name: path.stat().st_mtime_ns for path in made.iterdir()}
    assert run(*words) == 0
    assert capsys.readouterr().out == first.out
    assert {path.name: path.stat().st_mtime_ns for path in made.iterdir()} == before


def test_options_change_what_is_made(root: Path, tmp_path: Path, capsys) -> None:
    fake_xbd.pair(root, "train", "odd-quake_00000000", [(HOUSE, "un-classified")])
    told = []
    for words in ((), ("--unclassified", "ignore"), ("--split-by", "image"), ("--split-seed", 3), ("--jobs", 1)):
        assert run("prepare", root, "--store", tmp_path / "stores", *SIZE, *words) == 0
        told.append(capsys.readouterr().out.splitlines()[-1])
    assert told[0] == told[-1]  # the number of jobs changes nothing
    assert len(set(told)) == 4


def test_problems_end_in_exit_code_2_unless_they_are_skipped_and_named(root: Path, tmp_path: Path, capsys) -> None:
    image = root / "train/images/blue-flood_00000000_pre_disaster.png"
    image.write_bytes(image.read_bytes()[:1000])
    (root / "tier3/labels/blue-flood_00000004_post_disaster.json").unlink()
    named = (
        "train/images/blue-flood_00000000_pre_disaster.png",
        "tier3/labels/blue-flood_00000004_post_disaster.json",
    )
    words = ("prepare", root, "--store", tmp_path / "stores", *SIZE)
    assert run(*words) == 2
    seen = capsys.readouterr()
    assert seen.out == ""
    assert "datasets.xbd: " in seen.err
    assert all(name in seen.err for name in named)
    assert run(*words, "--skip-bad") == 0
    seen = capsys.readouterr()
    assert all(f"left out: {name}: " in seen.out for name in named)
    assert "xBD (2 disasters, 4 + 2 image pairs)" in seen.out


@pytest.mark.parametrize("words", [("--size", "4"), ("--split-seed", "-1"), ("--jobs", "-1"), ("--masks", "targets")])
def test_mistakes_are_one_line(root: Path, tmp_path: Path, capsys, words: tuple[str, str]) -> None:
    sized = () if words[0] == "--size" else SIZE
    assert run("prepare", root, "--store", tmp_path / "stores", *sized, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("datasets.xbd: ")


def test_a_user_who_stops_it_gets_no_traceback(root: Path, monkeypatch, capsys) -> None:
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("datasets.xbd.__main__.load", stop)
    assert run("prepare", root) == 130
    assert "resumes" in capsys.readouterr().err


def test_the_module_runs_as_a_program(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "datasets.xbd", "prepare", str(tmp_path / "absent")]
    ended = subprocess.run(program, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert ended.returncode == 2
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert line.startswith(f"datasets.xbd: {tmp_path / 'absent'} does not exist")
    assert "https://xview2.org" in line


# --- manifest


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_manifest_lists_the_tree_with_paths_relative_to_itself(root: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "lists" / "xbd.csv"
    assert run("manifest", root, "--out", out) == 0
    assert "8 pairs (4 train, 2 val, 2 test)" in capsys.readouterr().out
    listed = rows(out)
    assert list(listed[0]) == ["image", "partner", "split", "mask", "partner_mask", "group"]
    for row in listed:
        files = {column: out.parent / row[column] for column in ("image", "partner", "mask", "partner_mask")}
        assert not any(Path(row[column]).is_absolute() for column in files)
        assert all(path.is_file() for path in files.values())
        assert files["image"].name.removesuffix("_pre_disaster.png") == files["mask"].name.removesuffix(
            "_pre_disaster.json"
        )
        assert files["partner"].name.removesuffix("_post_disaster.png") == files["partner_mask"].name.removesuffix(
            "_post_disaster.json"
        )
        assert files["image"].name.startswith(f"{row['group']}_")
        assert (row["split"] == "test") == (files["image"].parts[-3] == "test")
    assert len({row["image"] for row in listed}) == 8


def test_a_manifest_validates_on_the_images_that_a_split_by_image_chooses(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "xbd.csv"
    for seed in (0, 1, 2):
        assert run("manifest", root, "--out", out, "--split-seed", seed) == 0
        listed = {Path(row["image"]).name[:-17] for row in rows(out) if row["split"] == "val"}
        chosen = XbdSettings(size=32, split_by="image", split_seed=seed)
        source = load(chosen, Place(root=root, store=tmp_path / "stores"))
        assert listed == set(source.store.tiles["pair"].to_numpy(str)[source.split == 1])


def test_a_manifest_read_as_it_says_is_xbd_again(root: Path, tmp_path: Path, capsys) -> None:
    assert run("manifest", root, "--out", tmp_path / "xbd.csv") == 0
    told = capsys.readouterr().out
    assert "--data.noisy-classes 2 3 4 --data.dense-labels binary" in told
    assert f"--data.classes {' '.join(CLASSES)}" in told
    listed = ManifestSettings(size=32, noisy_classes=(2, 3, 4), classes=CLASSES, dense_labels="binary")
    one = load_manifest(listed, Place(root=tmp_path / "xbd.csv", store=tmp_path / "stores"))
    other = load(XbdSettings(size=32, split_by="image"), Place(root=root, store=tmp_path / "stores"))
    np.testing.assert_array_equal(one.split, other.split)
    np.testing.assert_array_equal(one.store.tiles["noisy"], other.store.tiles["noisy"])
    for name in ("image", "partner", "mask", "partner_mask"):
        np.testing.assert_array_equal(getattr(one.store, name)(), getattr(other.store, name)())
    assert (one.classes, one.dense_labels) == (other.classes, other.dense_labels)


def test_a_manifest_of_a_damaged_tree_needs_skip_bad(root: Path, tmp_path: Path, capsys) -> None:
    (root / "test/labels/red-fire_00000006_pre_disaster.json").unlink()
    out = tmp_path / "xbd.csv"
    assert run("manifest", root, "--out", out) == 2
    assert "test/labels/red-fire_00000006_pre_disaster.json" in capsys.readouterr().err
    assert not out.exists()
    assert run("manifest", root, "--out", out, "--skip-bad") == 0
    assert "left out: test/labels/red-fire_00000006_pre_disaster.json" in capsys.readouterr().out
    assert len(rows(out)) == 7


# --- preview


def test_a_preview_is_drawn_the_same_twice_and_leaves_nothing_behind(root: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "temporary").mkdir()
    pictures = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        out = tmp_path / "out" / f"{name}.png"
        assert run("preview", root, "--out", out, *SIZE, "--tiles", 3, "--seed", seed) == 0
        with Image.open(out) as picture:
            pictures.append(np.asarray(picture.convert("RGB")))
    np.testing.assert_array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
    assert list((tmp_path / "temporary").iterdir()) == []


def test_a_preview_from_a_store_and_of_a_part_of_each_tile(root: Path, tmp_path: Path) -> None:
    for zoom in (1, 3, 32):
        out = tmp_path / f"{zoom}.png"
        words = ("--store", tmp_path / "stores", *SIZE, "--tiles", 2, "--zoom", zoom)
        assert run("preview", root, "--out", out, *words) == 0
        with Image.open(out) as picture:
            assert picture.format == "PNG"
    assert len([path for path in (tmp_path / "stores").iterdir() if path.is_dir()]) == 1


def test_a_preview_skips_what_cannot_be_read_and_says_so(root: Path, tmp_path: Path, capsys) -> None:
    (root / "train/images/blue-flood_00000000_pre_disaster.png").write_bytes(b"")
    assert run("preview", root, "--out", tmp_path / "p.png", *SIZE, "--tiles", 1) == 0
    assert "left out: train/images/blue-flood_00000000_pre_disaster.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [("--tiles", "0"), ("--tiles", "51"), ("--zoom", "0"), ("--zoom", "33"), ("--seed", "-1"), ("--out", "p.xyz")],
)
def test_a_preview_that_cannot_be_drawn_is_one_line(root: Path, tmp_path: Path, capsys, words) -> None:
    out = ("--out", tmp_path / "p.png") if words[0] != "--out" else ()
    words = (words[0], tmp_path / words[1]) if words[0] == "--out" else words
    assert run("preview", root, *out, *SIZE, *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(words[words[0] == "--out"]) in line
    assert not (tmp_path / "p.png").exists()


def test_tiles_with_buildings_are_chosen_noisy_ones_first(root: Path, tmp_path: Path) -> None:
    store = load(XbdSettings(size=32), Place(root=root, store=tmp_path / "stores")).store
    for number, noisy, clean in ((1, 1, 0), (3, 2, 1), (6, 4, 2), (50, 4, 4)):  # of 4 and 4 with buildings
        chosen = preview.choose_tiles(store, number, seed=0)
        assert store.tiles["noisy"][chosen].tolist() == [True] * noisy + [False] * clean
        assert len(set(chosen.tolist())) == noisy + clean
        assert (store.class_counts[chosen, 1:].sum(axis=1) > 0).all()


def test_a_tree_without_buildings_has_nothing_to_preview(tmp_path: Path, capsys) -> None:
    for number in range(2):
        fake_xbd.pair(tmp_path / "xbd", "train", f"red-fire_{number:08}")
    assert run("preview", tmp_path / "xbd", "--out", tmp_path / "p.png", *SIZE) == 2
    assert "none of the 8 tiles read has a building" in capsys.readouterr().err


def test_a_window_lies_where_the_damage_is() -> None:
    mask = np.zeros((2, 16, 16), np.uint8)
    mask[:, :8, :8] = 1
    mask[0, 8:, :8] = IGNORED
    assert preview.window(mask, 2) == (slice(0, 8), slice(0, 8))
    mask[1, 8:, 8:] = 4
    assert preview.window(mask, 2) == (slice(8, 16), slice(8, 16))
    assert preview.window(mask, 1) == (slice(0, 16), slice(0, 16))


@pytest.mark.realdata
def test_real_pairs_are_previewed_and_listed(tmp_path: Path) -> None:
    root = real("xbd")
    assert run("preview", root, "--out", tmp_path / "p.png", "--tiles", 2, "--zoom", 2) == 0
    assert run("manifest", root, "--out", tmp_path / "m.csv") == 0
    assert len(rows(tmp_path / "m.csv")) == len(list(root.glob("*/images/*_post_disaster.png")))
