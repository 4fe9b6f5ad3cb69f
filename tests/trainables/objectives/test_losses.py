"""The losses agree with plain loops that transcribe the formulas of METHOD.md, and with closed forms."""

import math
from functools import partial

import pytest
import torch
from torch.nn import functional

from trainables.objectives.losses import Positions, cross_image, info_nce, within_image

T = 0.3


def units(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(*shape, generator=generator, dtype=torch.float64)
    return drawn / drawn.norm(dim=-1, keepdim=True)


def classes(*shape, seed, count):
    return torch.randint(count, shape, generator=torch.Generator().manual_seed(seed))


def e(p, q):
    return math.exp(float(p @ q) / T)


def slow_info_nce(query, key, queue):
    terms = []
    for q, k in zip(query, key, strict=True):
        negatives = sum(e(q, other) for other in queue)
        terms.append(-math.log(e(q, k) / (e(q, k) + negatives)))
    return sum(terms) / len(terms)


def slow_dense(denominator, image, partner, other=None):
    """Eqs. 2 and 3 of METHOD.md as loops; (features, classes) of each of the images."""
    images = []
    for i in range(len(image[0])):
        (f, y), (g, z) = ((features[i], labels[i].tolist()) for features, labels in (image, partner))
        h, w = (other[0][i], other[1][i].tolist()) if other else ([], [])
        total, anchors = 0.0, 0
        for p in range(len(f)):
            if y[p] == 255:
                continue
            here = [q for q in range(len(g)) if z[q] == y[p]]
            there = [q for q in range(len(h)) if w[q] == y[p]]
            anchors += denominator == "printed" or bool(here)
            if not here:
                continue
            positives = [e(f[p], g[q]) for q in here] + [e(f[p], h[q]) for q in there]
            negatives = sum(e(f[p], g[k]) for k in range(len(g)) if z[k] not in (y[p], 255))
            compared = [sum(positives)] * len(positives) if denominator == "printed" else positives
            logs = [math.log(one / (e_pq + negatives)) for one, e_pq in zip(positives, compared, strict=True)]
            total += sum(logs) / len(logs)
        images.append(-total / max(1, anchors))
    return sum(images) / len(images)


@pytest.mark.parametrize("seed", range(5))
def test_info_nce_is_the_formula(seed):
    query, key, queue = units(6, 5, seed=seed), units(6, 5, seed=seed + 10), units(9, 5, seed=seed + 20)
    assert info_nce(query, key, queue, temperature=T).item() == pytest.approx(
        slow_info_nce(query, key, queue), abs=1e-9
    )


def positions(seed, count, *, ignored=False, images=4, size=7):
    """Random positions of three images; with `ignored`, about a third has no class."""
    drawn = []
    for k in range(3):
        labels = classes(images, size, seed=seed + k, count=count)
        if ignored:
            labels[classes(images, size, seed=seed + 50 + k, count=3) == 0] = 255
        drawn.append((units(images, size, 5, seed=seed + 10 * k), labels))
    return drawn


# Three classes over 7 positions: in most images some class is missing from the partner or from J.
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("denominator", ["printed", "public"])
@pytest.mark.parametrize("count", [1, 3, 6])
@pytest.mark.parametrize("seed", range(3))
def test_dense_losses_are_the_formulas(seed, count, denominator, ignored):
    drawn = positions(seed, count, ignored=ignored)
    for loss, images in ((within_image, drawn[:2]), (cross_image, drawn)):
        found = loss(*(Positions(*one) for one in images), temperature=T, denominator=denominator).item()
        assert found == pytest.approx(slow_dense(denominator, *images), abs=1e-9)


def test_absent_classes_and_images_without_classes_are_really_met_by_the_random_inputs():
    (_, labels), (_, partner), _ = positions(0, 6)
    assert any(set(a.tolist()) - set(b.tolist()) for a, b in zip(labels, partner, strict=True))
    (_, labels), (_, partner), _ = positions(0, 3, ignored=True)
    assert (labels == 255).any()
    assert (partner == 255).any()


def test_the_public_reading_gives_the_published_values():
    """The values of contrastive_loss_test.py in google-research/supervised_pixel_contrastive_loss.

    There the features are the classes, four positions have none, and the keys are the image itself. Its cross-image
    loss averages over the anchors of both images.
    """
    labels = torch.tensor([[-2, -2, -1, -1, *[1] * 4, *[2] * 4, *[3] * 4]] * 2)
    known = labels.masked_fill(labels < 0, 255)
    one, two = (Positions(factor * labels[:, :, None].double(), known) for factor in (1, 2))
    reading = {"temperature": 1.0, "denominator": "public"}
    assert within_image(one, one, **reading).item() == pytest.approx(2.4503216, rel=1e-6)
    both = (cross_image(one, one, two, **reading) + cross_image(two, two, one, **reading)) / 2
    assert both.item() == pytest.approx(5.46027374, rel=1e-6)


def test_equal_features_give_the_log_of_the_count():
    same = units(1, 1, 5, seed=0).expand(3, 64, 5)
    labels = classes(3, 64, seed=1, count=2)
    assert within_image(*[Positions(same, labels)] * 2, temperature=T).item() == pytest.approx(math.log(64))
    one = Positions(same, torch.zeros_like(labels))
    assert cross_image(one, one, one, temperature=T).item() == pytest.approx(math.log(128))
    half = Positions(same, torch.arange(64).expand(3, 64) % 2)
    public = {"temperature": T, "denominator": "public"}
    assert within_image(half, half, **public).item() == pytest.approx(math.log(33))
    assert cross_image(half, half, half, **public).item() == pytest.approx(math.log(33))
    row = same[0, :8]
    assert info_nce(row, row, same[0], temperature=T).item() == pytest.approx(math.log(65))


READINGS = [(loss, denominator) for loss in (within_image, cross_image) for denominator in ("printed", "public")]


@pytest.mark.parametrize(("loss", "denominator"), READINGS)
def test_ignored_positions_change_nothing(loss, denominator):
    drawn = positions(0, 2)
    clean = [Positions(*one) for one in drawn][: 2 + (loss is cross_image)]
    # The same images with three more positions, which have no class.
    more = [
        Positions(
            torch.cat([one.features, units(4, 3, 5, seed=90 + k)], dim=1),
            torch.cat([one.classes, torch.full((4, 3), 255)], dim=1),
        )
        for k, one in enumerate(clean)
    ]
    reading = {"temperature": T, "denominator": denominator}
    assert loss(*more, **reading).item() == pytest.approx(loss(*clean, **reading).item())


@pytest.mark.parametrize(("loss", "denominator"), READINGS)
def test_one_labelled_position_leaves_nothing_to_compare(loss, denominator):
    labels = torch.tensor([[0, 255, 255, 255]])
    images = [Positions(units(1, 4, 5, seed=k), labels) for k in range(2)]
    absent = Positions(units(1, 4, 5, seed=2), torch.full_like(labels, 255))
    found = loss(*images, *[absent] * (loss is cross_image), temperature=T, denominator=denominator)
    assert found.item() == pytest.approx(0, abs=1e-12)


def test_images_of_one_class_teach_only_the_printed_reading_and_only_equality():
    features = [units(2, 6, 5, seed=k).requires_grad_() for k in range(3)]
    images = [Positions(one, torch.zeros(2, 6, dtype=torch.long)) for one in features]
    for loss, count in ((within_image, 6), (cross_image, 12)):
        few = images[: count // 6 + 1]
        assert loss(*few, temperature=T).item() > math.log(count)
        equal = [Positions(torch.zeros_like(one.features), one.classes) for one in few]
        assert loss(*equal, temperature=T).item() == pytest.approx(math.log(count))
        public = loss(*few, temperature=T, denominator="public")
        assert public.item() == 0
        public.backward()
    assert all((one.grad == 0).all() for one in features)


@pytest.mark.parametrize("denominator", ["printed", "public"])
def test_cross_image_without_common_class_in_j_is_within_image(denominator):
    image, partner, other = (Positions(*one) for one in positions(3, 2))
    reading = {"temperature": T, "denominator": denominator}
    alone = within_image(image, partner, **reading).item()
    for absent in (7, 255):
        j = Positions(other.features, torch.full_like(other.classes, absent))
        assert cross_image(image, partner, j, **reading).item() == pytest.approx(alone)


@pytest.mark.parametrize("denominator", ["printed", "public"])
@pytest.mark.parametrize("absent", [5, 255])
def test_anchors_without_partner_class_add_nothing_and_have_no_gradient(denominator, absent):
    features = units(1, 4, 3, seed=0).requires_grad_()
    labels = torch.tensor([[0, 0, absent, absent]])
    image, j = Positions(features, labels), Positions(units(1, 4, 3, seed=2), labels)
    partner = Positions(units(1, 4, 3, seed=1), torch.tensor([[0, 0, 1, 1]]))
    loss = cross_image(image, partner, j, temperature=T, denominator=denominator)
    loss.backward()
    assert features.grad is not None
    assert (features.grad[0, 2:] == 0).all()
    assert (features.grad[0, :2] != 0).any()
    assert features.grad.isfinite().all()


@pytest.mark.parametrize("denominator", ["printed", "public"])
@pytest.mark.parametrize("absent", [1, 255])
def test_nothing_in_common_is_zero_and_not_nan(denominator, absent):
    features = units(1, 4, 3, seed=0).requires_grad_()
    image = Positions(features, torch.zeros(1, 4, dtype=torch.long))
    partner = Positions(features, torch.full((1, 4), absent))
    reading = {"temperature": T, "denominator": denominator}
    for loss in (within_image(image, partner, **reading), cross_image(image, partner, image, **reading)):
        assert loss.item() == 0
        loss.backward()
    assert (features.grad == 0).all()


@pytest.mark.parametrize("denominator", ["printed", "public"])
def test_losses_survive_a_low_temperature_in_float32(denominator):
    features = units(2, 16, 8, seed=0).float().requires_grad_()
    labels = classes(2, 16, seed=1, count=2)
    image, opposite = Positions(features, labels), Positions(-features, labels)
    reading = {"temperature": 0.005, "denominator": denominator}
    for loss in (
        within_image(image, opposite, **reading),
        cross_image(image, opposite, image, **reading),
        info_nce(features[0], -features[0], features[1], temperature=0.005),
    ):
        assert loss.isfinite()
        loss.backward()
    assert features.grad.isfinite().all()


def kept_bytes(loss, images, positions=16):
    """Bytes of the tensors that a dense loss saves for its gradient."""
    generator = torch.Generator().manual_seed(0)
    features, partner, other = (
        functional.normalize(torch.rand(images, positions, 8, generator=generator), dim=2).requires_grad_()
        for _ in range(3)
    )
    labels = torch.randint(2, (images, positions), generator=generator)
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        held = loss(*(Positions(one, labels) for one in (features, partner, other)))
    assert held.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize(
    "loss",
    [
        lambda image, partner, other, **reading: within_image(image, partner, **reading),
        cross_image,
    ],
    ids=["within_image", "cross_image"],
)
@pytest.mark.parametrize("denominator", ["printed", "public"])
def test_memory_of_a_dense_loss_is_linear_in_the_batch(loss, denominator):
    reading = {"temperature": 0.1, "denominator": denominator}
    one, two, three = (kept_bytes(partial(loss, **reading), images) for images in (8, 16, 24))
    assert two - one == three - two > 0
    assert two == pytest.approx(2 * one, rel=0.01)
