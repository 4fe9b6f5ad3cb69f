"""Features that are computed again in the backward pass: the same results, with less memory."""

from dataclasses import replace

import pytest
import torch

from datasets.errors import InputError
from datasets.seeding import seeded, stream
from tests.helpers.losses import EACH_LOSS
from trainables.engine import PLAIN, Engine
from trainables.models import encoders
from trainables.models.encoders import make_encoder
from trainables.objectives.base import make_objective
from trainables.pretrain import Training
from trainables.recipe import Encoder
from trainables.views import Views

CPU = torch.device("cpu")
AGAIN = replace(PLAIN, recompute=True)


def trained(recipe, engine, objective, steps=3):
    """The losses and all weights and running statistics after some steps."""
    draws = stream(0, "views")
    with seeded(0, "encoder"):
        encoder = make_encoder(recipe.encoder, engine)
        training = Training(make_objective(objective, encoder, recipe, draws), recipe.pretrain, CPU)
    images = torch.rand(2, 8, 3, 32, 32, generator=draws)
    labels = torch.randint(2, (2, 8, 32, 32), dtype=torch.uint8, generator=draws)
    maps = torch.eye(2, 3).expand(2, 8, 2, 3)
    views = Views(first=images[0], second=images[1], first_labels=labels[0], second_labels=labels[1], maps=maps)
    losses = [training.step(views, draws) for _ in range(steps)]
    return torch.stack(losses), training.objective.state_dict()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("objective", EACH_LOSS)
def test_the_result_is_the_same_bit_for_bit(recipe, objective, precision):
    kept, again = (trained(recipe, replace(e, precision=precision), objective) for e in (PLAIN, AGAIN))
    assert torch.equal(kept[0], again[0])
    assert kept[1].keys() == again[1].keys()
    assert any("running_mean" in name for name in kept[1])
    for name, value in kept[1].items():
        assert torch.equal(value, again[1][name]), name


@pytest.mark.parametrize(
    "encoder", [Encoder(), Encoder(name="resnet34", slim=0.25), Encoder(stages=2, output_stride=8, slim=0.5)]
)
def test_the_blocks_are_those_of_the_whole_network(encoder):
    images, found = torch.rand(4, 3, 64, 64), []
    for engine in (PLAIN, AGAIN):
        with seeded(0, "encoder"):
            found.append(make_encoder(encoder, engine)(images))
    assert torch.equal(*found)


@pytest.mark.filterwarnings("ignore:Module is None")  # of torch's tracker, which also tells modules apart
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_needs_less_than_three_quarters_of_the_memory(precision):
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.distributed._tools.mem_tracker import MemTracker

    peaks = []
    for engine in (PLAIN, AGAIN):
        encoder = make_encoder(Encoder(), replace(engine, precision=precision))
        with FakeTensorMode(allow_non_fake_inputs=True), MemTracker() as tracker:  # no values, only sizes
            loss = encoder(torch.zeros(64, 3, 128, 128)).square().mean()
            torch.autograd.grad(loss, list(encoder.parameters()))
        peaks.append(tracker.get_tracker_snapshot("peak")[CPU]["Total"])
    assert peaks[1] < 0.75 * peaks[0]


def test_other_networks_and_compiled_ones_are_refused_in_one_line():
    with pytest.raises(InputError, match=r"\A--engine.recompute: works only for ResNets [^\n]*\Z"):
        make_encoder(Encoder(name="regnetx_002"), AGAIN)
    with pytest.raises(InputError, match=r"\A--engine.recompute: not with --engine.compile default; use [^\n]*\Z"):
        Engine(recompute=True, compile="default")


def test_no_tensor_of_an_evaluation_is_larger_than_gpus_can_index(monkeypatch):
    seen = []
    encoder = make_encoder(Encoder(slim=0.25)).eval()
    encoder.network.conv1.register_forward_hook(lambda module, given, made: seen.append(len(made)))
    images = torch.rand(10, 3, 32, 32)
    whole = encoder(images)
    monkeypatch.setattr(encoders, "MOST_ELEMENTS", 3 * 64 * 32 * 32)
    assert torch.allclose(encoder(images), whole, atol=1e-5)
    assert seen[0] == 10
    assert sum(seen[1:]) == 10
    assert max(seen[1:]) <= 3
