"""The dense objectives: the inputs of their losses, and the choice of J."""

import collections
import math
from dataclasses import replace

import pytest
import torch

from datasets.seeding import stream
from trainables.cell import Cell
from trainables.models.encoders import make_encoder
from trainables.models.heads import map_labels
from trainables.objectives.dense import CrossImage, WithinImage, derangement
from trainables.objectives.losses import within_image
from trainables.views import training_pool, training_views, validation_views

CELL = Cell(objective="within_image", rho=0.5, nu=0.5)


def objective(make, recipe):
    torch.manual_seed(0)
    encoder = make_encoder(recipe.encoder)
    return make(encoder, recipe, recipe.dense, stream(0))


@pytest.mark.parametrize("make", [WithinImage, CrossImage])
def test_both_images_get_gradients_and_features_are_unit_vectors(make, recipe, data):
    model = objective(make, recipe)
    views = training_views(training_pool(data, CELL), CELL, recipe, 0)[0]
    features, partner, labels, partner_labels = model._embed(views)
    assert features.shape == partner.shape == (8, 16, 256)
    assert torch.allclose(features.norm(dim=2), torch.ones(8, 16), atol=1e-5)
    assert set(labels.unique().tolist()) <= {0, 1}
    features.retain_grad()
    partner.retain_grad()
    model.compare(features, partner, labels, partner_labels, stream(0)).backward()
    assert (features.grad != 0).any()
    assert (partner.grad != 0).any()


def test_within_image_plateau_is_log_of_positions(recipe, data):
    model = objective(WithinImage, recipe).eval()
    loss, plateau = model.validate(validation_views(data, CELL, recipe), stream(0))
    # An anchor whose class is missing in the partner adds 0, so the mean may be slightly lower.
    assert plateau == pytest.approx(math.log(16), rel=0.05)
    assert loss <= plateau * 1.2


def test_cross_image_plateau_lies_between_one_and_two_images(recipe, data):
    model = objective(CrossImage, recipe).eval()
    _, plateau = model.validate(validation_views(data, CELL, recipe), stream(0))
    assert math.log(16) * 0.95 < plateau < math.log(32)


def test_map_labels_take_the_pixel_at_the_centre_of_each_position():
    labels = torch.arange(64).view(1, 8, 8)
    assert map_labels(labels, 2, 2).tolist() == [[18, 22, 50, 54]]
    assert map_labels(labels, 8, 8).tolist() == [list(range(64))]


@pytest.mark.parametrize("count", [2, 3, 8])
def test_j_is_never_the_image_itself(count):
    generator = stream(0)
    for _ in range(50):
        order = derangement(count, generator)
        assert sorted(order.tolist()) == list(range(count))
        assert not (order == torch.arange(count)).any()


def test_all_derangements_are_equally_likely():
    generator = stream(1)
    seen = collections.Counter(tuple(derangement(4, generator).tolist()) for _ in range(4500))
    assert len(seen) == 9
    assert min(seen.values()) > 400
    assert max(seen.values()) < 600


def test_one_image_has_no_other():
    with pytest.raises(ValueError, match="no other image J"):
        derangement(1, stream(0))


@pytest.mark.parametrize("make", [WithinImage, CrossImage])
def test_positions_without_a_class_are_positives_of_nothing(make, recipe, data):
    model = objective(make, recipe).eval()
    views = training_views(training_pool(data, CELL), CELL, recipe, 0)[0]
    assert model.loss(views, stream(0)).item() > 0
    unknown = torch.full_like(views.first_labels, 255)
    nowhere = replace(views, first_labels=unknown, second_labels=unknown)
    assert model.loss(nowhere, stream(0)).item() == 0


def test_an_anchor_without_a_class_adds_nothing_and_is_a_negative_of_others(recipe, data):
    model = objective(WithinImage, recipe).eval()
    views = training_views(training_pool(data, CELL), CELL, recipe, 0)[0]
    holed = views.second_labels.clone()
    holed[:, :8] = 255
    *features, labels, partner_labels = model._embed(replace(views, second_labels=holed))
    found = model.compare(*features, labels, partner_labels, stream(0)).item()
    # No anchor has its class, so it is in the denominator but in no numerator.
    own = torch.where(partner_labels < 0, 77, partner_labels)
    assert found == pytest.approx(within_image(*features, labels, own, temperature=recipe.dense.temperature).item())
