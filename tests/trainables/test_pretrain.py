"""Pretraining: schedule, best weights, non-finite losses, and differences between cells of one seed."""

import copy
import math
from dataclasses import replace

import pytest
import torch

from trainables import pretrain as module
from trainables.cell import Cell
from trainables.cell_state import without_checkpoints
from trainables.models.encoders import make_encoder
from trainables.pretrain import NonFiniteLossError, evaluation_steps, mean_finite, pretrain, rate
from trainables.recipe import Moco, Pretrain
from trainables.registry import LOSSES
from trainables.views import training_pool, training_views


def silent(stage, step, values):
    pass


def encoder_of(recipe, seed=0):
    torch.manual_seed(seed)
    return make_encoder(recipe.encoder)


def test_the_rate_rises_then_falls_as_a_cosine():
    settings = Pretrain(steps=100, warmup=10, batch=8)
    rates = [rate(done, settings) for done in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[49] == pytest.approx(0.5, abs=0.02)
    assert rates[-1] == pytest.approx(0, abs=1e-3)
    assert max(rates) == rates[9]
    plain = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(plain, 100)
    for done in range(100):
        assert rate(done, Pretrain(steps=100, batch=8)) == pytest.approx(cosine.get_last_lr()[0], abs=1e-9)
        plain.step()
        cosine.step()


@pytest.mark.parametrize(("steps", "evaluations"), [(4, 2), (10, 3), (3, 20), (100, 1)])
def test_evaluations_are_spread_and_end_with_the_last_step(steps, evaluations):
    chosen = evaluation_steps(steps, evaluations)
    assert steps in chosen
    assert len(chosen) == min(steps, evaluations)
    assert all(1 <= step <= steps for step in chosen)


@pytest.mark.parametrize("objective", LOSSES)
def test_the_encoder_ends_with_the_weights_of_its_best_validation_loss(recipe, data, objective, monkeypatch):
    encoder, kept = encoder_of(recipe), {}
    losses = iter([3.0, 1.0, 2.0, 4.0])

    def validate(model, *rest):
        loss = next(losses)
        kept[loss] = copy.deepcopy(encoder.state_dict())
        return loss, 5.0

    monkeypatch.setattr(module, "validate", validate)
    recipe = replace(recipe, pretrain=Pretrain(steps=4, batch=8, evaluations=4))
    done = pretrain(encoder, data, Cell(objective=objective), recipe, without_checkpoints(silent))
    assert done.best_step == 2
    assert done.val_loss == 1.0
    assert all(torch.equal(value, kept[1.0][name]) for name, value in encoder.state_dict().items())
    assert not all(torch.equal(value, kept[4.0][name]) for name, value in encoder.state_dict().items())


def test_divergence_names_loss_step_and_cell(recipe, data):
    cell = Cell(objective="moco", rho=0.5, nu=0.5, seed=3)
    wild = replace(recipe, moco=Moco(lr=1e30, queue=20))
    with pytest.raises(NonFiniteLossError, match=r"loss became nan at step [234] in cell moco rho 0.5 nu 0.5"):
        pretrain(encoder_of(recipe), data, cell, wild, without_checkpoints(silent))


def test_the_first_bad_step_of_a_stretch_is_named():
    losses = [torch.tensor(v) for v in (1.0, 2.0, math.inf, 4.0)]
    with pytest.raises(NonFiniteLossError, match="became inf at step 9"):
        mean_finite(losses, 10, Cell(objective="moco"))
    assert mean_finite(losses[:2], 10, Cell(objective="moco")) == 1.5


def test_cells_of_one_seed_see_the_same_draws(recipe, data):
    shown = {}
    for rho in (0.0, 0.5, 1.0):
        for pairing in ("noisy", "exposure"):
            cell = Cell(objective="moco", rho=rho, nu=0.5, pairing=pairing)
            shown[rho, pairing] = training_views(training_pool(data, cell), cell, recipe, 1)
    clean, _ = shown[0.0, "noisy"]
    for (rho, pairing), (views, noisy) in shown.items():
        # A clean pair is the same in every cell: same images, same augmentation, same labels.
        for side in ("first", "second", "first_labels", "second_labels"):
            assert torch.equal(getattr(views, side)[~noisy], getattr(clean, side)[~noisy])
        assert torch.equal(views.first_labels, clean.first_labels)
        changed = [
            (a != b).flatten(1).any(dim=1) for a, b in ((views.first, clean.first), (views.second, clean.second))
        ]
        if rho:
            sides = changed[0].int() + changed[1].int()
            assert set(sides[noisy].tolist()) == ({1} if pairing == "noisy" else {2})
    assert not (shown[0.5, "noisy"][1] & ~shown[1.0, "noisy"][1]).any()
    assert torch.equal(shown[0.5, "noisy"][1], shown[0.5, "exposure"][1])


def test_another_seed_sees_other_draws(recipe, data):
    cells = [Cell(objective="moco", seed=seed) for seed in (0, 1)]
    one, other = (training_views(training_pool(data, cell), cell, recipe, 1)[0] for cell in cells)
    assert not torch.equal(one.first, other.first)
