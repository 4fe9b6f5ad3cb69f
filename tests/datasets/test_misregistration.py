"""Misregistered pairs: one image of a clean pair is displaced by the stated amount, and its labels are not."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.transform import SimilarityTransform, warp

from datasets.dataset import Draws
from datasets.errors import InputError
from datasets.misregistration import Misregistration
from datasets.pairing import PLACES, displace, displacements
from datasets.seeding import stream
from datasets.source import Demands
from datasets.tiles.cutting import Cut
from datasets.tiles.dataset import TileDataset
from datasets.tiles.pairs import PairFiles
from datasets.tiles.request import BuildRequest
from datasets.tiles.source import TileSource, check_tiles
from datasets.tiles.store import open_store
from datasets.vts import textures
from datasets.vts.config import VtsSettings
from datasets.vts.dataset import Vts

CPU = torch.device("cpu")
SIDE = 16
DOWN, ACROSS = 3, 4
NOTHING = {"shift": 0.0, "turn": 0.0, "scale": 0.0}
AMOUNTS = ({"shift": 3.0}, {"shift": 0.0, "turn": 8.0}, {"shift": 0.0, "scale": 10.0}, {"turn": 5.0, "scale": 4.0})


def drawn(count, seed=0):
    noisy, swap, partner = torch.rand(3, count, generator=torch.Generator().manual_seed(seed))
    return Draws(noisy=noisy, swap=swap, partner=partner)


def displaced_by_skimage(image, amount, place, mode="symmetric"):
    """An image (h, w, c) displaced in one of 16 ways by scikit-image."""
    right, down = ((1, 0), (-1, 0), (0, 1), (0, -1))[place % 4]
    centre = (np.array(image.shape[:2])[::-1] - 1) / 2
    turn, scale = (1 - 2 * (place // 4 % 2)) * amount.turn, 1 + (1 - 2 * (place // 8)) * amount.scale / 100
    whole = SimilarityTransform(translation=amount.shift * np.array([right, down]) - centre)
    whole += SimilarityTransform(scale=scale, rotation=-np.deg2rad(turn))  # its rows point down, so it turns clockwise
    whole += SimilarityTransform(translation=centre)
    return warp(image, whole.inverse, order=1, mode=mode)


@pytest.mark.parametrize("amounts", AMOUNTS)
def test_an_image_is_displaced_as_scikit_image_does(amounts):
    amount = Misregistration(**amounts)
    images = torch.rand(PLACES, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    each = torch.arange(PLACES) / PLACES
    maps = displacements(amount, each, torch.ones(PLACES).bool(), SIDE)
    found = displace(images, maps).permute(0, 2, 3, 1).numpy()
    for place in range(PLACES):
        image = images[place].permute(1, 2, 0).double().numpy()
        np.testing.assert_allclose(found[place], displaced_by_skimage(image, amount, place), atol=1e-4)


def test_the_margin_holds_all_that_a_displaced_tile_shows():
    whole = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    for amounts in AMOUNTS:
        amount = Misregistration(**amounts)
        margin = amount.margin(SIDE)
        for place in range(PLACES):
            found = []
            for reach in (margin, 24):
                side, first = SIDE + 2 * reach, 24 - reach
                maps = displacements(amount, torch.tensor([place / PLACES]), torch.tensor([True]), side)
                patch = whole[..., first : first + side, first : first + side]
                found.append(displace(patch, maps)[..., reach : reach + SIDE, reach : reach + SIDE])
            torch.testing.assert_close(*found, atol=1e-4, rtol=0)


def vts(**amounts):
    generator = np.random.default_rng(0)
    bank = [[generator.integers(0, 256, (40, 40, 3), np.uint8) for _ in range(10)] for _ in range(3)]
    settings = VtsSettings(size=SIDE, train=40, val=10, test=10, regions=10, downstream_noise=3, **amounts)
    return Vts(settings, textures.pack("folder", ("a", "b", "c"), bank), partial(stream, 3), CPU)


def tiles(root: Path, noisy: int = 3, **amounts):
    """Four pairs of 3 x 4 tiles, one of them noisy, whose classes are those of the partner 2 px to the left."""
    generator = np.random.default_rng(0)
    pairs = []
    for number in range(4):
        files = {}
        mask = np.repeat(np.repeat(generator.integers(0, 2, (6, 8), np.uint8), 8, axis=0), 8, axis=1)
        for side, classes in (("mask", mask), ("partner_mask", np.roll(mask, 2, axis=1))):
            files[side] = root / f"{number}-{side}.png"
            Image.fromarray(classes).save(files[side])
        for side in ("image", "partner"):
            files[side] = root / f"{number}-{side}.png"
            Image.fromarray(generator.integers(0, 256, (DOWN * SIDE, ACROSS * SIDE, 3), np.uint8)).save(files[side])
        pairs.append(PairFiles(name=str(number), split="train", noisy=number == noisy, **files))
    cut = Cut(size=SIDE, bands=3, noisy_classes=())
    store = open_store(BuildRequest(pairs=pairs, cut=cut, folder=root / "stores", root=root, quiet=True))
    source = TileSource(
        store=store,
        split=np.zeros(len(store.tiles), np.int8),
        classes=("none", "house"),
        title="made up",
        notes=(),
        fingerprint=store.fingerprint,
        dense_labels="classes",
    )
    return TileDataset(source, CPU, Misregistration(**amounts))


@pytest.fixture(params=["vts", "tiles"])
def make(request, tmp_path):
    return vts if request.param == "vts" else partial(tiles, tmp_path)


def batch(data, rho, pairing="misregistration"):
    pool = data.pool(rho, 0.0, pairing, torch.Generator().manual_seed(0))
    return pool.batch(torch.arange(len(pool)), drawn(len(pool)), labelled=True)


def parts(pair):
    return pair.first, pair.second, pair.first_labels, pair.second_labels


def test_displaced_by_nothing_or_not_chosen_a_pair_is_the_clean_one_bit_for_bit(make):
    clean, _ = batch(make(**NOTHING), 0.0, "none")
    for amounts, rho in ((NOTHING, 1.0), ({"shift": 5.0, "turn": 3.0, "scale": 2.0}, 0.0)):
        pair, noisy = batch(make(**amounts), rho)
        assert noisy.all() == (rho == 1)
        assert all(map(torch.equal, parts(pair), parts(clean)))


def test_rho_is_the_share_of_pairs_with_one_displaced_image_and_labels_stay(make):
    data = make(shift=3.0)
    clean, _ = batch(data, 0.0)
    before = torch.zeros(len(clean.first), dtype=torch.bool)
    for rho in (0.25, 0.5, 1.0):
        pair, noisy = batch(data, rho)
        assert torch.equal(noisy, drawn(len(noisy)).noisy < rho)
        assert (noisy | ~before).all()
        before = noisy
        moved = [(one != other).flatten(1).any(dim=1) for one, other in zip(parts(pair), parts(clean), strict=True)]
        assert torch.equal(moved[0] | moved[1], noisy)
        assert not (moved[0] & moved[1]).any()
        assert not (moved[2] | moved[3]).any()
        again, _ = batch(make(shift=3.0), rho)
        assert all(map(torch.equal, parts(again), parts(pair)))


def test_a_displaced_tile_shows_what_lies_beside_it_in_its_image(tmp_path):
    amount = Misregistration(shift=5.0, turn=7.0, scale=6.0)
    data = tiles(tmp_path, shift=5.0, turn=7.0, scale=6.0)
    pair, _ = batch(data, 1.0)
    place = (PLACES * drawn(len(pair.first)).partner).long().tolist()
    swapped = (drawn(len(pair.first)).swap < 0.5).tolist()
    seen = set()
    for number, tile in data.source.store.tiles[:36].iterrows():
        image = np.array(Image.open(tmp_path / f"{tile['pair']}-partner.png")) / 255
        top, left = tile["top"], tile["left"]
        # Centred on the tile, so that it turns about its centre; beyond the image is its reflection.
        wide = np.pad(image, ((SIDE, SIDE), (SIDE, SIDE), (0, 0)), mode="symmetric")
        around = wide[top : top + 3 * SIDE, left : left + 3 * SIDE]
        wanted = displaced_by_skimage(around, amount, place[number])[SIDE : 2 * SIDE, SIDE : 2 * SIDE]
        found = (pair.first if swapped[number] else pair.second)[number].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-4)
        seen.add(place[number] % 4)
    assert seen == {0, 1, 2, 3}


def test_a_shift_by_whole_pixels_is_a_crop_of_the_whole_image(tmp_path):
    data = tiles(tmp_path, shift=6.0)
    pair, _ = batch(data, 1.0)
    place = (PLACES * drawn(len(pair.first)).partner).long() % 4
    swapped = drawn(len(pair.first)).swap < 0.5
    # The second tile of the second row has neighbours on all sides.
    for number in (ACROSS + 1, 12 + ACROSS + 1, 24 + ACROSS + 1):
        right, down = ((6, 0), (-6, 0), (0, 6), (0, -6))[place[number]]
        image = np.array(Image.open(tmp_path / f"{number // 12}-partner.png")) / 255
        wanted = image[SIDE - down : 2 * SIDE - down, SIDE - right : 2 * SIDE - right]
        found = (pair.first if swapped[number] else pair.second)[number].permute(1, 2, 0).numpy()
        np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_rates_need_no_noisy_tiles_but_a_batch_of_clean_ones(tmp_path):
    source = tiles(tmp_path, noisy=-1).source
    validating = np.where(np.arange(48) < 40, 0, 1).astype(np.int8)
    source = replace(source, split=validating)
    demands = Demands(
        rho=(0.5, 1.0), pairings=("misregistration",), labels=True, batch=40, supervised_batch=0, probe_batch=2
    )
    check_tiles(source, demands)
    with pytest.raises(InputError, match=r"--pretrain.batch 41: at rho 0 there are 40 training pairs"):
        check_tiles(source, replace(demands, batch=41))
    with pytest.raises(InputError, match=r"rho = 0.5 needs noisy pairs, but the training set has none"):
        check_tiles(source, replace(demands, pairings=("noisy", "misregistration")))


def test_nu_is_measured_by_comparing_both_masks(tmp_path):
    data = tiles(tmp_path, shift=2.0)
    masks = {n: [np.array(Image.open(tmp_path / f"{n}-{m}.png")) for m in ("mask", "partner_mask")] for n in range(4)}
    for pairing, wanted in (("noisy", masks[3][0] != masks[3][1]), ("exposure", masks[3][0] != masks[3][1])):
        pool = data.pool(1.0, 0.0, pairing, torch.Generator())
        assert pool.measured_nu() == pytest.approx(wanted.mean())
    assert np.isnan(data.pool(0.0, 0.0, "noisy", torch.Generator()).measured_nu())
    # Moved by 2 px to the left, the partners of a quarter of the tiles lie on their first images.
    rows = data.source.store.tiles[:36]
    shares = []
    for number, tile in rows.iterrows():
        right, down = ((2, 0), (-2, 0), (0, 2), (0, -2))[number % 4]
        first, second = masks[int(tile["pair"])]
        wide = np.pad(second, SIDE, mode="symmetric")
        top, left = tile["top"] + SIDE - down, tile["left"] + SIDE - right
        own = first[tile["top"] : tile["top"] + SIDE, tile["left"] : tile["left"] + SIDE]
        shares.append((wide[top : top + SIDE, left : left + SIDE] != own).mean())
    measured = data.pool(0.5, 0.0, "misregistration", torch.Generator()).measured_nu()
    assert measured == pytest.approx(np.mean(shares))


def test_measured_nu_of_scenes_is_the_stated_one():
    data = vts(shift=3.0)
    for nu in (0.2, 0.5, 1.0):
        for pairing in ("noisy", "exposure", "irrelevant"):
            measured = data.pool(1.0, nu, pairing, torch.Generator()).measured_nu()
            assert measured == pytest.approx(data.noise_pixels(nu))
            assert measured == pytest.approx(nu, abs=0.06)  # exact in regions, which differ in size
    labels = data.noise_free_labels("train", torch.arange(40)).numpy()
    false = np.mean([(labels[i] != labels[j]).mean() for i in range(40) for j in range(40) if i != j])
    assert data.pool(1.0, 1.0, "false_positive", torch.Generator()).measured_nu() == pytest.approx(false)
    by_shift = [
        vts(shift=shift).pool(1.0, 0.0, "misregistration", torch.Generator()).measured_nu() for shift in (0, 1, 3, 6)
    ]
    assert by_shift[0] == 0
    assert by_shift == sorted(by_shift)
