"""A store is made once and then opened; what changed in pairs or files makes another."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from datasets.tiles.pairs import PairFiles, ProblemsError
from datasets.tiles.request import BuildRequest
from datasets.tiles.store import open_store
from tests.helpers.fake_store import (
    CUT,
    WHAT,
    bring,
    make_pair,
    pairs,
    pixels_of,
    reads,
    refused,
    root,
    same,
    save,
    spoil,
    xbd_pair,
)

FIXTURES = (bring, pairs, reads, root)  # pytest finds them by their names


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
    monkeypatch.setattr("datasets.tiles.cache.FileLock", refuse)
    assert bring(pairs) == made


def test_a_store_is_small_when_pickled_and_opens_its_arrays_itself(bring, pairs) -> None:
    store = bring(pairs)
    store.tiles, store.pairs, store.class_counts, store.image()  # what was read does not travel
    data = pickle.dumps(store)
    assert len(data) < 1000
    assert same(pickle.loads(data), store)


def test_a_store_named_from_here_is_found_from_elsewhere(pairs, root, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store(BuildRequest(pairs=pairs, cut=CUT, folder=Path("stores"), root=root, quiet=True))
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


def test_the_fingerprint_of_the_same_data_never_changes(bring, root) -> None:
    """Records hold fingerprints. These are of commit aac9dcc, which is older than the way that stores are built now."""
    mixed = [make_pair(root, k, masks=masks) for k, masks in enumerate(("both", "image", "partner", "none", "both"))]
    assert bring(mixed).fingerprint == "451ad224f5b99aac"
    assert bring([make_pair(root, k, masks="none") for k in range(2)]).fingerprint == "75a120cc00535ef7"
    labels = [xbd_pair(root, 0, "destroyed", "no-damage", "destroyed"), xbd_pair(root, 1, "un-classified")]
    assert bring(labels).fingerprint == "0ab8b9a0486a7178"


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
    assert "again: its source files" in capsys.readouterr().err
    assert after.fingerprint != before.fingerprint
    np.testing.assert_array_equal(after.image()[12], pixels[:8, :8])


def test_a_touched_file_makes_the_same_store_again(bring, pairs, reads) -> None:
    before = bring(pairs)
    reads.clear()
    os.utime(pairs[0].mask, ns=(0, 10**18))
    assert bring(pairs) == before
    assert reads == ["pair 0"]


def test_pairs_that_are_added_are_read_alone(bring, pairs, reads, root) -> None:
    """What an earlier store holds is copied, wherever its tiles go, and checked."""
    before = bring(pairs[:4])
    reads.clear()
    more = [make_pair(root, 9), *pairs[::-1]]
    after = bring(more)
    assert sorted(reads) == ["pair 4", "pair 9"]
    assert same(after, bring(more, folder="fresh"))
    assert after.path == before.path


@pytest.mark.parametrize("masks", ["image", "none"])
def test_an_earlier_store_without_a_kind_of_mask_is_not_copied(bring, root, reads, masks) -> None:
    few = [make_pair(root, number, masks=masks) for number in range(2)]
    bring(few)
    reads.clear()
    more = [*few, make_pair(root, 2)]
    assert same(bring(more), bring(more, folder="fresh"))
    assert "pair 0" in reads


def test_a_pair_whose_earlier_tiles_are_damaged_is_read_again(bring, pairs, reads) -> None:
    made = bring(pairs)
    with open(made.path / "partners.npy", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        (last,) = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    reads.clear()
    changed = [*pairs[1:], pairs[0]]
    assert same(bring(changed), bring(changed, folder="fresh"))
    assert reads[0] == "pair 4"
    assert len(reads) == 1 + 5  # of the fresh one, all


def test_a_store_of_an_earlier_version_is_opened_and_replaced_as_a_whole(bring, pairs, reads) -> None:
    made = bring(pairs)
    path = made.path / "store.json"
    about = json.loads(path.read_text())
    for part in ("files", "digests"):
        del about[part]["sources.parquet"]
    path.write_text(json.dumps(about))
    (made.path / "sources.parquet").unlink()
    reads.clear()
    assert bring(pairs) == made
    assert not reads
    assert same(bring(pairs[1:]), bring(pairs[1:], folder="fresh"))
    assert len(reads) == 8


def test_who_opened_a_store_that_was_made_anew_is_told(bring, pairs) -> None:
    old = bring(pairs)
    held = old.image()
    before = held.copy()
    bring(CHANGES["order"](pairs))
    np.testing.assert_array_equal(held, before)  # a map that is open stays what it was
    assert "rebuilt from other files" in refused(old.partner)
    assert "rebuilt from other files" in refused(pickle.loads(pickle.dumps(old)).image)
