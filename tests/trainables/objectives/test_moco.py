"""MoCo v2's order of operations, its queue and its momentum encoder."""

import copy

import pytest
import torch
from torch.nn import functional

from datasets.seeding import stream
from trainables.cell import Cell
from trainables.models.encoders import make_encoder
from trainables.objectives.losses import info_nce
from trainables.objectives.moco import MocoV2
from trainables.views import training_pool, training_views, validation_views

CELL = Cell(objective="moco", rho=0.5, nu=0.5)


@pytest.fixture
def moco(recipe):
    torch.manual_seed(0)
    encoder = make_encoder(recipe.encoder)
    return MocoV2(encoder, recipe, recipe.moco, stream(0, "queue")).train()


def views(data, recipe, step=0):
    return training_views(training_pool(data, CELL), CELL, recipe, step)[0]


def reference_features(encoder, head, images):
    return functional.normalize(head(encoder.network.forward_features((images - 0.5) * 4).mean(dim=(2, 3))), dim=1)


def test_a_step_is_query_momentum_update_key_loss_enqueue(moco, data, recipe):
    with torch.no_grad():  # the order shows only if the key encoder differs
        for weight in moco.encoder.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    before = copy.deepcopy(moco)
    batch = views(data, recipe)
    found = moco.loss(batch, stream(0))
    with torch.no_grad():
        query = reference_features(before.encoder, before.head, batch.first)
        for old, new in zip(before.key_encoder.parameters(), before.encoder.parameters(), strict=True):
            old.copy_(0.999 * old + 0.001 * new)
        for old, new in zip(before.key_head.parameters(), before.head.parameters(), strict=True):
            old.copy_(0.999 * old + 0.001 * new)
        key = reference_features(before.key_encoder, before.key_head, batch.second)
    # The negatives are the queue before this batch was added.
    assert found.item() == pytest.approx(info_nce(query, key, before.queue, temperature=0.2).item(), abs=1e-5)
    assert torch.allclose(moco.queue[:8], key, atol=1e-5)
    assert torch.equal(moco.queue[8:], before.queue[8:])


def test_the_queue_forgets_the_oldest_and_wraps_around(moco, data, recipe):
    seen = []
    for step in range(3):
        moco.loss(views(data, recipe, step), stream(0))
        seen.append(moco.queue.clone())
    assert moco.oldest == (3 * 8) % 20
    assert torch.equal(seen[2][4:16], seen[1][4:16])
    assert not torch.equal(seen[2][:4], seen[1][:4])
    assert torch.allclose(moco.queue.norm(dim=1), torch.ones(20), atol=1e-5)


def test_keys_get_no_gradient_and_queries_do(moco, data, recipe):
    moco.loss(views(data, recipe), stream(0)).backward()
    assert all(weight.grad is None for weight in moco.key_encoder.parameters())
    assert all(weight.grad is not None for weight in moco.encoder.parameters())


def test_the_head_is_linear_relu_linear_without_batch_norm(moco):
    assert [type(layer).__name__ for layer in moco.head] == ["Linear", "ReLU", "Linear"]


def test_validation_uses_the_other_validation_keys_and_moves_nothing(moco, data, recipe):
    moco.eval()
    before = copy.deepcopy(moco.state_dict())
    loss, plateau, floor = moco.validate(validation_views(data, CELL, recipe), stream(0))
    batches = list(validation_views(data, CELL, recipe))
    with torch.no_grad():
        query = torch.cat([reference_features(moco.encoder, moco.head, b.first) for b in batches])
        key = torch.cat([reference_features(moco.key_encoder, moco.key_head, b.second) for b in batches])
        slow = [
            info_nce(query[i : i + 1], key[i : i + 1], torch.cat([key[:i], key[i + 1 :]]), temperature=0.2)
            for i in range(10)
        ]
    assert loss == pytest.approx(float(torch.stack(slow).mean()), abs=1e-5)
    assert floor == 0
    assert plateau == pytest.approx(torch.tensor(10.0).log().item(), abs=1e-6)
    assert all(torch.equal(before[name], value) for name, value in moco.state_dict().items())
