"""Tiles of real pairs: what pools hold at each rate, what is shown with which labels, and how bands are scaled."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from datasets.dataset import Draws
from datasets.tiles.cutting import Cut
from datasets.tiles.dataset import TileDataset
from datasets.tiles.pairs import PairFiles
from datasets.tiles.request import BuildRequest
from datasets.tiles.source import TileSource
from datasets.tiles.splits import undersample
from datasets.tiles.store import open_store
from datasets.types import SPLITS

CPU = torch.device("cpu")
TRAIN, VAL = 24, 8
SIDE = 8


def noisy(number: int) -> bool:
    """One pair in four."""
    return number % 4 == 0


def mask(number: int, *, partner: bool) -> np.ndarray:
    """The upper half is a house. A partner shows an unknown last row and, of a noisy pair, a ruin in its first row."""
    found = np.zeros((SIDE, SIDE), np.uint8)
    found[: SIDE // 2] = 1
    if partner and noisy(number):
        found[0] = 3
    if partner:
        found[-1] = 255
    return found


def write(root: Path, *, masks: str = "both", dtype: str = "uint8", bands: int = 3) -> list[PairFiles]:
    """Pairs of one tile: the first image of pair n shows n + 10 b in band b, its partner 100 more."""
    pairs = []
    for number in range(TRAIN + VAL):
        files = {}
        for side, value in (("image", number), ("partner", number + 100)):
            pixels = np.broadcast_to(value + 10 * np.arange(bands), (SIDE, SIDE, bands)).astype(dtype)
            files[side] = root / f"{number}-{side}.tif"
            layout = "contig" if bands > 1 else None
            tifffile.imwrite(files[side], pixels, planarconfig=layout, photometric="minisblack")
        for side in ("mask", "partner_mask"):
            if masks in ("both", side):
                files[side] = root / f"{number}-{side}.png"
                Image.fromarray(mask(number, partner=side == "partner_mask")).save(files[side])
        split = "train" if number < TRAIN else "val"
        said = None if masks == "both" else noisy(number)
        pairs.append(PairFiles(name=f"{number:02}", split=split, noisy=said, **files))
    return pairs


def source(root: Path, *, bands: int = 3, noisy_classes=(2, 3), dense_labels="binary", mean=None, std=None, **files):
    pairs = write(root, bands=bands, **files)
    cut = Cut(size=SIDE, bands=bands, noisy_classes=noisy_classes)
    store = open_store(BuildRequest(pairs=pairs, cut=cut, folder=root / "stores", root=root, quiet=True))
    return TileSource(
        store=store,
        split=np.array([SPLITS.index(split) for split in store.tiles["split"]], np.int8),
        classes=("none", "house", "minor", "ruin"),
        title="made up",
        notes=(),
        fingerprint=store.fingerprint,
        dense_labels=dense_labels,
        noisy_classes=noisy_classes,
        mean=mean,
        std=std,
    )


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    return TileDataset(source(tmp_path_factory.mktemp("pairs")), CPU)


def draws(count, seed=0):
    chosen, swap, partner = torch.rand(3, count, generator=torch.Generator().manual_seed(seed))
    return Draws(noisy=chosen, swap=swap, partner=partner)


def pool_of(tiles, rho, pairing="noisy", seed=0):
    return tiles.pool(rho, 0.0, pairing, torch.Generator().manual_seed(seed))


def numbers(images):
    """Which pair each image is of, and whether it is the partner."""
    value = (images[:, 0, 0, 0] * 255).round().long()
    return value % 100, value >= 100


@pytest.mark.parametrize("rho", [0.0, 0.1, 0.25, 0.5, 0.75, 1.0])
def test_a_pool_holds_as_many_tiles_as_undersampling_says_each_once(tiles, rho):
    pool = pool_of(tiles, rho)
    pair, is_noisy = pool.batch(torch.arange(len(pool)), draws(len(pool)), labelled=False)
    clean, ruined = undersample(TRAIN - TRAIN // 4, TRAIN // 4, rho)
    assert (int((~is_noisy).sum()), int(is_noisy.sum())) == (clean, ruined)
    shown, _ = numbers(pair.first)
    assert len(shown.unique()) == len(pool)
    assert shown.max() < TRAIN
    assert torch.equal(is_noisy, shown % 4 == 0)


def test_smaller_shares_are_contained_in_larger_ones_of_the_seed_alone(tiles):
    members = {rho: set(pool_of(tiles, rho).tiles.tolist()) for rho in (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)}
    for one, other in ((0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0)):
        for kind in (True, False):
            lower, higher = ({n for n in members[rho] if noisy(n) == kind} for rho in (one, other))
            assert lower <= higher if kind else higher <= lower
    assert pool_of(tiles, 0.5).tiles.tolist() == pool_of(tiles, 0.5, "exposure").tiles.tolist()
    assert pool_of(tiles, 0.5).tiles.tolist() != pool_of(tiles, 0.5, seed=1).tiles.tolist()


def test_every_pair_is_of_two_times_but_for_noisy_ones_in_mere_exposure(tiles):
    for pairing in ("noisy", "exposure"):
        pool = pool_of(tiles, 0.5, pairing)
        drawn = draws(len(pool))
        pair, is_noisy = pool.batch(torch.arange(len(pool)), drawn, labelled=False)
        (first, first_partner), (second, second_partner) = numbers(pair.first), numbers(pair.second)
        assert torch.equal(first, second)
        twice = is_noisy if pairing == "exposure" else torch.zeros_like(is_noisy)
        assert torch.equal(first_partner & second_partner, twice)
        assert (first_partner | second_partner).all()
        assert torch.equal(first_partner[~twice], (drawn.swap < 0.5)[~twice])


def test_each_image_has_the_labels_of_its_own_mask_against_the_background(tiles):
    pool = pool_of(tiles, 0.5)
    pair, _ = pool.batch(torch.arange(len(pool)), draws(len(pool)), labelled=True)
    for images, labels in ((pair.first, pair.first_labels), (pair.second, pair.second_labels)):
        for number, partner, found in zip(*(part.tolist() for part in numbers(images)), labels, strict=True):
            own = mask(number, partner=partner)
            assert np.array_equal(found.numpy(), np.where(own == 255, 255, own > 0))


def test_dense_labels_can_be_the_classes_themselves(tmp_path):
    tiles = TileDataset(source(tmp_path, dense_labels="classes"), CPU)
    pair = tiles.validation(torch.arange(tiles.validation_pairs()), labelled=True)
    number = int(numbers(pair.second)[0][0])
    assert np.array_equal(pair.second_labels[0].numpy(), mask(number, partner=True))


def test_validation_pairs_are_the_clean_ones_of_their_split(tiles):
    pair = tiles.validation(torch.arange(tiles.validation_pairs()), labelled=False)
    shown, partner = numbers(pair.first)
    assert shown.tolist() == [n for n in range(TRAIN, TRAIN + VAL) if not noisy(n)]
    assert not partner.any()
    assert numbers(pair.second)[1].all()


def test_downstream_images_are_partners_with_their_classes(tiles):
    images, labels = tiles.downstream("train", torch.tensor([5, 0]))
    shown, partner = numbers(images)
    assert shown.tolist() == [5, 0]
    assert partner.all()
    assert [np.array_equal(found.numpy(), mask(n, partner=True)) for found, n in zip(labels, (5, 0), strict=True)]
    assert (tiles.count("train"), tiles.count("val"), tiles.count("test")) == (TRAIN, VAL, 0)


def test_images_are_probed_where_only_they_have_masks(tmp_path):
    tiles = TileDataset(source(tmp_path, masks="mask"), CPU)
    images, labels = tiles.downstream("train", torch.tensor([5, 0]))
    assert not numbers(images)[1].any()
    assert np.array_equal(labels[1].numpy(), mask(0, partner=False))


def test_class_counts_are_those_of_the_labels_shown(tiles):
    labels = tiles.downstream("train", torch.arange(TRAIN))[1]
    assert tiles.class_counts().tolist() == [int((labels == number).sum()) for number in range(4)]


def test_noise_is_the_share_of_noisy_classes_in_noisy_partners(tiles, tmp_path):
    assert tiles.noise_pixels(0.0) == 1 / SIDE
    unknown = TileDataset(source(tmp_path, masks="mask", noisy_classes=()), CPU)
    assert np.isnan(unknown.noise_pixels(0.0))


@pytest.mark.parametrize(("dtype", "bands"), [("uint8", 1), ("uint16", 4), ("uint16", 13)])
def test_given_statistics_scale_each_band_to_three_deviations_either_way(tmp_path, dtype, bands):
    mean, std = tuple(5.0 + 10 * b for b in range(bands)), tuple(2.0 + b for b in range(bands))
    tiles = TileDataset(source(tmp_path, dtype=dtype, bands=bands, mean=mean, std=std), CPU)
    images = tiles.validation(torch.tensor([0]), labelled=False).first[0, :, 0, 0]
    number = TRAIN + 1  # the first clean pair of the split
    expected = [(number + 10 * b - mean[b]) / (6 * std[b]) + 0.5 for b in range(bands)]
    assert images.tolist() == pytest.approx(np.clip(expected, 0, 1).tolist(), abs=1e-6)
