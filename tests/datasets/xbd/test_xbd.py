"""From a tree to tiles: classes, noisy tiles, splits."""

import json
import math
import pickle
import re
import shlex
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from datasets.errors import InputError
from datasets.manifest.__main__ import main as manifest_command
from datasets.source import Place, Source
from datasets.tiles.source import ENOUGH, TileSource, class_pixels, format_tables, split_counts
from datasets.types import IGNORED
from datasets.xbd import source as xbd_source
from datasets.xbd.__main__ import main as xbd_command
from datasets.xbd.config import CLASSES, XbdSettings
from tests.helpers import fake_xbd
from tests.helpers.fake_xbd import HOUSE, box
from tests.helpers.real import real

SETTINGS = XbdSettings(size=32)  # of images of 64 px: four tiles each


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return fake_xbd.tree(tmp_path / "xbd")


def load(root: Path, settings: XbdSettings = SETTINGS) -> TileSource:
    return xbd_source.load(settings, Place(root=root, store=root.parent / "stores"))


def whole(source: TileSource, name: str, side: str) -> np.ndarray:
    """A pair's mask before or after the disaster, put together from its tiles."""
    masks = source.store.mask() if side == "pre" else source.store.partner_mask()
    drawn = np.full((64, 64), 99, np.uint8)
    for row in source.store.tiles.itertuples():
        if row.pair == name:
            drawn[row.top : row.top + 32, row.left : row.left + 32] = masks[row.number]
    return drawn


def one_pair(root: Path, after, **options) -> TileSource:
    """A sound tree with one more training pair, which shows these buildings."""
    fake_xbd.pair(root, "train", "odd-quake_00000000", after, **options)
    return load(root)


# --- what a tree becomes


def test_each_image_becomes_four_tiles_with_classes_and_a_split(root: Path) -> None:
    source = load(root)
    assert isinstance(source, Source)
    assert source.classes == CLASSES
    assert (source.dense_labels, source.noisy_classes) == ("binary", (2, 3, 4))
    assert (source.mean, source.std) == (None, None)
    assert source.title == "xBD (2 disasters, 6 + 2 image pairs), test scores over 3 of 5 classes"
    assert np.bincount(source.split).tolist() == [16, 8, 8]  # of 24 tiles 7.2 validate, rounded up
    tiles = source.store.tiles
    assert tiles["number"].tolist() == list(range(32))
    assert ((source.split == 2) == (tiles["split"] == "test")).all()
    assert (tiles["labelled"] == "partner").all()  # the probe looks at the image after the disaster


def test_a_tile_is_noisy_where_a_building_is_damaged_after_the_disaster(root: Path) -> None:
    source = load(root)
    for row in source.store.tiles.itertuples():
        damaged = np.isin(source.store.partner_mask()[row.number], (2, 3, 4)).any()
        assert row.noisy == damaged
        assert set(np.unique(source.store.mask()[row.number])) <= {0, 1}
    # Every other pair has a destroyed house, in its first tile.
    tiles = source.store.tiles
    assert tiles["noisy"].sum() == 4
    assert set(tiles.loc[tiles["noisy"], ["top", "left"]].itertuples(index=False, name=None)) == {(0, 0)}


@pytest.mark.parametrize("subtype", ["minor-damage", "major-damage", "destroyed"])
def test_one_pixel_of_damage_is_enough_and_marks_its_tile_alone(root: Path, subtype: str) -> None:
    source = one_pair(root, [(box(32, 0, 33, 1), subtype), (HOUSE, "no-damage")])
    tiles = source.store.tiles.query("pair == 'odd-quake_00000000'")
    assert tiles.loc[tiles["noisy"], ["top", "left"]].values.tolist() == [[0, 32]]


def test_images_keep_their_pixels(root: Path) -> None:
    source = load(root)
    row = source.store.tiles.query("pair == 'red-fire_00000002' and top == 32 and left == 0").iloc[0]
    for side, array in (("pre", source.store.image()), ("post", source.store.partner())):
        with Image.open(root / "train" / "images" / f"red-fire_00000002_{side}_disaster.png") as file:
            np.testing.assert_array_equal(array[row["number"]], np.asarray(file)[32:, :32])


# --- polygons


def test_a_building_across_tiles_is_cut_where_the_tiles_meet(root: Path) -> None:
    drawn = whole(one_pair(root, [(box(28, 27, 36, 40), "major-damage")]), "odd-quake_00000000", "post")
    expected = np.zeros((64, 64), np.uint8)
    expected[27:40, 28:36] = 3
    np.testing.assert_array_equal(drawn, expected)


def test_what_lies_outside_of_the_image_is_cut_off(root: Path) -> None:
    after = [
        (box(-10, -10, 8, 6), "destroyed"),
        (box(60, 50, 90, 90), "no-damage"),
        (box(100, 100, 120, 120), "destroyed"),
    ]
    expected = np.zeros((64, 64), np.uint8)
    expected[:6, :8] = 4
    expected[50:, 60:] = 1
    np.testing.assert_array_equal(whole(one_pair(root, after), "odd-quake_00000000", "post"), expected)


def test_holes_show_what_is_below_and_multipolygons_are_one_building(root: Path) -> None:
    def ring(wkt: str) -> str:
        return wkt.removeprefix("POLYGON (").removesuffix(")")

    yard = f"POLYGON ({ring(box(0, 0, 20, 20))}, {ring(box(5, 5, 10, 10))})"
    parts = f"MULTIPOLYGON (({ring(box(40, 0, 45, 5))}), ({ring(box(50, 0, 55, 5))}))"
    source = one_pair(root, [(box(4, 4, 8, 8), "minor-damage"), (yard, "destroyed"), (parts, "no-damage")])
    expected = np.zeros((64, 64), np.uint8)
    expected[:20, :20] = 4
    expected[5:10, 5:10] = 0
    expected[5:8, 5:8] = 2  # the earlier building, through the hole
    expected[:5, 40:45] = expected[:5, 50:55] = 1
    np.testing.assert_array_equal(whole(source, "odd-quake_00000000", "post"), expected)
    row = source.store.pairs.set_index("pair").loc["odd-quake_00000000"]
    assert (row["minor-damage"], row["destroyed"], row["no-damage"]) == (1, 1, 1)


def test_no_buildings_are_background(root: Path) -> None:
    source = one_pair(root, [])
    for side in ("pre", "post"):
        assert not whole(source, "odd-quake_00000000", side).any()
    assert not source.store.tiles.query("pair == 'odd-quake_00000000'")["noisy"].any()


def test_unclassified_buildings_are_undamaged_or_ignored(root: Path) -> None:
    undamaged = one_pair(root, [(HOUSE, "un-classified")])
    ignored = load(root, replace(SETTINGS, unclassified="ignore"))
    counts = [
        source.store.class_counts[(source.store.tiles["pair"] == "odd-quake_00000000").to_numpy()].sum(axis=0)
        for source in (undamaged, ignored)
    ]
    assert counts[0].tolist() == [64 * 64 - 80, 80, 0, 0, 0]
    assert counts[1].tolist() == [64 * 64 - 80, 0, 0, 0, 0]
    assert (whole(ignored, "odd-quake_00000000", "post") == IGNORED).sum() == 80
    assert (whole(ignored, "odd-quake_00000000", "pre") == 1).sum() == 80  # before the disaster it is a building
    assert not ignored.store.tiles.query("pair == 'odd-quake_00000000'")["noisy"].any()


# --- targets


def add_targets(root: Path, split: str, value: int) -> None:
    """Images of classes that differ from the polygons."""
    (root / split / "targets").mkdir()
    for path in (root / split / "images").iterdir():
        classes = np.full((64, 64), value if "_post_" in path.name else 1, np.uint8)
        Image.fromarray(classes).save(root / split / "targets" / f"{path.stem}_target.png")


def test_targets_give_the_classes_where_they_are(root: Path) -> None:
    for split in ("train", "test"):
        add_targets(root, split, 3)
    source = load(root, replace(SETTINGS, masks="targets"))
    tier3 = source.store.tiles["pair"].isin({path.name[:-18] for path in (root / "tier3" / "images").glob("*_post*")})
    assert tier3.sum() == 8
    for number, polygons in enumerate(tier3):
        mask = source.store.partner_mask()[number]
        assert (set(np.unique(mask)) <= {0, 1, 4}) if polygons else (mask == 3).all()


def test_targets_of_unknown_classes_are_refused(root: Path) -> None:
    add_targets(root, "train", 5)
    with pytest.raises(InputError, match="class 5"):
        load(root, replace(SETTINGS, masks="targets"))


# --- the split and the fingerprint


def test_the_fingerprint_follows_from_content_and_split_alone(root: Path, tmp_path: Path) -> None:
    first = load(root)
    elsewhere = tmp_path / "elsewhere" / "copy"
    shutil.copytree(root, elsewhere)
    assert load(elsewhere).fingerprint == first.fingerprint
    others = [load(root, replace(SETTINGS, **change)) for change in ({"split_seed": 1}, {"split_by": "image"})]
    path = root / "test" / "images" / "red-fire_00000006_post_disaster.png"
    assert path.is_file()
    fake_xbd.image(path, 64, seed=12345)
    others.append(load(root))
    assert len({first.fingerprint, *(other.fingerprint for other in others)}) == 4
    assert all(len(source.fingerprint) == 16 and int(source.fingerprint, 16) >= 0 for source in (first, *others))


def test_a_split_by_image_keeps_an_images_tiles_together(root: Path) -> None:
    source = load(root, replace(SETTINGS, split_by="image"))
    names = source.store.tiles["pair"].to_numpy(str)
    kinds = [set(source.split[names == name].tolist()) for name in set(names)]
    assert Counter(map(tuple, kinds)) == {(0,): 4, (1,): 2, (2,): 2}  # ceil(.3 * 6) validate


def test_a_disaster_is_held_out_whole_and_the_other_tiles_keep_their_splits(root: Path) -> None:
    plain, source = load(root), load(root, replace(SETTINGS, ood=("blue-flood",)))
    blue = (source.store.tiles["group"] == "blue-flood").to_numpy(bool)
    assert (source.split[blue] == 3).all()
    assert (source.split[~blue] == plain.split[~blue]).all()
    assert source.title.endswith(", 16 tiles held out (blue-flood)")
    assert split_counts(source)["tiles"].to_dict() == {"train": 5, "val": 3, "test": 8, "ood": 16}
    assert source.fingerprint != plain.fingerprint
    data = xbd_source.open_data(SETTINGS, source, 0, torch.device("cpu"))
    assert data.count("ood") == 16
    shown = data.downstream("ood", torch.arange(16))[1].numpy()
    assert (shown == source.store.partner_mask()[np.flatnonzero(blue)]).all()


@pytest.mark.parametrize(
    ("ood", "told"),
    [
        (("green-storm",), r"--data\.ood green-storm: .* has no such group; choose from blue-flood, red-fire"),
        (("red-fire",), r"--data\.ood red-fire: .* has no test tile without them; name fewer"),
    ],
)
def test_disasters_that_cannot_be_held_out_are_refused(root: Path, ood: tuple[str, ...], told: str) -> None:
    with pytest.raises(InputError, match=told):
        load(root, replace(SETTINGS, ood=ood))


def test_a_source_survives_pickling(root: Path) -> None:
    source = load(root)
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.split, source.split)
    np.testing.assert_array_equal(copy.store.image()[3], source.store.image()[3])
    assert (copy.fingerprint, copy.title, copy.notes) == (source.fingerprint, source.title, source.notes)


def test_without_a_folder_the_store_lies_in_the_users_cache(root: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source = xbd_source.load(SETTINGS, Place(root=root))
    assert source.store.path.parent == tmp_path / "cache" / "noisy-pairs" / "stores"


def test_tables_of_splits_and_classes_add_up(root: Path) -> None:
    source = load(root)
    counts = split_counts(source)
    assert counts.index.tolist() == ["train", "val", "test"]
    assert counts["tiles"].tolist() == np.bincount(source.split).tolist()
    assert (counts["clean"] + counts["noisy"] == counts["tiles"]).all()
    assert counts["noisy"].sum() == 4
    pixels = class_pixels(source, "train")
    masks = source.store.partner_mask()[source.split == 0]
    assert pixels.tolist() == [(masks == label).sum() for label in range(5)]
    line = next(line for line in format_tables(source).splitlines() if line.startswith("destroyed"))
    assert float(line.split()[-1]) == pytest.approx(pixels.sum() / pixels[4], abs=0.005)
    assert next(line for line in format_tables(source).splitlines() if line.startswith("major_damage")).endswith("none")


# --- the geotiff release


def as_geotiffs(root: Path, dtype: str) -> Path:
    """The same images as the geotiff release has them: `tier1` for `train`, and files `.tif`."""
    for path in list(root.glob("*/images/*.png")):
        pixels = np.asarray(Image.open(path)).astype(dtype)
        tifffile.imwrite(path.with_suffix(".tif"), pixels, photometric="rgb")
        path.unlink()
    (root / "train").rename(root / "tier1")
    return root


def test_geotiffs_of_8_bits_are_the_same_tiles(root: Path, tmp_path: Path) -> None:
    expected = load(root)
    source = load(as_geotiffs(fake_xbd.tree(tmp_path / "geotiffs"), "uint8"))
    for name in ("image", "partner", "mask", "partner_mask"):
        np.testing.assert_array_equal(getattr(source.store, name)(), getattr(expected.store, name)())
    np.testing.assert_array_equal(source.split, expected.split)
    assert (source.notes, source.title) == (expected.notes, expected.title)


def test_geotiffs_of_16_bits_are_refused_with_a_way_that_works(root: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    as_geotiffs(root, "uint16")
    with pytest.raises(InputError, match=r"/images/\S+\.tif: has 16 bits") as error:
        load(root)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "stores").exists()  # before anything is read
    monkeypatch.chdir(tmp_path)
    words = shlex.split(str(error.value).partition("python -m datasets.xbd ")[2])
    assert xbd_command(words) == 0
    capsys.readouterr()
    words = f"check xbd.csv --size 32 --store stores --noisy-classes 2 3 4 --classes {' '.join(CLASSES)}"
    assert manifest_command(words.split()) == 0
    assert re.search(r"sweep\.run manifest --data xbd\.csv .*--data\.mean", capsys.readouterr().out)


# --- what results must not be taken for


def test_few_pairs_and_left_out_pixels_are_noted(root: Path) -> None:
    assert any("8 image pairs are far too few" in note for note in load(root).notes)
    notes = load(root, replace(SETTINGS, size=48)).notes
    assert any("tiles of 48 px leave out 16 px" in note for note in notes)  # 1024 = 21 * 48 + 16
    fake_xbd.tree(root.parent / "many", train=90, tier3=2, test=8)
    many = load(root.parent / "many")
    houses = sum(many.store.mask()[many.split == 0].any(axis=(1, 2)))  # never a whole tile, and the same in both masks
    assert many.notes == (
        "92 + 8 image pairs are not the whole of xBD (9,168 + 933): results on them are not those on xBD",
        "no mask shows minor_damage, major_damage; val and test scores are means over the other classes",
        f"{houses} of {sum(many.split == 0)} training tiles show two classes (at least 1 % in each mask): perhaps "
        f"too few; {ENOUGH} were enough in our trials on xBD, fewer were not tried (METHOD.md)",
    )
    chosen = load(root.parent / "many", replace(SETTINGS, min_share=0.01))
    assert chosen.title == f"{many.title}, pretraining on {houses} of {sum(many.split == 0)} training tiles"
    assert chosen.fingerprint == many.fingerprint  # records of the same pixels, with other recipes
    assert chosen.store == many.store


# --- real images


@pytest.mark.realdata
def test_real_pairs_load_and_their_buildings_are_those_of_the_label_files(tmp_path: Path) -> None:
    root = real("xbd")
    source = xbd_source.load(XbdSettings(), Place(root=root, store=tmp_path))
    told: Counter[str] = Counter()
    damaged = set()
    for path in root.glob("*/labels/*_post_disaster.json"):
        features = json.loads(path.read_text())["features"]["xy"]
        subtypes = [feature["properties"]["subtype"] for feature in features]
        told.update(subtypes)
        if {"minor-damage", "major-damage", "destroyed"} & set(subtypes):
            damaged.add(path.name.removesuffix("_post_disaster.json"))
    pairs, tiles = source.store.pairs, source.store.tiles
    assert {subtype: int(pairs[subtype].sum()) for subtype in told} == dict(told)
    assert set(tiles.loc[tiles["noisy"], "pair"]) == damaged
    drawn = tiles[tiles["split"] == ""]
    assert len(tiles) == 4 * len(pairs)
    assert (source.split == 1).sum() == math.ceil(len(drawn) * 3 / 10)
