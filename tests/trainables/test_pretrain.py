"""Pretraining: schedule, best weights, non-finite losses, and differences between cells of one seed."""

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
from timm.optim import Lars

from datasets.seeding import seeded, stream
from tests.helpers.losses import EACH_LOSS
from trainables import pretrain as module
from trainables.cell import Cell
from trainables.cell_state import without_checkpoints
from trainables.models.encoders import make_encoder
from trainables.objectives.base import Validation, make_objective
from trainables.objectives.moco import MocoV2
from trainables.pretrain import NonFiniteLossError, evaluation_steps, mean_finite, pretrain
from trainables.recipe import Moco, Pretrain
from trainables.training import Training, optimiser, rate
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


def test_a_constant_rate_stays_after_the_warm_up():
    settings = Pretrain(steps=100, warmup=10, batch=8, schedule="constant")
    rates = [rate(done, settings) for done in range(100)]
    assert rates == [pytest.approx(min(1, (done + 1) / 10)) for done in range(100)]


@pytest.mark.parametrize(("steps", "evaluations"), [(4, 2), (10, 3), (3, 20), (100, 1)])
def test_evaluations_are_spread_and_end_with_the_last_step(steps, evaluations):
    chosen = evaluation_steps(steps, evaluations)
    assert steps in chosen
    assert len(chosen) == min(steps, evaluations)
    assert all(1 <= step <= steps for step in chosen)


@pytest.mark.parametrize("objective", EACH_LOSS)
def test_the_encoder_ends_with_the_weights_of_its_best_validation_loss(recipe, data, objective, monkeypatch):
    encoder, kept = encoder_of(recipe), {}
    losses = iter([3.0, 1.0, 2.0, 4.0])

    def validate(model, *rest):
        loss = next(losses)
        kept[loss] = copy.deepcopy(encoder.state_dict())
        return Validation(loss, 5.0)

    monkeypatch.setattr(module, "validate", validate)
    recipe = replace(recipe, pretrain=Pretrain(steps=4, batch=8, evaluations=4))
    done = pretrain(encoder, data, Cell(objective=objective), recipe, without_checkpoints(silent))
    assert done.best_step == 2
    assert done.val_loss == 1.0
    assert all(torch.equal(value, kept[1.0][name]) for name, value in encoder.state_dict().items())
    assert not all(torch.equal(value, kept[4.0][name]) for name, value in encoder.state_dict().items())


def trained(recipe, data, objective="moco", **settings):
    """A training after all steps of the recipe, and its encoder after each of them."""
    settings = replace(recipe.pretrain, warmup=0, **settings)
    with seeded(0, "training"):
        model = make_objective(objective, encoder_of(recipe), recipe, stream(0))
    training, cell, seen = Training(model, settings, data.device), Cell(objective=objective), []
    for step in range(settings.steps):
        views, _ = training_views(training_pool(data, cell), cell, recipe, step)
        training.step(views, stream(0, "other image", step))
        seen.append(copy.deepcopy(model.encoder.state_dict()))
    return training, seen


def test_each_optimizer_is_the_one_it_is_named_after(recipe, data):
    kinds = {"sgd": torch.optim.SGD, "adamw": torch.optim.AdamW, "lars": Lars}
    ends = []
    for name, kind in kinds.items():
        training, seen = trained(recipe, data, optimizer=name)
        assert type(training.optimiser) is kind
        groups = training.optimiser.param_groups
        given = [weight for group in groups for weight in group["params"]]
        assert {id(weight) for weight in given} == {id(weight) for weight in training.weights}
        decays = {id(weight): group["weight_decay"] for group in groups for weight in group["params"]}
        for weight in training.weights:  # timm's spare biases and norms
            assert decays[id(weight)] == (0 if weight.ndim == 1 and name != "sgd" else 1e-4)
        ends.append(seen[-1])
    for one, other in itertools.combinations(ends, 2):
        assert any((one[name] != other[name]).any() for name in one)


def test_lars_steps_are_scaled_to_the_norm_of_each_weight():
    """You et al. 2017, https://arxiv.org/abs/1708.03888, Eq. 6, for the first step."""
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 4)
    before = model.weight.detach().clone()
    step = optimiser(model, 0.3, Pretrain(optimizer="lars", weight_decay=0.01, batch=8), torch.device("cpu"))
    model(torch.rand(8, 5)).square().sum().backward()
    gradient = model.weight.grad.clone()
    step.step()
    local = 0.001 * before.norm() / (gradient.norm() + 0.01 * before.norm())
    torch.testing.assert_close(model.weight.detach(), before - 0.3 * local * (gradient + 0.01 * before))


@pytest.mark.parametrize("objective", EACH_LOSS)
def test_the_average_follows_encoder_and_heads(recipe, data, objective):
    training, seen = trained(recipe, data, objective, average=0.75)
    plain, same = trained(recipe, data, objective)
    assert all(torch.equal(one[name], other[name]) for one, other in zip(seen, same, strict=True) for name in one)
    expected = {name: value.double() for name, value in encoder_of(recipe).state_dict().items()}
    for weights in seen:
        for name, value in weights.items():
            expected[name] = 0.75 * expected[name] + 0.25 * value.double()
    own = {name: one for name, one in training.objective.named_children() if not name.startswith(("key_", "target_"))}
    assert own.keys() == training.trained.keys()
    with training.averaged() as averaged:
        assert all(getattr(averaged, name) is not one for name, one in own.items())
        found = averaged.encoder.state_dict()
    assert all(getattr(training.objective, name) is one for name, one in own.items())
    for name, value in found.items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
    with plain.averaged() as untouched:
        assert untouched.encoder is plain.objective.encoder


def test_the_averaged_encoder_is_validated_and_kept(recipe, data, monkeypatch):
    shown = []

    def validate(model, *rest):
        shown.append((model.encoder, copy.deepcopy(model.encoder.state_dict())))
        return Validation(1.0 / len(shown))

    monkeypatch.setattr(module, "validate", validate)
    encoder = encoder_of(recipe)
    averaged = replace(recipe, pretrain=replace(recipe.pretrain, average=0.5))
    pretrain(encoder, data, Cell(objective="moco"), averaged, without_checkpoints(silent))
    (validated, weights) = shown[-1]
    assert validated is not encoder
    assert all(torch.equal(value, weights[name]) for name, value in encoder.state_dict().items())


def test_a_loss_that_knows_no_floor_may_say_only_loss_and_plateau(recipe, data):
    class Two(MocoV2):
        def validate(self, batches, generator):
            return super().validate(batches, generator)[:2]

    cell = Cell(objective="moco")
    made = [kind(encoder_of(recipe), recipe, recipe.moco, stream(0)) for kind in (MocoV2, Two)]
    three, two = (module.validate(one, data, cell, recipe, without_checkpoints(silent)) for one in made)
    assert two.plateau == three.plateau
    assert three.floor == 0
    assert math.isnan(two.floor)


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
