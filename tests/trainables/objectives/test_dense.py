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
from trainables.objectives.dense import CrossImage, WithinImage, _perfect, derangement
from trainables.objectives.losses import Positions
from trainables.recipe import Dense
from trainables.views import Views, training_pool, training_views, validation_views

CELL = Cell(objective="within_image", rho=0.5, nu=0.5)


def objective(make, recipe):
    torch.manual_seed(0)
    encoder = make_encoder(recipe.encoder)
    return make(encoder, recipe, recipe.dense, stream(0))


@pytest.mark.parametrize("make", [WithinImage, CrossImage])
def test_both_images_get_gradients_and_features_are_unit_vectors(make, recipe, data):
    model = objective(make, recipe)
    views = training_views(training_pool(data, CELL), CELL, recipe, 0)[0]
    both = model._embed(views)
    for one in both:
        assert one.features.shape == (8, 16, 256)
        assert torch.allclose(one.features.norm(dim=2), torch.ones(8, 16), atol=1e-5)
        assert set(one.classes.unique().tolist()) <= {0, 1}
        one.features.retain_grad()
    model.compare(*both, model.draw(8, stream(0))).backward()
    assert all((one.features.grad != 0).any() for one in both)


def test_within_image_plateau_is_log_of_positions(recipe, data):
    model = objective(WithinImage, recipe).eval()
    loss, plateau, _ = model.validate(validation_views(data, CELL, recipe), stream(0))
    # An anchor whose class is missing in the partner adds 0, so the mean may be slightly lower.
    assert plateau == pytest.approx(math.log(16), rel=0.05)
    assert loss <= plateau * 1.2


def test_cross_image_plateau_lies_between_one_and_two_images(recipe, data):
    model = objective(CrossImage, recipe).eval()
    plateau = model.validate(validation_views(data, CELL, recipe), stream(0)).plateau
    assert math.log(16) * 0.95 < plateau < math.log(32)


def half_and_half(count):
    """Views of whose positions half have each class."""
    images = torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(count, 32, 32, dtype=torch.uint8)
    labels[:, :16] = 1
    return Views(first=images, second=images, first_labels=labels, second_labels=labels)


@pytest.mark.parametrize(
    ("make", "denominator", "plateau", "floor"),
    [
        (WithinImage, "printed", math.log(16), math.log(8)),
        (CrossImage, "printed", math.log(24), math.log(16)),
        (WithinImage, "public", math.log(9), 0),
        (CrossImage, "public", math.log(9), 0),
    ],
)
@pytest.mark.parametrize("norm", [False, True])
def test_the_loss_lies_above_its_floor_and_the_range_of_two_classes_is_known(
    make, denominator, plateau, floor, norm, recipe
):
    model = objective(make, replace(recipe, dense=Dense(denominator=denominator, norm=norm)))
    # Six images in two batches of unequal size.
    found = model.eval().validate([half_and_half(4), half_and_half(2)], stream(0))
    assert found.plateau == pytest.approx(plateau)
    assert found.floor == pytest.approx(floor, abs=1e-4)
    assert found.loss > found.floor


@pytest.mark.parametrize("make", [WithinImage, CrossImage])
@pytest.mark.parametrize("denominator", ["printed", "public"])
def test_no_features_come_below_the_floor(make, denominator, recipe):
    model = objective(make, replace(recipe, dense=Dense(denominator=denominator, temperature=0.5)))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        labels = torch.randint(3, (2, 4, 9), generator=generator)
        labels[torch.rand(2, 4, 9, generator=generator) < 0.2] = 255
        image, partner = (Positions(torch.randn(4, 9, 3, generator=generator), one) for one in labels)
        perfect = (_perfect(one, model.temperature) for one in (image, partner))
        floor = model.compare(*perfect, model.draw(4, stream(1))).item()
        assert model.compare(image, partner, model.draw(4, stream(1))).item() >= floor - 1e-4


def test_the_head_has_batch_norm_where_it_is_asked_for(recipe):
    plain = ["Conv2d", "ReLU", "Conv2d", "ReLU", "Conv2d"]
    normed = ["Conv2d", "BatchNorm2d", "ReLU", "Conv2d", "BatchNorm2d", "ReLU", "Conv2d"]
    for norm, expected in ((False, plain), (True, normed)):
        head = objective(WithinImage, replace(recipe, dense=Dense(norm=norm, features=24))).head
        assert [type(layer).__name__ for layer in head] == expected
        convolutions = [layer for layer in head if isinstance(layer, torch.nn.Conv2d)]
        assert [(one.kernel_size, one.out_channels) for one in convolutions] == [((1, 1), 24)] * 3
        assert [one.bias is not None for one in convolutions] == [not norm, not norm, True]


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
@pytest.mark.parametrize("denominator", ["printed", "public"])
def test_pixels_without_a_class_leave_the_loss(make, denominator, recipe):
    model = objective(make, replace(recipe, dense=Dense(denominator=denominator))).eval()
    views = half_and_half(4)
    # The upper half of the partner has no class, so class 1 is absent there and class 0 is compared with nothing else.
    holed = views.second_labels.clone()
    holed[:, :16] = 255
    image, partner = model._embed(replace(views, second_labels=holed))
    assert ((partner.classes == 255).sum(dim=1) == 8).all()
    drawn = model.draw(4, stream(0))
    found = model.compare(image, partner, drawn).item()
    lower = Positions(partner.features[:, 8:], partner.classes[:, 8:])
    assert found == pytest.approx(model.compare(image, lower, drawn).item())
    unknown = torch.full_like(holed, 255)
    assert model.loss(replace(views, first_labels=unknown), stream(0)).item() == 0
    assert model.loss(replace(views, second_labels=unknown), stream(0)).item() == 0
