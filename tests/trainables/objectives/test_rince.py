"""RINCE is its formula, has InfoNCE as a limit, and stays finite where the formula as it is printed gives NaN."""

import math
from dataclasses import replace

import pytest
import torch

from datasets.seeding import stream
from tests.trainables.objectives.test_losses import positions, units
from trainables.loss_settings import Rince as Settings
from trainables.models.encoders import make_encoder
from trainables.objectives import rince
from trainables.objectives.losses import Positions, info_nce, within_image
from trainables.recipe import Dense, Moco
from trainables.views import Views

T = 0.3
LIMITS = {"q": 1e-7, "lam": 0.02}


def slow_rince(positive, negatives, q, lam):
    """Eq. 5 of one positive, from cosines, with our factor."""
    e = [math.exp(one / T) for one in (positive, *negatives)]
    return (-(e[0] ** q) / q + (lam * sum(e)) ** q / q) / math.exp(q / T)


def slow_dense(denominator, q, lam, image, partner):
    images = []
    for i in range(len(image[0])):
        (f, y), (g, z) = ((features[i], labels[i].tolist()) for features, labels in (image, partner))
        total, anchors = 0.0, 0
        for p in range(len(f)):
            if y[p] == 255:
                continue
            same = [j for j in range(len(g)) if z[j] == y[p]]
            anchors += denominator == "printed" or bool(same)
            for j in same:
                others = [k for k in range(len(g)) if z[k] not in (y[p], 255)]
                others += [k for k in same if k != j] if denominator == "printed" else []
                cosines = [float(f[p] @ g[k]) for k in others]
                total += slow_rince(float(f[p] @ g[j]), cosines, q, lam) / len(same)
        images.append(total / max(1, anchors))
    return sum(images) / len(images)


def instance(recipe, query, key, queue, **options):
    """The loss of `Rince` for given features."""
    settings = replace(recipe, moco=Moco(temperature=T, queue=20))
    model = rince.Rince(make_encoder(recipe.encoder), settings, Settings(**options), stream(0))
    return model.compare(query, key, queue)


OPTIONS = [{"q": q, "lam": lam} for q in (0.1, 0.5, 1.0) for lam in (0.01, 1.0)]


@pytest.mark.parametrize("options", OPTIONS)
def test_rince_is_the_formula(options, recipe):
    query, key, queue = units(6, 5, seed=0), units(6, 5, seed=1), units(9, 5, seed=2)
    slow = [
        slow_rince(float(a @ b), [float(a @ other) for other in queue], **options)
        for a, b in zip(query, key, strict=True)
    ]
    found = instance(recipe, query, key, queue, **options).item()
    assert found == pytest.approx(sum(slow) / len(slow), rel=1e-9)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("denominator", ["printed", "public"])
@pytest.mark.parametrize("ignored", [False, True])
def test_dense_rince_is_the_formula(options, denominator, ignored):
    image, partner, _ = positions(0, 3, ignored=ignored)
    found = rince.rince_within(
        Positions(*image), Positions(*partner), temperature=T, denominator=denominator, **options
    )
    assert found.item() == pytest.approx(slow_dense(denominator, *options.values(), image, partner), abs=1e-9)


@pytest.mark.parametrize("denominator", ["printed", "public"])
def test_for_small_q_it_is_info_nce(denominator, recipe):
    query, key, queue = units(6, 5, seed=0), units(6, 5, seed=1), units(9, 5, seed=2)
    found = instance(recipe, query, key, queue, **LIMITS).item() - math.log(LIMITS["lam"])
    assert found == pytest.approx(info_nce(query, key, queue, temperature=T).item(), rel=1e-5)
    # Two classes in each image, so that every anchor has positives and negatives.
    image, partner = (Positions(units(4, 8, 5, seed=k), torch.arange(8).expand(4, 8) % 2) for k in range(2))
    options = {"temperature": T, "denominator": denominator}
    found = rince.rince_within(image, partner, **options, **LIMITS).item() - math.log(LIMITS["lam"])
    assert found == pytest.approx(within_image(image, partner, **options).item(), rel=1e-5)


def test_at_q_1_similar_positives_weigh_more_and_at_small_q_the_others_do():
    """The gradient of a false positive, one of negative cosine, against that of a good one (paper, 3.2)."""
    ratios = {}
    for q in (1.0, 1e-3):
        cosine = torch.tensor([-0.5, 0.9], dtype=torch.float64, requires_grad=True)
        total = (cosine / T).logaddexp(torch.tensor(math.log(9) + 0.5 / T, dtype=torch.float64))
        rince.robust(cosine / T, total, temperature=T, q=q, lam=0.01).sum().backward()
        ratios[q] = (cosine.grad[0] / cosine.grad[1]).item()
    assert ratios[1.0] == pytest.approx(math.exp(-1.4 / T))
    assert ratios[1e-3] > 1


def as_printed(image, partner, temperature, q, lam):
    """The pseudo-code of the reference on positions: sums of exponentials, then their powers."""
    e = (image.features @ partner.features.transpose(1, 2) / temperature).exp()
    same = image.classes[:, :, None] == partner.classes[:, None, :]
    positive, total = (e * same).sum(dim=2), e.sum(dim=2)
    return (-(positive**q) / q + (lam * total) ** q / q)[same.any(dim=2)].mean()


@pytest.mark.parametrize(
    ("temperature", "absent"), [(0.3, True), (0.005, False)], ids=["an absent class", "a low temperature"]
)
@pytest.mark.parametrize("denominator", ["printed", "public"])
def test_where_the_printed_formula_gives_nan_with_dense_features_ours_is_finite(temperature, absent, denominator):
    """Why RINCE is known to fail with dense features.

    The power of an empty sum has an infinite gradient, which a mask turns into NaN. At a low temperature the sum
    itself is infinite, and so is the power of the positives: their difference is NaN.
    """
    labels = torch.arange(8).expand(2, 8) % 2
    others = torch.zeros_like(labels) if absent else labels
    features = units(2, 8, 5, seed=0).float().requires_grad_()
    partner = Positions(units(2, 8, 5, seed=1).float() if absent else features.detach(), others)
    options = {"temperature": temperature, "q": 0.5, "lam": 0.01}
    printed = as_printed(Positions(features, labels), partner, **options)
    (gradient,) = torch.autograd.grad(printed, features)
    assert gradient.isnan().any()
    found = rince.rince_within(Positions(features, labels), partner, denominator=denominator, **options)
    (gradient,) = torch.autograd.grad(found, features)
    assert found.isfinite()
    assert gradient.isfinite().all()
    assert (gradient != 0).any()


def test_nothing_in_common_is_zero_and_not_nan():
    features = units(1, 4, 3, seed=0).requires_grad_()
    labels = torch.zeros(1, 4, dtype=torch.long)
    for absent in (1, 255):
        for denominator in ("printed", "public"):
            partner = Positions(features, torch.full_like(labels, absent))
            image = Positions(features, labels)
            loss = rince.rince_within(image, partner, temperature=T, q=0.5, lam=0.01, denominator=denominator)
            assert loss.item() == 0
            loss.backward()
    assert (features.grad == 0).all()


def images(count):
    drawn = torch.rand(2, count, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.zeros(count, 32, 32, dtype=torch.uint8)
    labels[:, :16] = 1
    return Views(first=drawn[0], second=drawn[1], first_labels=labels, second_labels=labels)


@pytest.mark.parametrize("options", [{}, {"q": 0.5, "lam": 0.3}])
def test_the_plateau_of_images_is_that_of_equal_features_and_nothing_is_below_the_floor(options, recipe):
    settings = Settings(**options)
    torch.manual_seed(0)
    model = rince.Rince(make_encoder(recipe.encoder), recipe, settings, stream(0)).eval()
    found = model.validate([images(4), images(6)], stream(0))
    same = units(1, 5, seed=0).expand(10, 5)
    equal = model.compare(same[:1], same[:1], same[1:])
    assert found.plateau == pytest.approx(equal.item())
    assert found.plateau == pytest.approx(((settings.lam * 10) ** settings.q - 1) / settings.q)
    best = model.compare(same[:1], same[:1], -same[1:] / 1e-3)
    assert found.floor == pytest.approx(best.item())
    assert found.loss > found.floor


@pytest.mark.parametrize("denominator", ["printed", "public"])
def test_the_plateau_of_positions_is_that_of_equal_features_and_nothing_is_below_the_floor(denominator, recipe):
    changed = replace(recipe, dense=Dense(denominator=denominator, temperature=0.5))
    torch.manual_seed(0)
    model = rince.RinceWithin(make_encoder(recipe.encoder), changed, Settings(q=0.5, lam=0.1), stream(0)).eval()
    found = model.validate([images(3)], stream(0))
    compared = 16 if denominator == "printed" else 9
    assert found.plateau == pytest.approx(((0.1 * compared) ** 0.5 - 1) / 0.5, rel=1e-4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        labels = torch.randint(3, (2, 4, 9), generator=generator)
        labels[torch.rand(2, 4, 9, generator=generator) < 0.2] = 255
        image, partner = (Positions(units(4, 9, 3, seed=k).float(), one) for k, one in enumerate(labels))
        floor = model.compare(*model.perfect(image, partner), None).item()
        assert model.compare(image, partner, None).item() >= floor - 1e-5


def test_it_shares_networks_and_queue_with_moco_and_the_head_with_the_dense_losses(recipe):
    changed = replace(recipe, moco=Moco(queue=32, features=24, momentum=0.5), dense=Dense(features=40, clip=0.5))
    model = rince.Rince(make_encoder(recipe.encoder), changed, changed.rince, stream(0))
    assert model.queue.shape == (32, 24)
    assert model.lr == changed.rince.lr
    dense = rince.RinceWithin(make_encoder(recipe.encoder), changed, changed.rince, stream(0))
    assert (dense.head[-1].out_channels, dense.clip, dense.lr) == (40, 0.5, changed.rince.within_lr)
