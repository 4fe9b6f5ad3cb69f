"""Pretraining on the tiles that show two classes (`min_share`): which these are, and what else stays as it is."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.dataset import Draws
from datasets.errors import InputError
from datasets.source import Demands
from datasets.tiles.cutting import Cut
from datasets.tiles.dataset import TileDataset
from datasets.tiles.pairs import PairFiles
from datasets.tiles.request import BuildRequest
from datasets.tiles.source import (
    TileSource,
    check_tiles,
    contrast_notes,
    contrasting,
    source_fingerprint,
    split_counts,
    used_tiles,
)
from datasets.tiles.splits import undersample
from datasets.tiles.store import open_store
from datasets.types import IGNORED, SPLITS

CPU = torch.device("cpu")
SIDE = 8
AREAS = (0, 1, 6, 32, 63, 64)
"""Pixels of houses in a mask."""
SHOWN = list(product(AREAS, AREAS))
"""Of the image and of its partner, in each pair of a split."""


def mask(houses: int) -> np.ndarray:
    """So many pixels are houses, and the others background."""
    return (np.arange(SIDE * SIDE) < houses).astype(np.uint8).reshape(SIDE, SIDE)


def build(root: Path, masks: list[np.ndarray | tuple[np.ndarray, np.ndarray]], *, labelled=True) -> TileSource:
    """A pair of one tile for each mask (or two) in each split; every third is noisy, whatever it shows."""
    pairs = []
    for split, (number, shown) in product(SPLITS, enumerate(masks)):
        name = f"{split}{number:02}"
        files = {}
        for side, its in zip(("image", "partner"), shown if isinstance(shown, tuple) else (shown, shown), strict=True):
            files[side] = root / f"{name}-{side}.png"
            Image.fromarray(np.full((SIDE, SIDE, 3), number, np.uint8)).save(files[side])
            key = {"image": "mask", "partner": "partner_mask"}[side]
            if labelled or side == "image":
                files[key] = root / f"{name}-{key}.png"
                Image.fromarray(its).save(files[key])
        pairs.append(PairFiles(name=name, split=split, noisy=number % 3 == 0, **files))
    cut = Cut(size=SIDE, bands=3, noisy_classes=())
    store = open_store(BuildRequest(pairs=pairs, cut=cut, folder=root / "stores", root=root, quiet=True))
    split = np.array([SPLITS.index(name) for name in store.tiles["split"]], np.int8)
    classes = ("none", "house", "minor", "ruin")
    return TileSource(
        store=store,
        split=split,
        classes=classes,
        title="made up",
        notes=(),
        fingerprint=source_fingerprint(store, split, classes),
        dense_labels="binary",
    )


MASKS = [(mask(first), mask(second)) for first, second in SHOWN]


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> TileSource:
    return build(tmp_path_factory.mktemp("pairs"), MASKS)


def demands(**change) -> Demands:
    default = Demands(rho=(0.0,), pairings=("noisy",), labels=True, batch=2, supervised_batch=0, probe_batch=2)
    return replace(default, **change)


def shows_two(areas: tuple[int, int], share: float) -> bool:
    return all(min(area, SIDE**2 - area) >= share * SIDE**2 for area in areas)


@pytest.mark.parametrize("share", [0.0, 0.01, 1 / 64, 0.05, 6 / 64, 0.5])
def test_a_tile_counts_if_both_masks_have_that_share_of_the_rarer_class(source, share):
    chosen = contrasting(source, share)
    assert chosen.tolist() == [shows_two(areas, share) for areas in SHOWN] * 3
    assert contrasting(replace(source, min_share=share)).tolist() == chosen.tolist()
    if share == 0:
        assert chosen.all()


def test_classes_or_class_0_and_the_rest_are_what_a_tile_has_two_of(tmp_path):
    shown = mask(40)
    shown[shown == 0] = 2  # 40 pixels of class 1, 24 of class 2
    source = build(tmp_path, [shown])
    assert not contrasting(source, 0.01).any()
    classes = replace(source, dense_labels="classes")
    assert contrasting(classes, 24 / 64).all()
    assert not contrasting(classes, 25 / 64).any()


def test_ignored_pixels_are_of_no_class(tmp_path):
    shown = mask(20)
    shown.flat[:15] = IGNORED
    source = build(tmp_path, [shown, np.full_like(shown, IGNORED)])
    assert contrasting(source, 5 / 64).tolist() == [True, True] * 3  # a mask without any class is not asked
    assert contrasting(source, 6 / 64).tolist() == [False, True] * 3


def test_a_mask_that_is_absent_is_not_asked(tmp_path):
    source = build(tmp_path, MASKS, labelled=False)
    assert contrasting(source, 0.05).tolist() == [shows_two((first, 32), 0.05) for first, _ in SHOWN] * 3


@pytest.mark.parametrize("rho", [0.0, 0.25, 0.5, 1.0])
def test_rates_stay_exact_in_what_is_left(source, rho):
    data = TileDataset(replace(source, min_share=0.05), CPU)
    pool = data.pool(rho, 0.0, "noisy", torch.Generator().manual_seed(0))
    draws = Draws(**dict.fromkeys(("noisy", "swap", "partner"), torch.zeros(len(pool))))
    _, noisy = pool.batch(torch.arange(len(pool)), draws, labelled=True)
    left = [number % 3 == 0 for number, areas in enumerate(SHOWN) if shows_two(areas, 0.05)]
    assert (int((~noisy).sum()), int(noisy.sum())) == undersample(left.count(False), left.count(True), rho)
    assert all(shows_two(SHOWN[tile % len(SHOWN)], 0.05) for tile in pool.tiles.tolist())


def test_pretraining_is_validated_on_such_tiles_and_the_downstream_task_keeps_all(source):
    every, chosen = TileDataset(source, CPU), TileDataset(replace(source, min_share=0.05), CPU)
    clean = [number for number, areas in enumerate(SHOWN) if number % 3 and shows_two(areas, 0.05)]
    pair = chosen.validation(torch.arange(chosen.validation_pairs()), labelled=True)
    assert (pair.first[:, 0, 0, 0] * 255).round().long().tolist() == clean
    assert [every.count(split) for split in SPLITS] == [chosen.count(split) for split in SPLITS]
    assert torch.equal(every.class_counts(), chosen.class_counts())
    assert every.validation_pairs() == sum(number % 3 > 0 for number in range(len(SHOWN)))


def test_a_grid_is_checked_against_the_tiles_that_are_left(source):
    chosen = replace(source, min_share=0.05)
    clean = int(split_counts(chosen, contrasting(chosen)).loc["train", "clean"])
    assert clean < split_counts(chosen).loc["train", "clean"]
    check_tiles(chosen, demands(batch=clean))
    check_tiles(source, demands(batch=clean + 1))
    with pytest.raises(InputError, match=rf"\A--pretrain\.batch {clean + 1}: at rho 0 there are {clean} .*min-share"):
        check_tiles(chosen, demands(batch=clean + 1))


@pytest.mark.parametrize("needed", [0, 10**6])
def test_a_note_counts_the_tiles_with_two_classes_and_says_whether_they_suffice(source, monkeypatch, needed):
    monkeypatch.setattr("datasets.tiles.source.ENOUGH", needed)
    number = sum(shows_two(areas, 0.05) for areas in SHOWN)
    (note,) = contrast_notes(replace(source, min_share=0.05))
    assert note.startswith(f"{number} of {len(SHOWN)} training tiles show two classes (at least 5 % in each mask), and")
    assert ("too few" in note) == (number < needed)
    assert used_tiles(replace(source, min_share=0.05)).endswith(f"{number} of {len(SHOWN)} training tiles")
    assert used_tiles(source) == ""
    (usual,) = contrast_notes(source)
    assert usual.startswith(f"{sum(shows_two(areas, 0.01) for areas in SHOWN)} of {len(SHOWN)} training tiles show two")
