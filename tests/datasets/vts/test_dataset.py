"""VTS as METHOD.md has it: regions, classes, nested noise, windows, splits, what is shown downstream."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from datasets import registry
from datasets.cifar10.config import Cifar10Settings
from datasets.dataset import Draws
from datasets.errors import InputError
from datasets.pairing import draw_partner
from datasets.seeding import stream
from datasets.source import Demands, Place
from datasets.vts import textures
from datasets.vts.config import VtsSettings
from datasets.vts.dataset import KEPT, Vts
from datasets.vts.scenes import IRRELEVANT, region_map
from datasets.vts.source import check, load
from datasets.vts.textures import load_textures
from datasets.xbd.config import XbdSettings

CPU = torch.device("cpu")
SETTINGS = VtsSettings(size=24, train=40, val=10, test=10)


def plain_bank(sides=(30, 40)):
    """Textures whose colour tells category (red), image (green) and column (blue)."""
    images = []
    for category in range(3):
        images.append([])
        for number in range(20):
            side = sides[number % len(sides)]
            image = np.zeros((side, side + 5, 3), np.uint8)
            image[..., 0], image[..., 1] = 100 * category, number
            image[..., 2] = np.arange(side + 5)
            images[-1].append(image)
    return textures.pack("folder", ("a", "b", "c"), images)


@pytest.fixture(scope="module")
def vts():
    return Vts(SETTINGS, plain_bank(), partial(stream, 3), CPU)


def every(vts, split="train"):
    return torch.arange(vts.count(split))


def test_half_of_the_regions_go_to_each_class(vts):
    scenes = vts.scenes["train"]
    assert scenes.classes.shape == (40, 20)
    assert (scenes.classes.sum(dim=1) == 10).all()
    assert (scenes.rank.sort(dim=1).values == torch.arange(20)).all()


def test_a_pixel_belongs_to_its_nearest_site(vts):
    sites = vts.scenes["train"].sites[:3]
    regions = region_map(sites, 24)
    for n in range(3):
        for row in range(0, 24, 5):
            for column in range(0, 24, 7):
                pixel = torch.tensor([(row + 0.5) / 24, (column + 0.5) / 24])
                assert regions[n, row, column] == ((sites[n] - pixel) ** 2).sum(dim=1).argmin()


def test_a_class_is_filled_with_one_window_of_one_texture_of_its_category(vts):
    clean = torch.zeros(40, dtype=torch.bool)
    pair = vts.pairs("train", every(vts), clean, clean, 0.0)
    pixels = (pair.first * 255).round().long()
    assert (pixels[:, 0] == 100 * pair.first_labels).all()
    for image, labels in zip(pixels, pair.first_labels, strict=True):
        for category in (0, 1):
            inside = labels == category
            assert len(image[1][inside].unique()) == 1
            # The window is copied in place: blue counts columns, so blue minus column is the window's left edge.
            left = image[2] - torch.arange(24)
            assert len(left[inside].unique()) == 1
            assert 0 <= int(left[inside][0]) <= 21


def test_noise_is_exact_in_regions_nested_over_nu_and_blind_to_class(vts):
    true = torch.ones(40, dtype=torch.bool)
    scenes = vts.scenes["train"]
    before = torch.zeros(40, 24, 24, dtype=torch.bool)
    for nu, count in ((0.25, 5), (0.5, 10), (1.0, 20)):
        pair = vts.pairs("train", every(vts), ~true, true, nu)
        noise = (pair.second * 255).round()[:, 0] == 200
        regions = region_map(scenes.sites, 24)
        assert (noise == (scenes.rank.gather(1, regions.flatten(1)) < count).view_as(noise)).all()
        assert not (before & ~noise).any()
        assert torch.equal(pair.second.where(~noise[:, None], 0), pair.first.where(~noise[:, None], 0))
        assert float(noise.double().mean()) == pytest.approx(vts.noise_pixels(nu), abs=1e-12)
        before = noise
    assert before.all()
    replaced = scenes.classes[scenes.rank < 5].double().mean()
    assert float(replaced) == pytest.approx(0.5, abs=0.15)


def test_dense_labels_are_noise_free_in_both_pairings(vts):
    true = torch.ones(40, dtype=torch.bool)
    clean = vts.pairs("train", every(vts), ~true, ~true, 0.0)
    for first in (true, ~true):
        pair = vts.pairs("train", every(vts), first, true, 0.5)
        assert torch.equal(pair.first_labels, clean.first_labels)
        assert torch.equal(pair.second_labels, clean.first_labels)


def test_exposure_shows_the_same_noisy_partner_twice(vts):
    true = torch.ones(40, dtype=torch.bool)
    pair = vts.pairs("train", every(vts), true, true, 0.5)
    assert torch.equal(pair.first, pair.second)
    assert torch.equal(pair.second, vts.pairs("train", every(vts), ~true, true, 0.5).second)


def test_downstream_images_carry_the_true_three_classes(vts):
    images, labels = vts.downstream("test", every(vts, "test"))
    assert labels.unique().tolist() == [0, 1, 2]
    assert ((images * 255).round()[:, 0] == 100 * labels).all()
    regions = region_map(vts.scenes["test"].sites, 24)
    for number in range(10):
        noisy = regions[number][labels[number] == 2].unique()
        assert len(noisy) <= 7  # a region that is hidden behind its neighbours has no pixel


def test_texture_images_are_split_before_any_scene_is_made(vts):
    used = {split: set(scenes.image.flatten().tolist()) for split, scenes in vts.scenes.items()}
    assert not used["train"] & used["val"]
    assert not used["train"] & used["test"]
    assert not used["val"] & used["test"]
    assert [len(used[split]) <= 3 * n for split, n in (("train", 10), ("val", 6), ("test", 4))] == [True] * 3


def test_scenes_depend_on_the_seed_alone():
    bank = plain_bank()
    one, same, other = (Vts(SETTINGS, bank, partial(stream, seed), CPU) for seed in (3, 3, 4))
    index = torch.arange(10)
    assert torch.equal(one.downstream("val", index)[0], same.downstream("val", index)[0])
    assert not torch.equal(one.downstream("val", index)[0], other.downstream("val", index)[0])


def test_more_scenes_leave_the_other_splits_as_they_are():
    bank = plain_bank()
    more = Vts(VtsSettings(size=24, train=80, val=10, test=10), bank, partial(stream, 3), CPU)
    fewer = Vts(SETTINGS, bank, partial(stream, 3), CPU)
    index = torch.arange(10)
    assert torch.equal(more.downstream("test", index)[0], fewer.downstream("test", index)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"regions": 7}, "--data.regions 7: should be a multiple of 2"),
        ({"train": 1}, "--data.train 1"),
        ({"downstream_noise": 20}, "1 to 19"),
        ({"texture_scale": 0.0}, "--data.texture-scale"),
        ({"categories": ("a", "b")}, "give three"),
        ({"categories": ("veined", "bark", "matted")}, "categories bark: procedural textures are stratified, veined"),
        ({"categories": ("a", "b", "a"), "textures": "folder"}, "a is given twice"),
        ({"size": 4}, "--data.size 4: should be greater than or equal to 8"),
    ],
)
def test_settings_that_make_no_scene_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        VtsSettings(**change)


def test_a_source_that_needs_a_folder_says_so():
    with pytest.raises(InputError, match="--data-root"):
        load_textures(VtsSettings(textures="dtd"), None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_renders_the_same_scenes():
    bank = plain_bank()
    sides = [Vts(SETTINGS, bank, partial(stream, 3), device) for device in (CPU, torch.device("cuda"))]
    here, there = (side.downstream("test", torch.arange(10)) for side in sides)
    assert torch.equal(here[1], there[1].cpu())
    assert torch.equal(here[0], there[0].cpu())


def test_region_maps_that_are_kept_are_those_that_are_found_each_time(vts, monkeypatch):
    index, noisy = torch.tensor([3, 1, 39, 3]), torch.tensor([True, False, True, False])
    kept = vts.pairs("train", index, ~noisy, noisy, 0.5)
    assert "train" in vts._regions
    monkeypatch.setitem(KEPT, "cpu", 0)
    fresh = Vts(SETTINGS, plain_bank(), partial(stream, 3), CPU)
    found = fresh.pairs("train", index, ~noisy, noisy, 0.5)
    assert not fresh._regions
    assert torch.equal(kept.first, found.first)
    assert torch.equal(kept.second, found.second)
    assert torch.equal(kept.first_labels, found.first_labels)
    for one, other in zip(vts.downstream("val", index % 10), fresh.downstream("val", index % 10), strict=True):
        assert torch.equal(one, other)
    assert vts.noise_pixels(0.5) == fresh.noise_pixels(0.5)


def test_pairs_without_labels_are_the_same_pairs(vts):
    noisy = torch.arange(40) % 2 == 0
    pair = vts.pairs("train", every(vts), ~noisy, noisy, 0.5, labelled=False)
    labelled = vts.pairs("train", every(vts), ~noisy, noisy, 0.5)
    assert pair.first_labels is pair.second_labels is None
    assert torch.equal(pair.first, labelled.first)
    assert torch.equal(pair.second, labelled.second)
    assert torch.equal(vts.noise_free_labels("train", every(vts)), labelled.second_labels)


def plain_bank_of_four():
    three = plain_bank()
    images = [[three.image(20 * c + m) for m in range(20)] for c in range(3)]
    images.append([np.full((30, 35, 3), 250, np.uint8) for _ in range(20)])
    return textures.pack("folder", ("a", "b", "c", "d"), images)


def draws(count=40):
    noisy, swap, partner = torch.rand(3, count, generator=torch.Generator().manual_seed(5))
    return Draws(noisy=noisy, swap=swap, partner=partner)


def test_a_fourth_texture_changes_nothing_about_scenes_with_three(vts):
    more = Vts(SETTINGS, plain_bank_of_four(), partial(stream, 3), CPU)
    noisy = torch.ones(40, dtype=torch.bool)
    one, other = (data.pairs("train", every(vts), ~noisy, noisy, 0.5) for data in (vts, more))
    assert torch.equal(one.first, other.first)
    assert torch.equal(one.second, other.second)
    assert torch.equal(vts.downstream("test", torch.arange(10))[0], more.downstream("test", torch.arange(10))[0])


def test_irrelevant_noise_takes_the_places_of_relevant_noise_and_is_never_shown_downstream():
    data = Vts(SETTINGS, plain_bank_of_four(), partial(stream, 3), CPU)
    one, other = (
        data.pool(0.5, 0.5, pairing, torch.Generator()).batch(every(data), draws(), labelled=True)
        for pairing in ("noisy", "irrelevant")
    )
    assert torch.equal(one[1], other[1])
    for mine, theirs in ((one[0].first, other[0].first), (one[0].second, other[0].second)):
        relevant = ((mine * 255).round()[:, 0] == 200)[:, None].expand_as(mine)
        irrelevant = ((theirs * 255).round()[:, 0] == 250)[:, None].expand_as(theirs)
        assert torch.equal(relevant, irrelevant)
        assert torch.equal(mine[~relevant], theirs[~relevant])
    assert (one[0].second != other[0].second).any()
    assert torch.equal(one[0].first_labels, other[0].first_labels)
    for split in ("train", "val", "test"):
        images, labels = data.downstream(split, torch.arange(10))
        assert not (images[:, 0] == 250 / 255).any()
        assert set(labels.unique().tolist()) == {0, 1, 2}


def test_a_false_positive_shows_another_scene_under_the_labels_of_the_first(vts):
    drawn = draws()
    pair, false = vts.pool(0.5, 1.0, "false_positive", torch.Generator()).batch(every(vts), drawn, labelled=True)
    assert torch.equal(false, drawn.noisy < 0.5)
    clean = torch.zeros(40, dtype=torch.bool)
    own = vts.pairs("train", every(vts), clean, clean, 0.0)
    strange = own.first[draw_partner(every(vts), drawn.partner, 40)]
    swapped = false & (drawn.swap < 0.5)
    assert torch.equal(pair.first, strange.where(swapped[:, None, None, None], own.first))
    assert torch.equal(pair.second, strange.where((false & ~swapped)[:, None, None, None], own.first))
    assert torch.equal(pair.first_labels, own.first_labels)
    assert torch.equal(pair.second_labels, own.first_labels)


def test_irrelevant_noise_needs_a_texture_of_its_own():
    wanted = Demands(rho=(1.0,), pairings=("irrelevant",), labels=False, batch=2, supervised_batch=0, probe_batch=2)
    check(SETTINGS, plain_bank_of_four(), wanted)
    with pytest.raises(InputError, match="fourth texture category"):
        check(SETTINGS, plain_bank(), wanted)


def test_batches_larger_than_the_training_set_are_refused():
    wanted = Demands(rho=(1.0,), pairings=("noisy",), labels=True, batch=40, supervised_batch=0, probe_batch=2)
    check(SETTINGS, plain_bank(), wanted)
    check(SETTINGS, plain_bank(), replace(wanted, rho=(), batch=41))  # baselines alone have no pairs
    for change in ({"batch": 41}, {"supervised_batch": 41}):
        with pytest.raises(InputError, match=r"--pretrain\.batch 41 exceeds the 40 training scenes"):
            check(SETTINGS, plain_bank(), replace(wanted, **change))
    with pytest.raises(InputError, match=r"--probe\.batch 41"):
        check(SETTINGS, plain_bank(), replace(wanted, probe_batch=41))


def test_flags_that_do_nothing_are_refused(tmp_path):
    for settings, place, flag in (
        (SETTINGS, Place(store=tmp_path), "--store"),
        (SETTINGS, Place(skip_bad=True), "--skip-bad"),
        (SETTINGS, Place(root=tmp_path), "--data-root has no effect for procedural textures"),
    ):
        with pytest.raises(InputError, match=flag):
            load(settings, place)


def test_class_counts_are_those_of_the_labels_shown(vts):
    labels = vts.downstream("train", every(vts))[1]
    assert vts.class_counts().tolist() == [int((labels == number).sum()) for number in range(3)]


def test_the_split_ood_is_that_of_the_test_with_an_unseen_texture_as_third_class():
    vts = Vts(SETTINGS, plain_bank_of_four(), partial(stream, 3), CPU)
    index = every(vts, "ood")
    (images, labels), (others, same) = vts.downstream("test", index), vts.downstream("ood", index)
    assert len(index) == vts.count("test")
    assert torch.equal(labels, same)
    third = (labels == 2)[:, None].expand_as(images)
    assert torch.equal(others[~third], images[~third])
    one = torch.ones(len(index), dtype=torch.bool)
    unseen = vts.pairs("test", index, one, one, 1.0, noise=IRRELEVANT).first
    assert torch.equal(others[third], unseen[third])
    assert not torch.equal(others[third], images[third])


def test_a_split_ood_that_is_empty_or_overlaps_is_refused():
    wanted = Demands(
        rho=(1.0,), pairings=("noisy",), labels=False, batch=2, supervised_batch=0, probe_batch=2, ood=True
    )
    check(SETTINGS, plain_bank_of_four(), wanted)
    with pytest.raises(InputError, match="ood: is empty without a fourth texture category"):
        check(SETTINGS, plain_bank(), wanted)
    with pytest.raises(InputError, match=r"ood: shows .*, which the pairing irrelevant has shown in pretraining"):
        check(SETTINGS, plain_bank_of_four(), replace(wanted, pairings=("noisy", "irrelevant")))
    for settings, told in ((Cifar10Settings(), "cifar10 has no such split"), (XbdSettings(), "nothing was held out")):
        with pytest.raises(InputError, match=f"split ood: .*{told}"):
            registry.load(settings, Place(), replace(wanted, pairings=()))
