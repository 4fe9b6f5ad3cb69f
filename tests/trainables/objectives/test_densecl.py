"""DenseCL: plain loops of its equations, its two queues, and MoCo as its limit."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from datasets.seeding import stream
from tests.trainables.objectives.test_losses import units
from tests.trainables.objectives.test_moco import views
from trainables.cell import Cell
from trainables.loss_settings import DenseCl as Settings
from trainables.models.encoders import make_encoder
from trainables.objectives.densecl import DenseCl, best_matches
from trainables.objectives.moco import MocoV2
from trainables.views import validation_views

CELL = Cell(objective="densecl", rho=0.5, nu=0.5)


def made(recipe, **options):
    torch.manual_seed(0)
    return DenseCl(make_encoder(recipe.encoder), recipe, Settings(**options), stream(0, "queue")).train()


def reference(model, batch):
    """Embeddings of a batch, position by position: images, keys, positions, their positives, pooled keys."""
    maps, key_maps = model.encoder(batch.first), model.key_encoder(batch.second)
    unit = {"dim": 0, "eps": 1e-12}
    query = [functional.normalize(model.head(one.mean((1, 2))), **unit) for one in maps]
    key = [functional.normalize(model.key_head(one.mean((1, 2))), **unit) for one in key_maps]
    positions, matched, pooled = [], [], []
    for one, other in zip(maps, key_maps, strict=True):
        here, there = one.flatten(1).T, other.flatten(1).T
        dense, key_dense = (
            head(features[None])[0].flatten(1).T
            for head, features in ((model.dense_head, one), (model.key_dense_head, other))
        )
        pooled.append(functional.normalize(key_dense.mean(0), **unit))
        for p in range(len(here)):
            cosines = [float(functional.cosine_similarity(here[p], there[k], dim=0)) for k in range(len(there))]
            positions.append(functional.normalize(dense[p], **unit))
            matched.append(functional.normalize(key_dense[cosines.index(max(cosines))], **unit))
    return query, key, positions, matched, pooled


def slow_nce(query, key, queue, temperature=0.2):
    total = 0.0
    for q, k in zip(query, key, strict=True):
        negatives = sum(math.exp(float(q @ other) / temperature) for other in queue)
        positive = math.exp(float(q @ k) / temperature)
        total += -math.log(positive / (positive + negatives)) / len(query)
    return total


def test_a_step_is_the_equations_and_both_queues_take_the_new_keys(recipe, data):
    model = made(recipe, lam=0.3)
    batch, before = views(data, recipe), copy.deepcopy(model)
    found = model.loss(batch, stream(0))
    with torch.no_grad():
        query, key, positions, matched, pooled = reference(before, batch)
    slow = 0.7 * slow_nce(query, key, before.queue) + 0.3 * slow_nce(positions, matched, before.dense_queue)
    assert found.item() == pytest.approx(slow, rel=1e-4)
    for name, new in (("queue", key), ("dense_queue", pooled)):
        assert torch.allclose(getattr(model, name)[:8], torch.stack(new), atol=1e-5)
        assert torch.equal(getattr(model, name)[8:], getattr(before, name)[8:])
    assert not torch.equal(before.queue, before.dense_queue)


def test_a_match_is_the_most_similar_position():
    maps, keys = units(1, 3, 4, seed=0), units(1, 5, 2, seed=1)
    shuffled = torch.tensor([2, 0, 1])
    others = torch.cat([-maps[:, :2], maps[:, shuffled]], dim=1)
    assert torch.equal(best_matches(maps, others, keys), keys[:, 2 + shuffled.argsort()])


def test_without_a_share_it_is_moco(recipe, data):
    torch.manual_seed(0)
    moco = MocoV2(make_encoder(recipe.encoder), recipe, recipe.moco, stream(0, "queue")).train()
    model = made(recipe, lam=0.0)
    batch = views(data, recipe)
    assert model.loss(batch, stream(0)).item() == moco.loss(batch, stream(0)).item()
    assert torch.equal(model.queue, moco.queue)


def test_keys_follow_and_get_no_gradient(recipe, data):
    model = made(replace(recipe, moco=replace(recipe.moco, momentum=0.75)))
    with torch.no_grad():
        model.dense_head[0].weight.add_(1)
    before = copy.deepcopy(model)
    model.loss(views(data, recipe), stream(0)).backward()
    expected = 0.75 * before.key_dense_head[0].weight + 0.25 * before.dense_head[0].weight
    torch.testing.assert_close(model.key_dense_head[0].weight, expected)
    for name, weight in model.named_parameters():
        assert (weight.grad is None) == name.startswith("key_"), name


def test_validation_uses_other_images_and_moves_nothing(recipe, data):
    model = made(recipe, lam=0.3).eval()
    before = copy.deepcopy(model.state_dict())
    loss, plateau, floor = model.validate(validation_views(data, CELL, recipe), stream(0))
    with torch.no_grad():
        parts = [reference(model, batch) for batch in validation_views(data, CELL, recipe)]
    query, key, positions, matched, pooled = ([one for part in side for one in part] for side in zip(*parts))  # noqa: B905
    assert (len(query), len(positions)) == (10, 160)
    slow = 0.0
    for i in range(10):
        others = [k for k in range(10) if k != i]
        slow += 0.7 * slow_nce(query[i : i + 1], key[i : i + 1], [key[k] for k in others]) / 10
        mine = slice(16 * i, 16 * i + 16)
        slow += 0.3 * slow_nce(positions[mine], matched[mine], [pooled[k] for k in others]) / 10
    assert loss == pytest.approx(slow, rel=1e-4)
    assert plateau == pytest.approx(math.log(10))
    assert floor == 0
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
