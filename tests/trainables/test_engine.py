"""Engines: what they refuse, and that fast ones compute the same as the plain one."""

import copy
from dataclasses import replace

import pytest
import torch

from datasets.cifar10.config import Cifar10Settings
from datasets.errors import InputError
from datasets.seeding import stream
from datasets.vts.dataset import Vts
from tests.helpers.losses import EACH_LOSS
from trainables.cell import Cell
from trainables.engine import PLAIN, Engine
from trainables.models.encoders import make_encoder
from trainables.models.weights import check_encoder
from trainables.objectives.base import make_objective
from trainables.pretrain import Training
from trainables.profiling.bare_step import bare_step, seconds_of
from trainables.recipe import KNOWN, Encoder
from trainables.views import training_pool, training_views

CPU = torch.device("cpu")


def losses(objective, recipe, engine, steps=3):
    step = bare_step(objective, recipe, engine, CPU)
    return torch.stack([step() for _ in range(steps)])


def test_what_is_left_open_is_told_and_filled_by_the_plain_engine():
    assert PLAIN.settled
    assert not Engine().settled
    assert not replace(PLAIN, threads=0).settled
    assert Engine().filled(PLAIN) == PLAIN
    assert Engine(precision="bf16", threads=3).filled(PLAIN) == replace(PLAIN, precision="bf16", threads=3)
    assert Engine(deterministic=True).filled(PLAIN) == replace(PLAIN, deterministic=True)
    again = replace(PLAIN, recompute=True)
    assert Engine().filled(again) == again == again.filled(PLAIN)  # a folder goes on as it began
    assert str(PLAIN) == "fp32, channels-last, 1 thread per cell"
    assert (
        str(replace(PLAIN, compile="default", threads=2))
        == "fp32, channels-last, compiled (default), 2 threads per cell"
    )
    assert str(replace(PLAIN, compile="graph")) == "fp32, channels-last, steps recorded, 1 thread per cell"
    with pytest.raises(InputError, match=r"--engine.threads -1"):
        Engine(threads=-1)


@pytest.mark.parametrize("objective", EACH_LOSS)
def test_the_layout_changes_rounding_alone(recipe, objective):
    other = losses(objective, recipe, replace(PLAIN, layout="contiguous"))
    assert torch.allclose(other, losses(objective, recipe, PLAIN), rtol=1e-4)


def test_the_narrowest_encoders_learn_from_large_images_as_with_the_other_layout():
    """torch's own backward pass ends the process here."""
    found = []
    for layout in ("channels_last", "contiguous"):
        torch.manual_seed(0)
        encoder = make_encoder(Encoder(slim=0.125, output_stride=8, stages=2), replace(PLAIN, layout=layout)).train()
        features = encoder(torch.rand(1, 3, 256, 256, generator=stream(0, "images")))
        features.square().mean().backward()
        found.append([features, *(weight.grad for weight in encoder.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("objective", EACH_LOSS)
def test_bf16_changes_rounding_alone_and_does_change_it(recipe, objective):
    plain, fast = (losses(objective, recipe, replace(PLAIN, precision=p)) for p in ("fp32", "bf16"))
    assert torch.allclose(fast, plain, rtol=0.02, atol=2e-3)
    assert not torch.equal(fast, plain)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of torch's own compiler
@pytest.mark.parametrize("objective", EACH_LOSS)
def test_compiling_changes_rounding_alone(recipe, objective):
    compiled = losses(objective, recipe, replace(PLAIN, compile="default"))
    assert torch.allclose(compiled, losses(objective, recipe, PLAIN), rtol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_a_copy_of_a_compiled_encoder_runs_its_own_network(recipe):
    encoder = make_encoder(recipe.encoder, replace(PLAIN, compile="default"))
    twin = copy.deepcopy(encoder)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.mul_(3)
    images = torch.rand(4, 3, 32, 32)
    assert not torch.allclose(encoder(images), twin(images))
    plain = make_encoder(recipe.encoder)
    plain.load_state_dict(twin.state_dict())
    assert torch.allclose(twin(images), plain(images), atol=1e-3)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_next_cell_of_a_worker_is_not_compiled_again(recipe):
    from torch._dynamo.utils import counters

    losses("moco", recipe, replace(PLAIN, compile="default"), steps=1)
    before = counters["stats"]["unique_graphs"]
    losses("moco", recipe, replace(PLAIN, compile="default"), steps=1)
    assert counters["stats"]["unique_graphs"] == before > 0


def test_features_are_float32_whatever_the_precision(recipe):
    for precision in ("fp32", "bf16"):
        encoder = make_encoder(recipe.encoder, replace(PLAIN, precision=precision))
        assert encoder(torch.rand(2, 3, 32, 32)).dtype == torch.float32


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("stride", [8, 16, 32])
@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("slim", [1.0, 0.25, 1 / 32])
def test_models_that_are_used_untried_can_be_built_by_every_recipe(name, stride, pool, slim):
    if pool or stride < 32:
        check_encoder(Encoder(name=name, output_stride=stride, stem_pool=pool, slim=slim))


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize(("stages", "stride"), [(1, 4), (2, 8), (3, 8), (3, 16)])
@pytest.mark.parametrize("slim", [1.0, 0.25])
def test_first_stages_are_those_of_the_whole_encoder(name, stages, stride, slim):
    recipe = Encoder(name=name, stages=stages, output_stride=stride, slim=slim)
    check_encoder(recipe)
    whole, first = (
        seeded_encoder(one) for one in (Encoder(name=name, output_stride=max(8, stride), slim=slim), recipe)
    )
    later = tuple(f"layer{number}" for number in range(stages + 1, 5))
    layers = [name for name in whole.network.state_dict() if not name.startswith(later)]
    own = first.network.state_dict()
    assert list(own) == layers
    assert all(torch.equal(value, whole.network.state_dict()[name]) for name, value in own.items())
    images, seen = torch.rand(2, 3, 32, 32), []
    getattr(whole.network, f"layer{stages}").register_forward_hook(lambda module, given, found: seen.append(found))
    whole(images)
    found = first(images)
    assert torch.equal(found, seen[0])
    assert found.shape == (2, first.channels, 32 // stride, 32 // stride)


def seeded_encoder(recipe):
    torch.manual_seed(0)
    return make_encoder(recipe).eval()


@pytest.mark.parametrize(("name", "channels"), [("convnext_atto", 160), ("regnetx_002", 152)])
def test_other_models_have_stages_too(name, channels):
    recipe = Encoder(name=name, stages=3, output_stride=16)
    check_encoder(recipe)
    assert make_encoder(recipe).channels == channels


def test_a_model_without_stages_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"\A--encoder.name vit_tiny_patch16_224 cannot [^\n]*\Z"):
        check_encoder(Encoder(name="vit_tiny_patch16_224", stages=3, output_stride=16))


@pytest.mark.parametrize("objective", EACH_LOSS)
def test_views_without_labels_are_the_same_views(data, recipe, objective):
    cell = Cell(objective=objective, rho=0.5, nu=0.5)
    pool = training_pool(data, cell)
    with_labels, noisy = training_views(pool, cell, recipe, 3)
    without, as_noisy = training_views(pool, cell, recipe, 3, labelled=False)
    assert torch.equal(with_labels.first, without.first)
    assert torch.equal(with_labels.second, without.second)
    assert torch.equal(noisy, as_noisy)
    assert without.first_labels is without.second_labels is None
    loss = make_objective(objective, make_encoder(recipe.encoder), recipe, stream(0))
    if loss.sees == "labelled pairs":
        with pytest.raises(AssertionError, match="made without labels"):
            loss.loss(without, stream(0))


def test_timing_takes_the_calls_and_seconds_it_is_told_to():
    calls = []
    assert len(seconds_of(lambda: calls.append(0), CPU, least=4, budget=0.0)) == 4 == len(calls)
    assert sum(seconds_of(lambda: None, CPU, least=1, budget=0.01)) >= 0.01


def test_a_loss_that_uses_classes_of_images_is_timed_on_such_images(recipe):
    step = bare_step("supcon", replace(recipe, data=Cifar10Settings()), PLAIN, CPU)
    assert all(step().isfinite() for _ in range(2))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")  # said once, when it is switched on
@pytest.mark.parametrize("objective", EACH_LOSS)
def test_a_step_makes_no_gpu_wait(bank, recipe, objective):
    from functools import partial

    device = torch.device("cuda")
    data = Vts(recipe.data, bank, partial(stream, 0), device)
    loss = make_objective(objective, make_encoder(recipe.encoder, replace(PLAIN, precision="bf16")), recipe, stream(0))
    training = Training(loss, recipe.pretrain, device)
    cell = Cell(objective=objective, rho=0.5, nu=0.5)
    for step in range(4):
        if step == 2:  # one-time setup is over
            torch.cuda.set_sync_debug_mode("error")
        try:
            views, _ = training_views(training_pool(data, cell), cell, recipe, step, labelled=loss.labelled)
            training.step(views, stream(0, "other image", step))
        finally:
            torch.cuda.set_sync_debug_mode("default")
