"""Change detection: one encoder sees both images of a pair; a head learns what no single image shows."""

from dataclasses import replace
from typing import get_args

import pytest
import torch

from datasets.errors import InputError
from datasets.manifest.config import ManifestSettings
from datasets.registry import load
from datasets.source import Demands, Place, aimed
from datasets.tiles.dataset import TileDataset
from datasets.types import CHANGE, Target
from tests.helpers import fake_pairs
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.cell_state import without_checkpoints
from trainables.models.encoders import make_encoder
from trainables.models.siamese import JOINS, WIDTH, Siamese, for_target
from trainables.probe import probe
from trainables.recipe import Encoder, Moco, Pretrain, Probe, Recipe
from trainables.run_cell import run_cell
from trainables.views import class_weights

CPU = torch.device("cpu")
RECIPE = Recipe(
    data=ManifestSettings(size=16),
    encoder=Encoder(slim=0.125, output_stride=8),
    moco=Moco(queue=8),
    pretrain=Pretrain(steps=2, batch=4, evaluations=1),
    probe=Probe(steps=2, batch=4, evaluations=1, target="change"),
)


def probing(**settings):
    return replace(RECIPE, probe=replace(RECIPE.probe, **settings))


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return make_encoder(RECIPE.encoder).eval()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Two pairs for each split, one of which changes."""
    folder = tmp_path_factory.mktemp("changing")
    splits = ("train", "train", "val", "val", "test", "test")
    rows = [row | {"split": split} for row, split in zip(fake_pairs.sound(folder), splits, strict=True)]
    demands = Demands(
        rho=(), pairings=(), labels=False, batch=2, supervised_batch=2, probe_batch=2, targets=get_args(Target)
    )
    place = Place(root=fake_pairs.listed(folder / "pairs.csv", rows), store=folder / "store")
    return load(RECIPE.data, place, demands)


class Halves:
    """The halves of both images are dark or bright at random, so that what changed shows in no single image."""

    classes, device = CHANGE, CPU

    def __init__(self, *, single=False):
        states = torch.rand(96, 2, 2, generator=torch.Generator().manual_seed(0)) < 0.5
        pairs = states.float().repeat_interleave(16, dim=2)[:, :, None, None].expand(-1, -1, 3, 32, -1)
        self.images = pairs[:, 1] if single else pairs
        self.labels = (states[:, 0] != states[:, 1]).byte().repeat_interleave(16, dim=1)[:, None].expand(-1, 32, -1)
        self.rows = {"train": 0, "val": 64, "test": 80}

    def count(self, split):
        return {"train": 64}.get(split, 16)

    def downstream(self, split, index):
        index = index + self.rows[split]
        return self.images[index], self.labels[index]

    def class_counts(self):
        return torch.bincount(self.labels[:64].flatten().long(), minlength=2)

    pool = validation_pairs = validation = noise_pixels = lambda self, *_: None  # a probe needs no pairs to pretrain


def test_equal_images_have_no_difference_and_exchanged_ones_have_the_same(encoder):
    pairs = torch.rand(3, 2, 3, 32, 32)
    difference = Siamese(encoder, "difference")
    torch.testing.assert_close(difference(pairs[:, :1].expand(-1, 2, -1, -1, -1)), torch.zeros(3, 64, 4, 4))
    assert torch.equal(difference(pairs), difference(pairs.flip(1)))
    assert difference(pairs).max() > 0.01


def test_both_features_and_their_difference_are_those_of_the_encoder(encoder):
    pairs = torch.rand(3, 2, 3, 32, 32)
    first, second = encoder(pairs[:, 0]), encoder(pairs[:, 1])
    both = Siamese(encoder, "both")
    torch.testing.assert_close(both(pairs), torch.cat([first, second, (first - second).abs()], dim=1))
    for join in JOINS:
        made = Siamese(encoder, join)
        assert made(pairs).shape[1] == made.channels == WIDTH[join] * encoder.channels


@pytest.mark.parametrize(
    "settings",
    [{"head": "linear"}, {"head": "fcn", "join": "both"}, {"head": "knn", "join": "both"}, {"cached_views": 2}],
)
def test_a_head_learns_a_change_that_no_single_image_shows(encoder, settings):
    recipe = probing(**{"steps": 60, "batch": 16, "lr": 0.03, **settings})
    state = without_checkpoints(lambda *point: None)
    found = probe(for_target(encoder, recipe.probe), Halves(), Cell(objective="random"), recipe, state)
    assert found.test["test_f1_changed"] > 0.8


def test_from_one_image_the_same_change_is_a_guess(encoder):
    recipe = probing(target="classes", steps=60, batch=16, lr=0.03)
    state = without_checkpoints(lambda *point: None)
    found = probe(for_target(encoder, recipe.probe), Halves(single=True), Cell(objective="random"), recipe, state)
    assert found.test["test_f1_changed"] < 0.7


def test_a_rare_change_weighs_as_much_as_all_else(source):
    tiles = TileDataset(source.aimed("change"), CPU)
    counts, weights = tiles.class_counts(), class_weights(tiles)
    torch.testing.assert_close(counts * weights, counts.sum().float().expand(2))


@pytest.mark.parametrize("target", ["change", "classes_from_pair"])
@pytest.mark.parametrize("objective", ["moco", "supervised"])
def test_a_cell_runs_from_both_images_with_the_scores_of_its_target(source, target, objective):
    recipe = probing(target=target, finetune=objective == "moco", every=int(objective == "moco"))
    shown, points = [], []
    found = run_cell(
        Cell(dataset="manifest", objective=objective),
        CellJob(recipe=recipe, source=source),
        CPU,
        report=lambda *point: points.append(point),
        take_examples=shown.extend,
    )
    names = {name for name in found if name.startswith("test_f1_")} - {"test_f1_macro"}
    assert names == {f"test_f1_{name}" for name in (CHANGE if target == "change" else source.classes)}
    assert all(one.before.shape == one.image.shape == (*one.truth.shape, 3) for one in shown)
    assert any("knn_val_f1_macro" in values for _, _, values in points) == (objective == "moco")
    if target == "change":  # both scores are of one table of counts
        f1 = [found[f"test_f1_{name}"] for name in CHANGE]
        assert found["test_miou"] == pytest.approx(sum(one / (2 - one) for one in f1) / 2)


def test_pretraining_is_the_same_for_every_target(source):
    cell = Cell(dataset="manifest", objective="moco", rho=0.5)
    losses = set()
    for target in ("classes", "change", "classes_from_pair"):
        job = CellJob(recipe=probing(target=target), source=source)
        losses.add(run_cell(cell, job, CPU, report=lambda *point: None)["pretrain_val_loss"])
    assert len(losses) == 1


def test_settings_without_an_effect_leave_the_key_as_it_is():
    assert probing(target="classes", join="both").fingerprint == probing(target="classes").fingerprint
    pair = probing(target="classes_from_pair")
    assert (pair.fingerprint, pair.probe.join) == (probing(target="classes_from_pair", join="both").fingerprint, "both")
    assert len({probing(join=join).fingerprint for join in JOINS}) == 2
    assert [probing(target=one).task for one in ("classes", "change")] == ["segmentation", "change"]


def test_data_without_pairs_are_refused_in_one_line(bank):
    told = r"\A--probe.target change: needs pairs of images that tell what changed, which vts does not have: [^\n]*\Z"
    with pytest.raises(InputError, match=told):
        Recipe(probe=Probe(target="change"))
    assert aimed(bank, "classes") is bank
