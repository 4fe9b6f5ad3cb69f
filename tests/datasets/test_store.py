"""Stores hold the tiles of their images, are made once, and are never trusted when something is amiss."""

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from datasets.errors import InputError
from datasets.pairlist import PairFiles, Problem, ProblemsError
from datasets.store import Cut, Store, ensure, summary
from datasets.storing import making, tiling

SIZE, HEIGHT, WIDTH = 8, 20, 27  # 2 x 3 tiles; 4 rows and 3 columns of pixels are in none
CUT = Cut(size=SIZE, bands=3, noisy_classes=(2, 3))
ARRAYS = ("images", "partners", "masks", "partner_masks")
REPOSITORY = Path(__file__).parents[2]


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(imagecodecs.png_encode(pixels))
    return path


def make_pair(root: Path, number: int, *, masks: str = "both", height: int = HEIGHT, **fields: object) -> PairFiles:
    generator = np.random.default_rng(number)
    images = generator.integers(0, 256, (2, height, WIDTH, 3), dtype=np.uint8)
    # Rare damage, so that some tiles are noisy and some are not.
    labels = np.where(generator.random((2, height, WIDTH)) < 0.02, generator.integers(0, 4, (2, height, WIDTH)), 1)
    labels[:, :5, :5] = 255
    names = [f"{side}/{number}.png" for side in ("image", "partner", "mask", "partner_mask")]
    paths = [save(root / name, pixels) for name, pixels in zip(names[:2], images, strict=True)]
    paths += [save(root / name, pixels.astype(np.uint8)) for name, pixels in zip(names[2:], labels, strict=True)]
    return PairFiles(
        name=f"pair {number}",
        image=paths[0],
        partner=paths[1],
        split=("train", "val", "test")[number % 3],
        group="ab"[number % 2],
        mask=paths[2] if masks in ("both", "image") else None,
        partner_mask=paths[3] if masks in ("both", "partner") else None,
        **fields,
    )


def pixels_of(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def at(store: Store, array: str) -> np.ndarray:
    return {
        "images": store.image,
        "partners": store.partner,
        "masks": store.mask,
        "partner_masks": store.partner_mask,
    }[array]()


def same(one: Store, other: Store) -> bool:
    """Whether two stores hold the same, whatever they say."""
    return (
        one.fingerprint == other.fingerprint
        and all(np.array_equal(at(one, array), at(other, array)) for array in ARRAYS)
        and one.tiles.equals(other.tiles)
        and one.pairs.equals(other.pairs)
        and np.array_equal(one.class_counts, other.class_counts)
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def pairs(root: Path) -> list[PairFiles]:
    return [make_pair(root, number) for number in range(5)]


@pytest.fixture
def bring(root: Path, tmp_path: Path) -> Callable[..., Store]:
    """`ensure` with the usual arguments."""

    def call(pairs: Sequence[PairFiles], cut: Cut = CUT, *, folder: str = "stores", **options: object) -> Store:
        return ensure(pairs, cut, tmp_path / folder, **{"root": root, "quiet": True, **options})

    return call


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pairs whose pixels were read."""
    names: list[str] = []
    read = tiling.read

    def noted(pair: PairFiles, *rest: object) -> tiling.Tiles:
        names.append(pair.name)
        return read(pair, *rest)

    monkeypatch.setattr(tiling, "read", noted)
    return names


def refused(function: Callable[[], object], kind: type[InputError] = InputError) -> str:
    with pytest.raises(kind) as error:
        function()
    if kind is InputError:
        assert "\n" not in str(error.value)
    return str(error.value)


# --- what a store holds


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


def xbd_pair(root: Path, number: int, *subtypes: str) -> PairFiles:
    pair = make_pair(root, number, masks="none")
    squares = [f"POLYGON (({x} 1, {x + 2} 1, {x + 2} 3, {x} 3, {x} 1))" for x in range(0, 24, 4)]
    labels = []
    for side, known in (("pre", False), ("post", True)):
        features = [
            {"properties": {"subtype": subtype} if known else {}, "wkt": wkt}
            for subtype, wkt in zip(subtypes, squares, strict=False)
        ]
        labels.append(root / f"{number}_{side}.json")
        labels[-1].write_text(json.dumps({"features": {"xy": features}}))
    return replace(pair, mask=labels[0], partner_mask=labels[1])


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


# --- opening again


def test_a_store_is_opened_without_reading_anything(bring, pairs, reads) -> None:
    made = bring(pairs)
    assert sorted(reads) == [pair.name for pair in pairs]
    reads.clear()
    assert bring(pairs) == made
    assert reads == []
    assert sorted(path.name for path in made.path.parent.iterdir()) == [f".{made.path.name}.lock", made.path.name]


def test_a_finished_store_is_opened_where_nothing_can_be_written(bring, pairs, monkeypatch) -> None:
    made = bring(pairs)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr("datasets.storing.provision.FileLock", refuse)
    assert bring(pairs) == made


def test_a_store_is_small_when_pickled_and_opens_its_arrays_itself(bring, pairs) -> None:
    store = bring(pairs)
    store.tiles, store.pairs, store.class_counts, store.image()  # what was read does not travel
    data = pickle.dumps(store)
    assert len(data) < 1000
    assert same(pickle.loads(data), store)


def test_a_store_named_from_here_is_found_from_elsewhere(pairs, root, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = ensure(pairs, CUT, Path("stores"), root=root, quiet=True)
    monkeypatch.chdir("/")
    assert len(store.image()) == 30


def test_the_root_may_be_a_file_that_lists_the_pairs(bring, pairs, root) -> None:
    listings = [root / "a.csv", root / "b.csv"]
    for listing in listings:
        listing.write_text("")
    stores = [bring(pairs, root=listing) for listing in listings]
    assert len({store.path for store in stores}) == 2
    spoil(pairs[0].image)
    assert f"\n  image/0.png: {WHAT}" in refused(lambda: bring(pairs, root=listings[0]), ProblemsError)


def test_cuts_and_roots_have_stores_of_their_own(bring, pairs, root) -> None:
    stores = [bring(pairs), bring(pairs, replace(CUT, size=5)), bring(pairs, replace(CUT, noisy_classes=(1,)))]
    stores.append(bring([replace(pair, mask=None, partner_mask=None) for pair in pairs]))
    copied = root.with_name("other")
    shutil.copytree(root, copied)
    stores.append(bring([moved(pair, root, copied) for pair in pairs], root=copied))
    assert len({store.path for store in stores}) == 5
    assert bring(pairs) == stores[0]


def moved(pair: PairFiles, root: Path, to: Path) -> PairFiles:
    names = ("image", "partner", "mask", "partner_mask")
    return replace(pair, **{name: to / getattr(pair, name).relative_to(root) for name in names})


def test_the_fingerprint_is_of_the_content_alone(bring, pairs, root) -> None:
    made = bring(pairs, jobs=1)
    copied = root.with_name("elsewhere")
    shutil.copytree(root, copied)
    for path in copied.rglob("*.png"):
        os.utime(path, ns=(0, 10**18))
    again = bring([moved(pair, root, copied) for pair in pairs], root=copied, jobs=3)
    assert same(again, made)
    assert len(made.fingerprint) == 16
    assert int(made.fingerprint, 16) >= 0


CHANGES: dict[str, Callable[[list[PairFiles]], list[PairFiles]]] = {
    "name": lambda pairs: [replace(pairs[0], name="other"), *pairs[1:]],
    "split": lambda pairs: [replace(pairs[0], split="test"), *pairs[1:]],
    "group": lambda pairs: [replace(pairs[0], group="c"), *pairs[1:]],
    "flag": lambda pairs: [replace(pairs[0], noisy=True), *pairs[1:]],
    "mask": lambda pairs: [replace(pairs[0], mask=None), *pairs[1:]],
    "partner": lambda pairs: [replace(pairs[0], partner=pairs[1].partner), *pairs[1:]],
    "fewer": lambda pairs: pairs[1:],
    "order": lambda pairs: pairs[::-1],
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_said_of_pairs_changes_store_and_fingerprint(bring, pairs, change) -> None:
    before = bring(pairs).fingerprint
    changed = CHANGES[change](pairs)
    assert bring(changed).fingerprint != before
    assert same(bring(changed), bring(changed, folder="fresh"))
    assert bring(pairs).fingerprint == before


def test_a_changed_file_is_read_again_and_said(bring, pairs, capsys) -> None:
    before = bring(pairs)
    pixels = pixels_of(pairs[2].image).copy()
    pixels[0, 0, 0] ^= 1
    save(pairs[2].image, pixels)
    after = bring(pairs, quiet=False)
    assert "anew since the files it was made from" in capsys.readouterr().err
    assert after.fingerprint != before.fingerprint
    np.testing.assert_array_equal(after.image()[12], pixels[:8, :8])


def test_a_touched_file_makes_the_same_store_again(bring, pairs, reads) -> None:
    before = bring(pairs)
    reads.clear()
    os.utime(pairs[0].mask, ns=(0, 10**18))
    assert bring(pairs) == before
    assert len(reads) == 5


def test_who_opened_a_store_that_was_made_anew_is_told(bring, pairs) -> None:
    old = bring(pairs)
    held = old.image()
    before = held.copy()
    bring(CHANGES["order"](pairs))
    np.testing.assert_array_equal(held, before)  # a map that is open stays what it was
    assert "made anew" in refused(old.partner)
    assert "made anew" in refused(pickle.loads(pickle.dumps(old)).image)


# --- never trusted when something is amiss


def test_a_store_with_any_file_cut_off_is_made_again(bring, pairs, reads) -> None:
    made = bring(pairs)
    files = sorted(path.name for path in made.path.iterdir())
    assert {"images.npy", "counts.npy", "tiles.parquet", "pairs.parquet", "store.json"} < set(files)
    for name in files:
        for keep in (0, 0.5, 1):
            path = made.path / name
            size = path.stat().st_size
            os.truncate(path, min(size - 1, int(keep * size)))
            reads.clear()
            assert same(bring(pairs), made)
            assert len(reads) == 5
            assert path.stat().st_size == size


@pytest.mark.parametrize("text", [None, "", "[]", "7", "{}", '{"format": 1, "left_out": [7]}', "\xff"])
def test_a_store_that_does_not_say_what_it_is_is_made_again(bring, pairs, reads, text) -> None:
    made = bring(pairs)
    path = made.path / "store.json"
    path.unlink() if text is None else path.write_text(text, encoding="latin-1")
    reads.clear()
    assert same(bring(pairs), made)
    assert len(reads) == 5


def test_a_store_of_another_format_or_with_a_file_gone_is_made_again(bring, pairs, reads) -> None:
    made = bring(pairs)
    about = json.loads((made.path / "store.json").read_text())
    (made.path / "store.json").write_text(json.dumps({**about, "format": about["format"] + 1}))
    reads.clear()
    assert same(bring(pairs), made)
    assert len(reads) == 5
    (made.path / "partners.npy").unlink()
    assert same(bring(pairs), made)
    assert len(reads) == 10


# --- problems


def spoil(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.fixture
def spoilt(pairs) -> list[PairFiles]:
    """Two pairs with three files that are cut off, and their names."""
    for path in (pairs[1].image, pairs[1].partner_mask, pairs[4].partner):
        spoil(path)
    return pairs


WHAT = "is cut off (the end of the PNG is missing)"
STRAY = Problem(where="labels/stray.json", what="has no image")


def test_all_problems_are_named_at_once(bring, spoilt, root) -> None:
    told = refused(lambda: bring(spoilt, problems=[STRAY], remedy="mend them"), ProblemsError)
    assert told.splitlines() == [
        f"{root}: 4 problems; mend them",
        f"  image/1.png: {WHAT}",
        "  labels/stray.json: has no image",
        f"  partner/4.png: {WHAT}",
        f"  partner_mask/1.png: {WHAT}",
    ]


def test_pairs_with_problems_are_left_out_if_wanted(bring, spoilt, pairs) -> None:
    store = bring(spoilt, problems=[STRAY], skip_bad=True)
    assert [problem.where for problem in store.left_out] == [
        "image/1.png",
        "labels/stray.json",
        "partner/4.png",
        "partner_mask/1.png",
    ]
    assert {problem.pair for problem in store.left_out} == {"", "pair 1", "pair 4"}
    assert same(store, bring([pairs[k] for k in (0, 2, 3)], folder="fresh"))
    assert bring(spoilt, problems=[STRAY], skip_bad=True) == store


def test_a_store_that_left_something_out_is_refused_by_who_wants_all(bring, spoilt, reads) -> None:
    first = refused(lambda: bring(spoilt, problems=[STRAY]), ProblemsError)
    bring(spoilt, problems=[STRAY], skip_bad=True)
    reads.clear()
    assert refused(lambda: bring(spoilt, problems=[STRAY]), ProblemsError) == first
    assert reads == []


def test_a_known_problem_of_no_pair_does_not_make_a_store_anew(bring, pairs, reads) -> None:
    assert bring(pairs).left_out == ()
    reads.clear()
    assert bring(pairs, problems=[STRAY], skip_bad=True).left_out == (STRAY,)
    assert "1 problem;" in refused(lambda: bring(pairs, problems=[STRAY]), ProblemsError)
    assert bring(pairs).left_out == ()
    assert reads == []


def test_a_pair_with_a_known_problem_is_not_read(bring, pairs, reads) -> None:
    problem = Problem(where="row 3", what="is odd", pair="pair 2")
    store = bring(pairs, problems=[problem], skip_bad=True)
    assert "pair 2" not in reads
    assert store.pairs["pair"].tolist() == [f"pair {k}" for k in (0, 1, 3, 4)]
    assert store.left_out == (problem,)


def test_images_that_do_not_fit_are_named(bring, pairs, root) -> None:
    def saved(name: str, *shape: int, dtype: str = "uint8") -> Path:
        return save(root / name, np.zeros(shape, dtype))

    wrong = [
        replace(pairs[0], name="a", image=saved("a.png", HEIGHT, WIDTH)),
        replace(pairs[0], name="b", partner=saved("b.png", HEIGHT, WIDTH + 1, 3)),
        replace(pairs[0], name="c", image=saved("c.png", 7, 30, 3), partner=saved("c2.png", 7, 30, 3)),
        replace(pairs[0], name="d", partner=saved("d.png", HEIGHT, WIDTH, 3, dtype="uint16")),
        replace(
            pairs[0],
            name="e",
            image=saved("e.png", HEIGHT, WIDTH, 3, dtype="uint16"),
            partner=saved("e2.png", HEIGHT, WIDTH, 3, dtype="uint16"),
        ),
        replace(pairs[0], name="f", mask=saved("f.png", HEIGHT, WIDTH + 1)),
        replace(pairs[0], name="g", partner=root / "absent.png"),
    ]
    told = refused(lambda: bring([*pairs, *wrong]), ProblemsError).splitlines()[1:]
    assert [line.strip() for line in told] == [
        "a.png: has 1 bands (alpha does not count), where 3 are needed",
        "absent.png: cannot be read (No such file or directory)",
        "b.png: is 28 x 20 px, its first image 27 x 20; they must agree",
        "c.png: is 30 x 7 px, less than a tile of 8 px",
        "d.png: is uint16, its first image uint8; they must agree",
        "e.png: is uint16, where most images are uint8; all must have the same depth",
        "f.png: is 28 x 20 px, its image 27 x 20; they must agree",
    ]


def test_no_pair_at_all_is_refused(bring, pairs) -> None:
    for pair in pairs:
        spoil(pair.image)
    told = refused(lambda: bring(pairs, skip_bad=True))
    assert f"no pair of images can be used; the first problem is image/0.png: {WHAT}" in told
    assert "no pair of images can be used" in refused(lambda: bring([]))
    shutil.rmtree(pairs[0].image.parent)
    assert "No such file" in refused(lambda: bring(pairs, skip_bad=True))


def test_two_pairs_of_one_name_are_refused(bring, pairs) -> None:
    assert "same name" in refused(lambda: bring([pairs[0], replace(pairs[1], name=pairs[0].name)]))


@pytest.mark.parametrize("wrong", [{"size": 0}, {"bands": 0}, {"noisy_classes": (255,)}])
def test_a_cut_that_cuts_nothing_is_refused(wrong) -> None:
    refused(lambda: replace(CUT, **wrong))


# --- going on with what was stopped


def test_what_was_read_before_problems_were_told_is_not_read_again(bring, spoilt, reads, root) -> None:
    with pytest.raises(ProblemsError):
        bring(spoilt)
    for number in (1, 4):
        make_pair(root, number)
    reads.clear()
    assert same(bring(spoilt), bring(spoilt, folder="fresh"))
    assert sorted(reads[:-5]) == ["pair 1", "pair 4"]


def test_pairs_that_come_before_others_move_them(bring, pairs, reads, root) -> None:
    spoil(pairs[4].partner)
    with pytest.raises(ProblemsError):
        bring(pairs[1:])
    make_pair(root, 4)
    reads.clear()
    store = bring([make_pair(root, 9, height=33), *pairs])
    assert sorted(reads) == ["pair 0", "pair 4", "pair 9"]
    assert same(store, bring([make_pair(root, 9, height=33), *pairs], folder="fresh"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.lists(st.integers(0, 7), unique=True, max_size=8),
    after=st.lists(st.integers(0, 7), unique=True, min_size=1, max_size=8),
    bad=st.sets(st.integers(0, 7)),
)
def test_whatever_was_stopped_the_store_is_as_if_nothing_had_been(bring, root, before, after, bad) -> None:
    shutil.rmtree(root.parent / "stores", ignore_errors=True)
    pairs = [make_pair(root, number, height=(8, 16, 24, 40)[number % 4]) for number in range(8)]
    stopper = make_pair(root, 8)
    spoil(stopper.image)
    with pytest.raises(ProblemsError):
        bring([*(pairs[k] for k in before), stopper])
    for number in bad:
        spoil(pairs[number].image)
    if set(after) <= bad:
        with pytest.raises(InputError, match="no pair"):
            bring([pairs[k] for k in after], skip_bad=True)
        return
    store = bring([pairs[k] for k in after], skip_bad=True)
    shutil.rmtree(root.parent / "fresh", ignore_errors=True)
    assert same(store, bring([pairs[k] for k in after if k not in bad], folder="fresh"))


def test_tiles_that_change_while_a_gap_is_closed_are_not_taken(bring, pairs, monkeypatch) -> None:
    close = making.Filled.close

    def damaged(self: making.Filled) -> list:
        path = self.rows.path("images")
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
        return close(self)

    spoil(pairs[0].image)  # so that all others move at the end
    monkeypatch.setattr(making.Filled, "close", damaged)
    assert "the tiles of pair 4" in refused(lambda: bring(pairs, skip_bad=True))
    monkeypatch.setattr(making.Filled, "close", close)
    assert same(bring(pairs, skip_bad=True), bring(pairs[1:], folder="fresh"))


SLOW_MAKER = """
import pickle, sys, time
from pathlib import Path
from datasets.storing import tiling
from datasets.store import ensure

given, allowed, go = Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
read, begun = tiling.read, []

def held_up(pair, *rest):
    begun.append(pair)
    while len(begun) > allowed and not go.exists():
        time.sleep(0.01)
    return read(pair, *rest)

tiling.read = held_up
pairs, cut, folder, root = pickle.loads(given.read_bytes())
print(ensure(pairs, cut, folder, root=root, jobs=1).fingerprint, len(begun))
"""


class Makers:
    """Processes that make a store, and stop after some pairs until they may go on."""

    def __init__(self, folder: Path, *arguments: object) -> None:
        self.folder, self.go = folder, folder / "go"
        (folder / "arguments").write_bytes(pickle.dumps(arguments))
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, allowed: int) -> subprocess.Popen[str]:
        log = open(self.folder / f"log{len(self.processes)}", "w")  # noqa: SIM115 the process keeps it
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW_MAKER, str(self.folder / "arguments"), str(allowed), str(self.go)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        log.close()
        self.processes.append(process)
        return process

    def said(self, number: int) -> str:
        return (self.folder / f"log{number}").read_text()

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def makers(tmp_path: Path, pairs: list[PairFiles], root: Path) -> Iterator[Makers]:
    makers = Makers(tmp_path, pairs, CUT, tmp_path / "stores", root)
    yield makers
    makers.end()


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "waited for a minute"
        time.sleep(0.01)


def finished(folder: Path) -> int:
    """How many pairs a making has noted as done."""
    (*journals,) = folder.glob("stores/.*.making/journal.jsonl")
    return sum(len(path.read_text().splitlines()) - 1 for path in journals)


def test_of_two_makers_one_makes_and_the_other_waits(bring, pairs, makers, tmp_path) -> None:
    first = makers.start(allowed=1)
    until(lambda: finished(tmp_path) == 1)
    second = makers.start(allowed=1)
    until(lambda: "waiting for another process" in makers.said(1))
    assert second.poll() is None
    makers.go.touch()
    answers = [process.communicate(timeout=60)[0].split() for process in (first, second)]
    assert answers == [[bring(pairs).fingerprint, number] for number in ("5", "0")]
    assert "making the store" in makers.said(0)
    assert "making" not in makers.said(1).replace("waiting for another process that makes", "")


def killed(makers: Makers, tmp_path: Path) -> None:
    process = makers.start(allowed=3)
    until(lambda: finished(tmp_path) == 3)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL


def test_a_maker_that_was_killed_blocks_nobody_and_is_continued(bring, pairs, makers, tmp_path, reads) -> None:
    killed(makers, tmp_path)
    assert not [path for path in (tmp_path / "stores").iterdir() if not path.name.startswith(".")]
    store = bring(pairs)
    assert sorted(reads) == ["pair 3", "pair 4"]
    assert same(store, bring(pairs, folder="fresh"))


@pytest.mark.parametrize("array", ARRAYS)
def test_a_tile_that_was_damaged_meanwhile_is_made_again(bring, pairs, makers, tmp_path, reads, array) -> None:
    killed(makers, tmp_path)
    (path,) = tmp_path.glob(f"stores/.*.making/{array}.npy")
    row = SIZE * SIZE * (3 if array in ("images", "partners") else 1)
    content = bytearray(path.read_bytes())
    content[-23 * row + 5] ^= 1  # the eighth of 30 tiles: the second pair's second
    path.write_bytes(content)
    store = bring(pairs)
    assert sorted(reads) == ["pair 1", "pair 3", "pair 4"]
    assert same(store, bring(pairs, folder="fresh"))


def test_a_note_that_was_cut_off_is_no_note(bring, pairs, makers, tmp_path, reads) -> None:
    killed(makers, tmp_path)
    (journal,) = tmp_path.glob("stores/.*.making/journal.jsonl")
    journal.write_bytes(journal.read_bytes()[:-9])
    store = bring(pairs)
    assert len(reads) == 3  # the one of the note, and the two that never were done
    assert {"pair 3", "pair 4"} < set(reads)
    assert same(store, bring(pairs, folder="fresh"))


def test_a_journal_of_another_format_is_not_believed(bring, pairs, makers, tmp_path, reads, monkeypatch) -> None:
    killed(makers, tmp_path)
    monkeypatch.setattr(making, "FORMAT", making.FORMAT + 1)
    monkeypatch.setattr("datasets.storing.finishing.FORMAT", making.FORMAT)
    bring(pairs)
    assert len(reads) == 5


# --- no room


@pytest.fixture
def no_large_files() -> Iterator[None]:
    """The system refuses to write beyond 4 KB of any file, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("no_large_files")
def test_a_disk_that_takes_no_more_is_told(bring, pairs, tmp_path) -> None:
    told = refused(lambda: bring(pairs))
    assert str(tmp_path / "stores") in told
    assert "File too large" in told


def test_a_write_that_fails_is_told_and_leaves_the_rest(bring, pairs, monkeypatch, reads) -> None:
    write = making.Rows.write

    def full(self: making.Rows, first: int, blocks: dict) -> None:
        if first >= 12:
            raise OSError(28, "No space left on device")
        write(self, first, blocks)

    monkeypatch.setattr(making.Rows, "write", full)
    assert "No space left on device" in refused(lambda: bring(pairs, jobs=1))
    monkeypatch.setattr(making.Rows, "write", write)
    reads.clear()
    assert same(bring(pairs), bring(pairs, folder="fresh"))
    assert sorted(reads[:-5]) == ["pair 2", "pair 3", "pair 4"]


def test_too_little_space_is_told_before_anything_is_read(bring, pairs, monkeypatch, reads) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**7))
    told = refused(lambda: bring(pairs))
    assert "need 0.02 GB" in told
    assert "0.01 GB are free" in told
    assert reads == []


def test_a_folder_that_is_a_file_is_told(bring, pairs, tmp_path) -> None:
    (tmp_path / "stores").write_text("")
    assert str(tmp_path / "stores") in refused(lambda: bring(pairs))


# --- the table of what is there


def test_the_summary_adds_up_buildings(bring, root) -> None:
    kinds = ("no-damage", "minor-damage", "major-damage", "destroyed", "un-classified")
    pairs = [xbd_pair(root, k, *kinds[: k + 1]) for k in range(5)]
    lines = summary(bring(pairs)).splitlines()
    assert lines[0].split() == ["group", "pairs", "tiles", *kinds, "noisy"]
    assert [line.split()[:-1] for line in lines[1:]] == [
        ["a", "3", "18", "3", "2", "2", "1", "1"],
        ["b", "2", "12", "2", "2", "1", "1", "0"],
        ["total", "5", "30", "5", "4", "3", "2", "1"],
    ]
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= 110


def test_the_summary_shows_shares_of_classes(bring, pairs) -> None:
    store = bring(pairs)
    lines = summary(store).splitlines()
    assert lines[0].split("  ")[-1].strip() == "noisy"
    counts = store.class_counts.sum(axis=0)
    shares = [f"{share:.1%}" for share in counts / counts.sum()]
    assert lines[-1].split() == ["total", "5", "30", *shares, f"{store.tiles['noisy'].mean():.1%}"]


def test_the_summary_stays_narrow_with_many_classes_and_long_names(bring, root) -> None:
    pair = replace(make_pair(root, 0), group="a name that is much longer than anybody would want it to be, by far")
    save(pair.partner_mask, np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8))
    lines = summary(bring([pair, make_pair(root, 2), make_pair(root, 4, masks="none")])).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= 110
    assert lines[0].split()[-2:] == ["...", "noisy"]


def test_the_summary_of_pairs_without_groups_is_one_line(bring, pairs) -> None:
    lines = summary(bring([replace(pair, group="") for pair in pairs])).splitlines()
    assert [line.split()[0] for line in lines] == ["group", "total"]


# --- real satellite images


@pytest.mark.realdata
def test_real_pairs_become_a_store(tmp_path: Path) -> None:
    data = os.environ.get("NOISY_PAIRS_DATA")
    if not data or not (Path(data) / "xbd").is_dir():
        pytest.skip("NOISY_PAIRS_DATA does not name a folder that holds xbd/")
    root = Path(data) / "xbd"
    pairs = []
    for image in sorted(root.glob("*/images/*_pre_disaster.png")):
        labels = image.parent.with_name("labels") / f"{image.stem}.json"
        image, partner, mask, partner_mask = (
            path.with_name(path.name.replace("_pre_", side)) for path in (image, labels) for side in ("_pre_", "_post_")
        )
        pairs.append(
            PairFiles(name=image.stem, image=image, partner=partner, split="", mask=mask, partner_mask=partner_mask)
        )
    store = ensure(pairs, Cut(size=512, bands=3, noisy_classes=(2, 3, 4)), tmp_path, root=root, quiet=True)
    assert store.image().shape == (4 * len(pairs), 512, 512, 3)
    damaged = np.isin(store.partner_mask(), (2, 3, 4)).any(axis=(1, 2))
    assert store.tiles["noisy"].tolist() == damaged.tolist()
    assert 0 < damaged.sum() < len(damaged)
    np.testing.assert_array_equal(store.image()[3], pixels_of(pairs[0].image)[512:, 512:])
    assert isinstance(store.pairs, pd.DataFrame)
