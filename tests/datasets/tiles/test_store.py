"""A store holds the tiles of its images, their masks, and what is counted in them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from datasets.tiles.cutting import Cut
from datasets.tiles.pairs import PairFiles
from datasets.tiles.request import BuildRequest
from datasets.tiles.store import open_store
from tests.helpers.fake_store import ARRAYS, CUT, SIZE, at, bring, make_pair, pairs, pixels_of, refused, root, xbd_pair
from tests.helpers.real import real

FIXTURES = (bring, pairs, root)  # pytest finds them by their names


def test_each_tile_is_its_window_of_the_files(bring, pairs) -> None:
    store = bring(pairs)
    files = {pair.name: pair for pair in pairs}
    assert len(store.tiles) == len(store.image()) == 5 * 2 * 3
    for tile in store.tiles.itertuples():
        pair = files[tile.pair]
        assert (tile.group, tile.split) == (pair.group, pair.split)
        for array, path in zip(ARRAYS, pair.files, strict=True):
            window = pixels_of(path)[tile.top : tile.top + SIZE, tile.left : tile.left + SIZE]
            np.testing.assert_array_equal(at(store, array)[tile.number], window)
    corners = store.tiles[store.tiles["pair"] == "pair 0"][["top", "left"]].to_numpy().tolist()
    assert corners == [[top, left] for top in (0, 8) for left in (0, 8, 16)]
    assert store.tiles["number"].tolist() == list(range(30))
    assert list(store.tiles["pair"].unique()) == [pair.name for pair in pairs]
    assert store.pairs["pair"].tolist() == [pair.name for pair in pairs]
    assert store.pairs["tiles"].tolist() == [6] * 5


def test_arrays_are_read_only(bring, pairs) -> None:
    store = bring(pairs)
    for array in ARRAYS:
        assert isinstance(at(store, array), np.memmap)
        with pytest.raises(ValueError, match="read-only"):
            at(store, array)[0] = 0


def test_counts_are_those_of_the_masks_without_255(bring, pairs) -> None:
    store = bring(pairs)
    for counts, masks in ((store.image_counts, store.mask()), (store.partner_counts, store.partner_mask())):
        assert counts.shape == (30, 4)
        for number, mask in enumerate(masks):
            assert counts[number].tolist() == [(mask == value).sum() for value in range(4)]
    np.testing.assert_array_equal(store.class_counts, store.partner_counts)


def test_a_tile_is_noisy_where_only_the_partner_shows_a_noisy_class(bring, pairs) -> None:
    store = bring(pairs)
    shown = [np.isin(masks, CUT.noisy_classes).any(axis=(1, 2)) for masks in (store.mask(), store.partner_mask())]
    expected = shown[1] & ~shown[0]
    assert 0 < expected.sum() < 30
    assert store.tiles["noisy"].tolist() == expected.tolist()
    assert set(store.tiles["labelled"]) == {"partner"}


def test_a_pair_that_is_said_to_be_noisy_is_so_throughout(bring, pairs) -> None:
    said = [replace(pair, noisy=noisy) for pair, noisy in zip(pairs, (True, False, True, False, False), strict=True)]
    assert bring(said).tiles["noisy"].tolist() == np.repeat([True, False, True, False, False], 6).tolist()


def test_a_pair_may_lack_masks(bring, root) -> None:
    pairs = [make_pair(root, k, masks=masks) for k, masks in enumerate(("both", "image", "partner", "none"))]
    store = bring(pairs)
    assert store.tiles["labelled"].tolist() == np.repeat(["partner", "image", "partner", ""], 6).tolist()
    assert not store.tiles["noisy"][6:].any()
    assert (store.mask()[12:] == 255).all()
    assert (store.partner_mask()[6:12] == 255).all()
    np.testing.assert_array_equal(store.class_counts[6:12], store.image_counts[6:12])
    assert store.class_counts[6:12].any()
    assert not store.class_counts[18:].any()


def test_masks_that_no_pair_has_are_not_there(bring, root) -> None:
    store = bring([make_pair(root, k, masks="none") for k in range(2)])
    assert "has no masks" in refused(store.mask)
    assert "has no partner masks" in refused(store.partner_mask)
    assert not any(path.name.endswith("masks.npy") for path in store.path.iterdir())
    assert store.class_counts.shape == (12, 4)  # the classes that the cut names
    assert not store.class_counts.any()


def test_without_noisy_classes_no_mask_makes_a_tile_noisy(bring, pairs) -> None:
    assert not bring(pairs, replace(CUT, noisy_classes=())).tiles["noisy"].any()


def test_bands_and_depth_are_those_of_the_files(bring, root) -> None:
    pixels = np.random.default_rng(0).integers(0, 65536, (2, 16, 16, 13), dtype=np.uint16)
    paths = [root / "a.tif", root / "b.tif"]
    root.mkdir()
    for path, image in zip(paths, pixels, strict=True):
        tifffile.imwrite(path, image, photometric="minisblack", planarconfig="contig")
    pair = PairFiles(name="a", image=paths[0], partner=paths[1], split="train")
    store = bring([pair], Cut(size=16, bands=13, noisy_classes=()))
    assert (store.bands, store.dtype, store.size) == (13, "uint16", 16)
    np.testing.assert_array_equal(store.image(), pixels[:1])
    np.testing.assert_array_equal(store.partner(), pixels[1:])


def test_xbd_buildings_are_counted_by_pair(bring, root) -> None:
    store = bring([xbd_pair(root, 0, "destroyed", "no-damage", "destroyed"), xbd_pair(root, 1, "un-classified")])
    assert store.pairs.columns.tolist() == [
        "pair",
        "group",
        "split",
        "tiles",
        "no-damage",
        "destroyed",
        "un-classified",
    ]
    assert store.pairs.iloc[:, 4:].to_numpy().tolist() == [[1, 2, 0], [0, 0, 1]]
    assert store.class_counts.sum(axis=0)[1:].tolist() == [8, 0, 0, 8]
    ignoring = bring([xbd_pair(root, 1, "un-classified")], replace(CUT, unclassified="ignore"))
    assert not ignoring.class_counts[:, 1:].any()


# --- real satellite images


@pytest.mark.realdata
def test_real_pairs_become_a_store(tmp_path: Path) -> None:
    root = real("xbd")
    pairs = []
    for image in sorted(root.glob("*/images/*_pre_disaster.png")):
        labels = image.parent.with_name("labels") / f"{image.stem}.json"
        image, partner, mask, partner_mask = (
            path.with_name(path.name.replace("_pre_", side)) for path in (image, labels) for side in ("_pre_", "_post_")
        )
        pairs.append(
            PairFiles(name=image.stem, image=image, partner=partner, split="", mask=mask, partner_mask=partner_mask)
        )
    cut = Cut(size=512, bands=3, noisy_classes=(2, 3, 4))
    store = open_store(BuildRequest(pairs=pairs, cut=cut, folder=tmp_path, root=root, quiet=True))
    assert store.image().shape == (4 * len(pairs), 512, 512, 3)
    damaged = np.isin(store.partner_mask(), (2, 3, 4)).any(axis=(1, 2))
    assert store.tiles["noisy"].tolist() == damaged.tolist()
    assert 0 < damaged.sum() < len(damaged)
    np.testing.assert_array_equal(store.image()[3], pixels_of(pairs[0].image)[512:, 512:])
    assert isinstance(store.pairs, pd.DataFrame)
