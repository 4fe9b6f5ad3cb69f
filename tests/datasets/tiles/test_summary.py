"""The table of what a store holds adds up, and stays narrow."""

from dataclasses import replace

import numpy as np

from datasets.tiles.store import summary
from tests.helpers.fake_store import HEIGHT, WIDTH, bring, make_pair, pairs, root, save, xbd_pair

FIXTURES = (bring, pairs, root)  # pytest finds them by their names


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
