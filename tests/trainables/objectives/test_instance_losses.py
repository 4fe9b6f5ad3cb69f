"""Losses of whole images agree with plain loops of their equations, with closed forms, and with public values."""

import copy
import math
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from datasets.seeding import stream
from tests.trainables.objectives.test_losses import units
from trainables import loss_settings
from trainables.collapse import Spread, is_collapsed
from trainables.models.encoders import make_encoder
from trainables.models.heads import normed_head
from trainables.objectives.base import make_objective
from trainables.objectives.byol import byol
from trainables.objectives.simclr import nt_xent
from trainables.objectives.simsiam import simsiam
from trainables.objectives.supcon import supcon
from trainables.objectives.vicreg import vicreg
from trainables.pretrain import Pretrained
from trainables.views import Views

T = 0.5
OF_IMAGES = ("simclr", "supcon", "byol", "simsiam", "vicreg")


def cosine(a, b):
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def raw(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- formulas


@pytest.mark.parametrize("seed", range(3))
def test_nt_xent_is_the_formula(seed):
    features, slow = units(10, 7, seed=seed), 0.0
    for i in range(10):
        e = [math.exp(float(features[i] @ features[k]) / T) for k in range(10)]
        slow += -math.log(e[(i + 5) % 10] / sum(e[k] for k in range(10) if k != i)) / 10
    assert nt_xent(features, temperature=T).item() == pytest.approx(slow, rel=1e-12)


@pytest.mark.parametrize("classes", [[0, 1, 0, 2, 1], [0, 0, 0, 0, 0], [0, 1, 2, 3, 4]])
def test_supcon_is_the_formula(classes):
    features, labels, slow = units(10, 7, seed=0), [*classes, *classes], 0.0
    for i in range(10):
        e = [math.exp(float(features[i] @ features[k]) / T) for k in range(10)]
        below = sum(e[k] for k in range(10) if k != i)
        same = [k for k in range(10) if k != i and labels[k] == labels[i]]
        slow += -sum(math.log(e[k] / below) for k in same) / len(same) / 10
    assert supcon(features, torch.tensor(labels), temperature=T).item() == pytest.approx(slow, rel=1e-12)


def test_supcon_where_no_pair_shares_its_class_is_simclr():
    features = units(10, 7, seed=0)
    alone = supcon(features, torch.arange(5).repeat(2), temperature=T).item()
    assert alone == pytest.approx(nt_xent(features, temperature=T).item(), rel=1e-12)


def test_byol_is_the_formula():
    predicted, target = raw(6, 5, seed=0), raw(6, 5, seed=1)
    slow = [
        sum((a / p.norm() - b / z.norm()).item() ** 2 for a, b in zip(p, z, strict=True))
        for p, z in zip(predicted, target, strict=True)
    ]
    assert byol(predicted, target).item() == pytest.approx(sum(slow) / 6, rel=1e-12)


def test_simsiam_is_the_formula():
    p1, p2, z1, z2 = (raw(6, 5, seed=k) for k in range(4))
    slow = [-cosine(p1[i], z2[i]) / 2 - cosine(p2[i], z1[i]) / 2 for i in range(6)]
    assert simsiam((p1, p2), (z1, z2)).item() == pytest.approx(sum(slow) / 6, rel=1e-12)


@pytest.mark.parametrize("weights", [(25.0, 25.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)])
def test_vicreg_is_the_formula(weights):
    n, d = 6, 4
    first, second = 0.5 * raw(n, d, seed=0), 1.5 * raw(n, d, seed=1)
    invariance = sum((first[i, j] - second[i, j]).item() ** 2 for i in range(n) for j in range(d)) / (n * d)
    variance = covariance = 0.0
    for features in (first.tolist(), second.tolist()):
        mean = [sum(features[i][j] for i in range(n)) / n for j in range(d)]
        for j in range(d):
            for k in range(d):
                c = sum((features[i][j] - mean[j]) * (features[i][k] - mean[k]) for i in range(n)) / (n - 1)
                if j == k:
                    variance += max(0.0, 1 - math.sqrt(c + 1e-4)) / d / 2
                else:
                    covariance += c**2 / d
    assert 0 < variance < 1
    slow = weights[0] * invariance + weights[1] * variance + weights[2] * covariance
    assert vicreg(first, second, weights).item() == pytest.approx(slow, rel=1e-12)


# --- public values and code


@pytest.mark.parametrize(
    ("pairs", "values"),
    [
        (
            [[[0, 0, 1], [0, 0, 1]], [[0, 1, 0], [0, 1, 0]], [[1, 0, 0], [1, 0, 0]]],
            [1.57149910, 1.57149910, 0.90483244],
        ),
        (
            [
                [[0.01, 0.02, 0.14], [0.38, 0.61, 0.50]],
                [[0.86, 0.97, 0.33], [0.26, 0.68, 0.45]],
                [[0.32, 0.64, 0.28], [0.45, 0.74, 0.73]],
            ],
            [1.6755852, 1.7973773, 1.58471],
        ),
    ],
)
def test_supcon_gives_the_published_values(pairs, values):
    """Those of losses_test.py in google-research/supcon, by pair; the first two pairs have one class."""
    features = torch.tensor(pairs, dtype=torch.float64).transpose(0, 1).flatten(0, 1)
    found = supcon(features, torch.tensor([0, 0, 1, 0, 0, 1]), temperature=1.0)
    assert found.item() == pytest.approx(sum(values) / 3, abs=1e-5)


def test_losses_agree_with_those_of_lightly():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports
        theirs = pytest.importorskip("lightly.loss", reason="extra `bench`")
    first, second = (raw(6, 5, seed=k) for k in range(2))
    both = torch.nn.functional.normalize(torch.cat([first, second]), dim=1)
    for ours, other in (
        (nt_xent(both, temperature=T), theirs.NTXentLoss(temperature=T)),
        (vicreg(first, second, (25.0, 25.0, 1.0)), theirs.VICRegLoss()),
        (simsiam((first, first), (second, second)), theirs.NegativeCosineSimilarity()),
    ):
        assert ours.item() == pytest.approx(other(first, second).item(), rel=1e-6)


# --- closed forms


def test_equal_and_perfect_features():
    same = units(1, 5, seed=0).expand(8, 5)
    assert nt_xent(same, temperature=T).item() == pytest.approx(math.log(7))
    assert byol(same, 3 * same).item() == pytest.approx(0)
    assert byol(same, -same).item() == pytest.approx(4)
    assert simsiam((same, same), (same, same)).item() == pytest.approx(-1)
    assert vicreg(same, same, (25.0, 25.0, 1.0)).item() == pytest.approx(25 * 0.99)
    one = raw(1, 5, seed=0)  # a validation set of one pair
    assert vicreg(one, one, (25.0, 25.0, 1.0)).item() == pytest.approx(25 * 0.99)
    # Two dimensions of variance above 1 without covariance.
    square = 2 * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert vicreg(square, square, (25.0, 25.0, 1.0)).item() == 0


def batch(count, *, seed=0):
    drawn = torch.rand(2, count, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    classes = torch.arange(count, dtype=torch.uint8) % 2
    return Views(first=drawn[0], second=drawn[1], first_labels=classes, second_labels=classes)


@pytest.fixture
def small(recipe):
    """Narrow heads."""
    return replace(
        recipe,
        byol=loss_settings.Byol(hidden=24, features=12, momentum=0.75),
        simsiam=loss_settings.SimSiam(hidden=6, features=12),
        vicreg=loss_settings.VicReg(features=12),
    )


def made(name, recipe):
    torch.manual_seed(0)
    return make_objective(name, make_encoder(recipe.encoder), recipe, stream(0, "queue"))


class Constant(nn.Module):
    """A network whose features are equal, whatever it is given."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, given):
        return self.value.expand(len(given), -1)


@pytest.mark.parametrize("name", OF_IMAGES)
def test_what_validation_says_of_equal_features_is_so(name, small):
    model = made(name, small).eval()
    batches = [batch(4), batch(6, seed=1)]
    found = model.validate(batches, stream(0))
    before = copy.deepcopy(model.state_dict())
    model.validate(batches, stream(0))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    for part in ("head", "predictor", "target_head"):
        if hasattr(model, part):
            setattr(model, part, Constant(torch.ones(1, 12)))
    equal = model.validate(batches, stream(0))
    if name in ("byol", "simsiam"):  # equal features are their best, so only the features tell
        assert math.isnan(found.plateau)
        assert equal.loss == pytest.approx(found.floor, abs=1e-5)
    else:
        assert found.plateau == pytest.approx(equal.loss, rel=1e-4)
    assert found.floor < found.loss


@pytest.mark.parametrize(("std", "collapsed"), [(0.05, True), (0.5, False)])
def test_a_loss_without_plateau_is_judged_by_its_features(std, collapsed):
    done = Pretrained(
        train_loss=0.0, val_loss=0.0, plateau=math.nan, floor=0.0, best_step=1, noisy_pairs=0.0, seconds=1.0
    )
    assert is_collapsed(done, Spread(std=std, rank=1.0)) == collapsed


def test_the_floor_of_supcon_is_that_of_its_classes(recipe):
    model = made("supcon", recipe).eval()
    # Each of the six images has two of its class among the other five, its partner and two more.
    views = replace(batch(4), first_labels=torch.tensor([0, 0, 1, 1]), second_labels=torch.tensor([0, 0, 1, 1]))
    assert model.validate([views], stream(0)).floor == pytest.approx(math.log(3))
    features = torch.eye(2, dtype=torch.float64)[torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])]
    labels = torch.tensor([0, 0, 1, 1, 0, 0, 1, 1])
    assert supcon(features, labels, temperature=0.01).item() == pytest.approx(math.log(3))


# --- networks


@pytest.mark.parametrize("name", OF_IMAGES)
def test_all_trained_weights_get_a_gradient_and_no_target_does(name, small):
    model = made(name, small).train()
    model.loss(batch(4), stream(0)).backward()
    for key, weight in model.named_parameters():
        assert (weight.grad is None) == key.startswith("target_"), key
        assert weight.requires_grad != key.startswith("target_")


def test_the_target_of_byol_follows_what_the_last_step_has_left(small):
    model = made("byol", small).train()
    with torch.no_grad():
        for weight in (*model.encoder.parameters(), *model.head.parameters()):
            weight.add_(torch.randn_like(weight))
    before = copy.deepcopy(model)
    found = model.loss(batch(4), stream(0))
    for part in ("encoder", "head"):
        old = getattr(before, f"target_{part}").parameters()
        now, source = getattr(model, f"target_{part}").parameters(), getattr(before, part).parameters()
        for one, then, own in zip(now, old, source, strict=True):
            torch.testing.assert_close(one, 0.75 * then + 0.25 * own)
    views = batch(4)
    with torch.no_grad():
        p1, p2 = (before.predictor(before.head(before.encoder(x).mean((2, 3)))) for x in (views.first, views.second))
        z1, z2 = (model.target_head(model.target_encoder(x).mean((2, 3))) for x in (views.first, views.second))
    assert found.item() == pytest.approx((byol(p1, z2) + byol(p2, z1)).item(), abs=1e-5)


def test_simsiam_stops_the_gradient_of_what_is_predicted():
    p, z = raw(4, 3, seed=0).requires_grad_(), raw(4, 3, seed=1)
    simsiam((p, p), (z, z)).backward()
    assert (p.grad != 0).any()


def test_heads_are_those_of_the_papers():
    def kinds(head):
        return [type(layer).__name__ for layer in head]

    hidden = ["Linear", "BatchNorm1d", "ReLU"]
    assert kinds(normed_head(8, 16, 4)) == [*hidden, "Linear"]
    assert kinds(normed_head(8, 16, 16, 4, last=True)) == [*hidden, *hidden, "Linear", "BatchNorm1d"]
    assert [layer.out_features for layer in normed_head(8, 16, 4) if isinstance(layer, nn.Linear)] == [16, 4]
    assert not normed_head(8, 16, 4, last=True)[-1].affine


def test_the_images_of_a_pair_share_statistics_only_where_the_papers_code_does(recipe, small):
    seen = []
    for name in OF_IMAGES:
        model = made(name, small).train()
        sizes = []
        model.encoder.register_forward_hook(lambda module, given, _, sizes=sizes: sizes.append(len(given[0])))
        model.loss(batch(4), stream(0))
        seen.append((name, sizes))
    assert dict(seen) == {"simclr": [8], "supcon": [8], "byol": [4, 4], "simsiam": [4, 4], "vicreg": [4, 4]}


def test_pairs_without_classes_are_refused_by_supcon(recipe):
    views = replace(batch(4), first_labels=None)
    with pytest.raises(AssertionError, match="made without labels"):
        made("supcon", recipe).loss(views, stream(0))
