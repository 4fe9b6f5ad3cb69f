"""The losses agree with plain loops that transcribe the formulas of METHOD.md, and with closed forms."""

import math

import pytest
import torch
from torch.nn import functional

from trainables.objectives.losses import cross_image, info_nce, within_image

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


def slow_within(features, partner, labels, partner_labels):
    images = []
    for f, g, y, z in zip(features, partner, labels.tolist(), partner_labels.tolist(), strict=True):
        total = 0.0
        for p in range(len(f)):
            positives = [q for q in range(len(g)) if z[q] == y[p]]
            if not positives:
                continue
            denominator = sum(e(f[p], g[k]) for k in range(len(g)))
            total += sum(math.log(e(f[p], g[q]) / denominator) for q in positives) / len(positives)
        images.append(-total / len(f))
    return sum(images) / len(images)


def slow_cross(features, partner, other, labels, partner_labels, other_labels):
    images = []
    for i in range(len(features)):
        f, g, h = features[i], partner[i], other[i]
        y, z, w = labels[i].tolist(), partner_labels[i].tolist(), other_labels[i].tolist()
        total = 0.0
        for p in range(len(f)):
            here = [q for q in range(len(g)) if z[q] == y[p]]
            there = [q for q in range(len(h)) if w[q] == y[p]]
            if not here:
                continue
            d = sum(e(f[p], g[k]) for k in range(len(g))) + sum(e(f[p], h[k]) for k in there)
            logs = [math.log(e(f[p], g[q]) / d) for q in here] + [math.log(e(f[p], h[q]) / d) for q in there]
            total += sum(logs) / (len(here) + len(there))
        images.append(-total / len(f))
    return sum(images) / len(images)


@pytest.mark.parametrize("seed", range(5))
def test_info_nce_is_the_formula(seed):
    query, key, queue = units(6, 5, seed=seed), units(6, 5, seed=seed + 10), units(9, 5, seed=seed + 20)
    assert info_nce(query, key, queue, temperature=T).item() == pytest.approx(
        slow_info_nce(query, key, queue), abs=1e-9
    )


# Three classes over 7 positions: in most images some class is missing from the partner or from J.
@pytest.mark.parametrize("count", [1, 3, 6])
@pytest.mark.parametrize("seed", range(5))
def test_within_image_is_the_formula(seed, count):
    features, partner = units(4, 7, 5, seed=seed), units(4, 7, 5, seed=seed + 10)
    labels, partner_labels = classes(4, 7, seed=seed, count=count), classes(4, 7, seed=seed + 1, count=count)
    assert within_image(features, partner, labels, partner_labels, temperature=T).item() == pytest.approx(
        slow_within(features, partner, labels, partner_labels), abs=1e-9
    )


@pytest.mark.parametrize("count", [1, 3, 6])
@pytest.mark.parametrize("seed", range(5))
def test_cross_image_is_the_formula(seed, count):
    sides = [units(4, 7, 5, seed=seed + 10 * k) for k in range(3)]
    labels = [classes(4, 7, seed=seed + k, count=count) for k in range(3)]
    assert cross_image(*sides, *labels, temperature=T).item() == pytest.approx(slow_cross(*sides, *labels), abs=1e-9)


def test_absent_classes_are_really_met_by_the_random_inputs():
    labels, partner = classes(4, 7, seed=0, count=6), classes(4, 7, seed=1, count=6)
    assert any(set(a.tolist()) - set(b.tolist()) for a, b in zip(labels, partner, strict=True))


def test_equal_features_give_the_log_of_the_count():
    same = units(1, 1, 5, seed=0).expand(3, 64, 5)
    labels = classes(3, 64, seed=1, count=2)
    assert within_image(same, same, labels, labels, temperature=T).item() == pytest.approx(math.log(64))
    one = torch.zeros_like(labels)
    assert cross_image(same, same, same, one, one, one, temperature=T).item() == pytest.approx(math.log(128))
    row = same[0, :8]
    assert info_nce(row, row, same[0], temperature=T).item() == pytest.approx(math.log(65))


def test_cross_image_without_common_class_in_j_is_within_image():
    features, partner, other = (units(2, 6, 4, seed=k) for k in range(3))
    labels, partner_labels = classes(2, 6, seed=3, count=2), classes(2, 6, seed=4, count=2)
    absent = torch.full_like(labels, 7)
    assert cross_image(features, partner, other, labels, partner_labels, absent, temperature=T).item() == pytest.approx(
        within_image(features, partner, labels, partner_labels, temperature=T).item()
    )


def test_anchors_without_partner_class_add_nothing_and_have_no_gradient():
    features = units(1, 4, 3, seed=0).requires_grad_()
    partner = units(1, 4, 3, seed=1)
    labels, others = torch.tensor([[0, 0, 5, 5]]), torch.tensor([[0, 0, 1, 1]])
    loss = cross_image(features, partner, partner, labels, others, labels, temperature=T)
    loss.backward()
    assert features.grad is not None
    assert (features.grad[0, 2:] == 0).all()
    assert (features.grad[0, :2] != 0).any()
    assert features.grad.isfinite().all()


def test_nothing_in_common_is_zero_and_not_nan():
    features = units(1, 4, 3, seed=0)
    labels = torch.zeros(1, 4, dtype=torch.long)
    assert within_image(features, features, labels, labels + 1, temperature=T).item() == 0
    assert cross_image(features, features, features, labels, labels + 1, labels, temperature=T).item() == 0


def test_losses_survive_a_low_temperature_in_float32():
    features = units(2, 16, 8, seed=0).float()
    labels = classes(2, 16, seed=1, count=2)
    for loss in (
        within_image(features, -features, labels, labels, temperature=0.005),
        cross_image(features, -features, features, labels, labels, labels, temperature=0.005),
        info_nce(features[0], -features[0], features[1], temperature=0.005),
    ):
        assert loss.isfinite()


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
        held = loss(features, partner, other, labels)
    assert held.requires_grad
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize(
    "loss",
    [
        lambda f, p, o, y: within_image(f, p, y, y, temperature=0.1),
        lambda f, p, o, y: cross_image(f, p, o, y, y, y.flip(1), temperature=0.1),
    ],
    ids=["within_image", "cross_image"],
)
def test_memory_of_a_dense_loss_is_linear_in_the_batch(loss):
    one, two, three = (kept_bytes(loss, images) for images in (8, 16, 24))
    assert two - one == three - two > 0
    assert two == pytest.approx(2 * one, rel=0.01)
