"""PixPro: plain loops of its equations; positives are where the maps of the views say."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from datasets.seeding import stream
from tests.trainables.objectives.test_losses import units
from trainables.cell import Cell
from trainables.loss_settings import PixPro as Settings
from trainables.models.encoders import make_encoder
from trainables.objectives.pixpro import PixPro, consistency, neighbours, propagated
from trainables.views import training_pool, training_views, validation_views

CELL = Cell(objective="pixpro", rho=0.5, nu=0.5)


def made(recipe, **options):
    torch.manual_seed(0)
    settings = Settings(hidden=24, features=12, **options)
    return PixPro(make_encoder(recipe.encoder), recipe, settings, stream(0)).train()


def views(data, recipe, step=0):
    return training_views(training_pool(data, CELL), CELL, recipe, step, labelled=False)[0]


def crop(x, y, width, height, *, flip=False):
    """The map of a view that is this part of an image, in shares of its side."""
    sign = -1 if flip else 1
    return torch.tensor([[sign * width, 0.0, 2 * x + width - 1], [0.0, height, 2 * y + height - 1]])


def slow_neighbours(first, second, size, distance):
    """As the reference, from crops (x, y, width, height)."""
    centres, diagonals = [], []
    for x, y, width, height in (first, second):
        w, h = width / size, height / size
        centres.append([(x + (j + 0.5) * w, y + (i + 0.5) * h) for i in range(size) for j in range(size)])
        diagonals.append(math.hypot(w, h))
    return [[math.dist(a, b) / max(diagonals) < distance for b in centres[1]] for a in centres[0]]


CROPS = [
    ((0, 0, 1, 1), (0, 0, 1, 1)),
    ((0.1, 0.2, 0.5, 0.4), (0.3, 0.15, 0.6, 0.8)),
    ((0, 0, 0.3, 0.3), (0.6, 0.6, 0.4, 0.4)),
]


@pytest.mark.parametrize("distance", [0.3, 0.7, 1.5])
@pytest.mark.parametrize("crops", CROPS)
def test_positives_lie_at_the_same_place_of_the_image(crops, distance):
    maps = [crop(*one)[None] for one in crops]
    found = neighbours(*maps, torch.Size((4, 4)), distance)[0]
    assert found.tolist() == slow_neighbours(*crops, 4, distance)
    # A mirrored view has the same positions, in other columns.
    turned = neighbours(crop(*crops[0], flip=True)[None], maps[1], torch.Size((4, 4)), distance)[0]
    assert torch.equal(turned.view(4, 4, 16).flip(1).flatten(0, 1), found)


def test_propagation_is_the_equation():
    x, g = units(2, 5, 4, seed=0), units(2, 5, 4, seed=1)
    found = propagated(x, g, 2.0)
    for n in range(2):
        for i in range(5):
            y = sum(max(float(x[n, i] @ x[n, j]), 0) ** 2 * g[n, j] for j in range(5))
            assert torch.allclose(found[n, i], y / y.norm(), atol=1e-9)


def test_consistency_is_the_equation():
    y, x = units(3, 4, 5, seed=0), units(3, 6, 5, seed=1)
    near = torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(0)) < 0.4
    near[2] = False  # views that do not overlap
    slow = 0.0
    for n in range(2):
        pairs = [(i, j) for i in range(4) for j in range(6) if near[n, i, j]]
        slow -= sum(float(y[n, i] @ x[n, j]) for i, j in pairs) / len(pairs) / 3
    assert consistency(y, x, near).item() == pytest.approx(slow, rel=1e-12)


def test_a_step_is_the_equations_and_the_target_follows_first(recipe, data):
    model = made(recipe, momentum=0.75)
    with torch.no_grad():
        for weight in (*model.encoder.parameters(), *model.head.parameters()):
            weight.add_(0.1 * torch.randn_like(weight))
    before, batch = copy.deepcopy(model), views(data, recipe)
    found = model.loss(batch, stream(0))
    target = zip(before.target_head.parameters(), before.head.parameters(), model.target_head.parameters(), strict=True)
    for old, own, new in target:
        torch.testing.assert_close(new, 0.75 * old + 0.25 * own)
    with torch.no_grad():
        z = [before.head(before.encoder(one)) for one in (batch.first, batch.second)]
        x = [functional.normalize(one, dim=1).flatten(2).transpose(1, 2) for one in z]
        g = [functional.normalize(before.transform(one), dim=1).flatten(2).transpose(1, 2) for one in z]
        t = [model.target_head(model.target_encoder(one)) for one in (batch.first, batch.second)]
        t = [functional.normalize(one, dim=1).flatten(2).transpose(1, 2) for one in t]
        y = [propagated(one, other, 2.0) for one, other in zip(x, g, strict=True)]
        near = neighbours(*batch.maps, torch.Size((4, 4)), 0.7)
        slow = consistency(y[0], t[1], near) + consistency(y[1], t[0], near.transpose(1, 2))
    assert near.any()
    assert found.item() == pytest.approx(slow.item(), abs=1e-5)


def test_maps_are_those_of_the_views(recipe, data):
    assert views(data, recipe).maps.shape == (2, 8, 2, 3)
    still = replace(recipe, augment=replace(recipe.augment, flip=0.0, rot90=0.0, shift=0.0, rotate=0.0, crop=0.0))
    assert torch.equal(views(data, still).maps, torch.eye(2, 3).expand(2, 8, 2, 3))


def test_equal_features_are_its_best(recipe, data):
    model = made(recipe).eval()
    before = copy.deepcopy(model.state_dict())
    batches = list(validation_views(data, CELL, recipe, labelled=False))
    found = model.validate(batches, stream(0))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert math.isnan(found.plateau)
    assert found.floor == -2 < found.loss

    class Constant(nn.Module):
        def forward(self, given):
            return torch.ones(len(given), 12, *given.shape[2:])

    model.head = model.target_head = model.transform = Constant()
    overlapping = [batch for batch in batches if neighbours(*batch.maps, torch.Size((4, 4)), 0.7).any(2).any(1).all()]
    assert model.validate(overlapping, stream(0)).loss == pytest.approx(-2, abs=1e-5)


def test_targets_get_no_gradient_and_all_else_does(recipe, data):
    model = made(recipe)
    model.loss(views(data, recipe), stream(0)).backward()
    for name, weight in model.named_parameters():
        assert (weight.grad is None) == name.startswith("target_"), name


def test_views_without_maps_are_refused(recipe, data):
    with pytest.raises(AssertionError, match="not augmented"):
        made(recipe).loss(replace(views(data, recipe), maps=None), stream(0))
