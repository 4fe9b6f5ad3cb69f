"""What xBD cannot be used for or with: settings, grids, and files, all of which are named at once."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets.errors import InputError
from datasets.source import Demands, Place
from datasets.tiles.pairs import ProblemsError
from datasets.tiles.source import TileSource, split_counts
from datasets.xbd.config import XbdSettings
from datasets.xbd.source import check
from datasets.xbd.source import load as xbd_load
from tests.helpers import fake_xbd
from tests.helpers.fake_xbd import HOUSE, box

SETTINGS = XbdSettings(size=32)  # of images of 64 px: four tiles each


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fake_xbd.tree(tmp_path / "xbd")


def load(root: Path, settings: XbdSettings = SETTINGS, *, skip_bad: bool = False) -> TileSource:
    return xbd_load(settings, Place(root=root, store=root.parent / "stores", skip_bad=skip_bad))


def refusal(root: Path, settings: XbdSettings = SETTINGS) -> str:
    with pytest.raises(InputError) as error:
        load(root, settings)
    return str(error.value)


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"size": 4}, "--data.size 4"),
        ({"size": 2048}, "--data.size 2048"),
        ({"masks": "targets", "unclassified": "ignore"}, "--data.unclassified ignore"),
        ({"split_seed": -1}, "--data.split-seed -1"),
    ],
)
def test_settings_that_no_tile_can_be_cut_by_are_refused(change: dict, flag: str) -> None:
    with pytest.raises(InputError, match=flag):
        replace(XbdSettings(), **change)


def demands(**change) -> Demands:
    default = Demands(rho=(0.0,), pairings=("noisy",), labels=True, batch=4, supervised_batch=0, probe_batch=4)
    return replace(default, **change)


def test_a_grid_that_the_tiles_are_too_few_for_is_refused(root: Path) -> None:
    source = load(root)
    clean, noisy = split_counts(source).loc["train", ["clean", "noisy"]]
    check(SETTINGS, source, demands(batch=int(clean), probe_batch=16))
    for change, told in (
        ({"batch": int(clean) + 1}, rf"--pretrain\.batch {clean + 1}: at rho 0 there are {clean}"),
        ({"rho": (0.0, 1.0), "batch": int(noisy) + 1}, rf"at rho 1 there are {noisy} training pairs"),
        ({"rho": (1.5,)}, "from 0 to 1"),
        ({"probe_batch": 17}, r"--probe\.batch 17: 16 training tiles have a mask"),
        ({"rho": (), "supervised_batch": 17}, r"--pretrain\.batch 17: 16 training tiles have a mask"),
        ({"rho": (0.01,)}, r"--rho 0\.01: .*leave the rate out"),
    ):
        with pytest.raises(InputError, match=told):
            check(SETTINGS, source, demands(**change))


def test_rates_need_tiles_of_their_kind(tmp_path: Path) -> None:
    root = tmp_path / "calm"
    for number in range(4):
        fake_xbd.pair(root, "test" if number == 3 else "train", f"red-fire_{number:08}", [(HOUSE, "no-damage")])
    source = load(root)
    check(SETTINGS, source, demands())
    with pytest.raises(InputError, match=r"rho = 0\.5 needs noisy pairs"):
        check(SETTINGS, source, demands(rho=(0.0, 0.5)))


def test_pretraining_needs_a_clean_tile_to_validate_on(tmp_path: Path) -> None:
    root = tmp_path / "ruins"
    everywhere = [(box(0, 0, 64, 64), "destroyed")]
    for number in range(4):
        fake_xbd.pair(root, "test" if number == 3 else "train", f"red-fire_{number:08}", everywhere)
    with pytest.raises(InputError, match="clean tiles; pretraining needs at least 2 for validation"):
        check(SETTINGS, load(root), demands(rho=(1.0,)))


# --- what cannot be used


def damage_truncated_image(root: Path) -> tuple[str, str]:
    path = root / "train" / "images" / "blue-flood_00000000_pre_disaster.png"
    path.write_bytes(path.read_bytes()[:2000])
    return "train/images/blue-flood_00000000_pre_disaster.png", "blue-flood_00000000"


def damage_unknown_subtype(root: Path) -> tuple[str, str]:
    fake_xbd.label(root / "train/labels/blue-flood_00000001_post_disaster.json", [(HOUSE, "annoyed")], 64)
    return "train/labels/blue-flood_00000001_post_disaster.json", "blue-flood_00000001"


def damage_broken_json(root: Path) -> tuple[str, str]:
    path = root / "train/labels/red-fire_00000002_pre_disaster.json"
    path.write_text(path.read_text()[:40])
    return "train/labels/red-fire_00000002_pre_disaster.json", "red-fire_00000002"


def damage_missing_partner(root: Path) -> tuple[str, str]:
    (root / "tier3/images/blue-flood_00000004_post_disaster.png").unlink()
    return "tier3/images/blue-flood_00000004_post_disaster.png", "blue-flood_00000004"


def damage_label_without_image(root: Path) -> tuple[str, str]:
    fake_xbd.label(root / "tier3/labels/red-fire_00000099_post_disaster.json", [], 64)
    return "tier3/labels/red-fire_00000099_post_disaster.json", ""


def damage_small_image(root: Path) -> tuple[str, str]:
    fake_xbd.pair(root, "test", "red-fire_00000006", [], size=16)
    return "test/images/red-fire_00000006_pre_disaster.png", "red-fire_00000006"


def damage_grey_image(root: Path) -> tuple[str, str]:
    path = root / "train/images/red-fire_00000003_post_disaster.png"
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(path)
    return "train/images/red-fire_00000003_post_disaster.png", "red-fire_00000003"


def damage_challenge_name(root: Path) -> tuple[str, str]:
    fake_xbd.image(root / "test/images/test_pre_00000.png", 64)
    return "test/images/test_pre_00000.png", ""


DAMAGES = (
    damage_truncated_image,
    damage_unknown_subtype,
    damage_broken_json,
    damage_missing_partner,
    damage_label_without_image,
    damage_small_image,
    damage_grey_image,
    damage_challenge_name,
)


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__.removeprefix("damage_"))
def test_each_damage_is_named_and_costs_only_its_pair(root: Path, damage) -> None:
    where, pair = damage(root)
    assert where in refusal(root)
    source = load(root, skip_bad=True)
    kept = set(source.store.pairs["pair"])
    assert len(kept) == 8 - bool(pair)
    assert pair not in kept
    assert any(note.startswith(f"left out: {where}: ") for note in source.notes)


def test_all_damages_are_told_at_once_and_the_rest_can_be_used(tmp_path: Path) -> None:
    root = fake_xbd.tree(tmp_path / "xbd", train=4, tier3=2, test=4)
    damaged = [damage(root) for damage in DAMAGES]
    with pytest.raises(ProblemsError) as error:
        load(root)
    head, *lines = str(error.value).splitlines()
    assert str(root) in head
    assert "--skip-bad" in head
    for where, _ in damaged:
        assert sum(line.strip().startswith(f"{where}: ") for line in lines) == 1
    assert {problem.pair for problem in error.value.problems} == {pair for _, pair in damaged}
    source = load(root, skip_bad=True)
    assert len(source.store.pairs) == 10 - 6
    refused = refusal(root)  # what was made without them is not taken for the whole
    assert all(where in refused for where, _ in damaged)


@pytest.mark.parametrize(
    ("gone", "told"), [(("test",), "no pair in test"), (("train", "tier3"), "train, tier1 or tier3")]
)
def test_a_tree_without_training_or_test_pairs_is_refused(root: Path, gone: tuple[str, ...], told: str) -> None:
    for split in gone:
        shutil.rmtree(root / split)
    message = refusal(root)
    assert told in message
    assert "\n" not in message
    assert not (root.parent / "stores").exists()  # before anything is decoded


def test_a_tree_of_which_nothing_is_left_says_why(root: Path) -> None:
    for path in list(root.glob("*/images/*")):
        path.rename(path.with_name(path.name.replace("_disaster", "")))
    assert len(refusal(root).splitlines()) == 3  # the images, and the labels without images
    with pytest.raises(InputError, match=r"no pair in train.*the first problem is test/images/\S+_post\.png") as error:
        load(root, skip_bad=True)
    assert "\n" not in str(error.value)


def test_a_single_training_image_cannot_be_split_by_image(tmp_path: Path) -> None:
    root = fake_xbd.tree(tmp_path / "xbd", train=1, tier3=0, test=1)
    assert np.bincount(load(root).split).tolist() == [2, 2, 4]
    assert "too few" in refusal(root, replace(SETTINGS, split_by="image"))


def test_a_tree_without_tier3_is_read(root: Path) -> None:
    shutil.rmtree(root / "tier3")
    assert load(root).title == "xBD (2 disasters, 4 + 2 image pairs), test scores over 3 of 5 classes"
