"""A recorded step gives the numbers of the plain one, and nothing in it comes from the host; on a pretended device."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from datasets.registry import open_data
from datasets.seeding import stream
from datasets.tiles import sides
from tests.helpers.pretended_cuda import DEVICE, pretended_cuda
from trainables import recorded
from trainables.batches import Batches
from trainables.cell import Cell
from trainables.engine import PLAIN
from trainables.models.encoders import make_encoder
from trainables.pretrain import cell_objective
from trainables.recorded import PLAIN_STEPS, RecordedStep, stepper
from trainables.registry import losses_for
from trainables.training import Training

GRAPH = replace(PLAIN, precision="bf16", compile="graph")
STEPS = range(6)
CASES = [
    *(("vts", "moco"), ("vts", "cross_image"), ("xbd", "within_image"), ("cifar10", "moco")),
    ("xbd misregistration", "within_image"),
]
"""Data set, with a pairing if it is not the usual one, and loss."""
DISPLACED = ("vts misregistration", "moco")
OTHERS = [("vts", loss) for loss in losses_for("segmentation") if ("vts", loss) not in CASES]


@pytest.fixture
def recordings(monkeypatch):
    """What takes the place of CUDA graphs calls the recorded work again; the list has each recorded work."""
    made = []
    side = SimpleNamespace(wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: side)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: side)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(recorded, "record", lambda work: made.append(work) or work)
    return made


@pytest.fixture
def prepare(recipe, sources):
    """Data set, loss, engine, device, settings of pretraining -> a training, its batches, and how it does steps."""

    def prepare(dataset, objective, engine=GRAPH, device=DEVICE, batch=2, **settings):
        augment = replace(recipe.augment, jitter=0.8, blur=0.5, grey=0.3)
        pretrain = replace(recipe.pretrain, steps=6, batch=batch, warmup=2, **settings)
        dataset, _, pairing = dataset.partition(" ")
        whole = replace(recipe, data=sources[dataset][0], augment=augment, pretrain=pretrain)
        pairing = pairing or ("false_positive" if dataset == "cifar10" else "noisy")
        cell = Cell(dataset=dataset, objective=objective, rho=0.5, nu=0.5, pairing=pairing)
        data = open_data(*sources[dataset], 0, device)
        torch.manual_seed(0)
        encoder = make_encoder(whole.encoder, engine, bands=whole.data.bands)
        training = Training(cell_objective(encoder, data, cell, whole), pretrain, device)
        batches = Batches(training.objective, data, cell, whole)
        return training, batches, stepper(training, batches)

    return prepare


def numbers(training, batches, step):
    """The losses of steps, and all that they have changed."""
    losses = [step(batches(number), stream(0, "other image", number + 1)).cpu() for number in STEPS]
    state = torch.utils._pytree.tree_leaves(training.state_dict())
    return losses + [value.cpu() if isinstance(value, torch.Tensor) else value for value in state]


@pytest.mark.parametrize(("dataset", "objective"), CASES)
def test_a_recorded_step_gives_the_numbers_of_the_plain_one(prepare, recordings, dataset, objective, monkeypatch):
    monkeypatch.setattr(sides, "KEPT", 0)  # the images travel in the block
    with pretended_cuda():
        found = numbers(*prepare(dataset, objective))
        assert len(recordings) == 1
        expected = numbers(*prepare(dataset, objective, replace(GRAPH, compile="no")))
    for one, other in zip(found, expected, strict=True):
        # also of one kind: a checkpoint holds no learning rate that lies on a device
        assert type(one) is type(other)
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other


@pytest.mark.slow
@pytest.mark.parametrize(("dataset", "objective"), [*OTHERS, DISPLACED, ("cifar10", "supcon")])
def test_so_do_those_of_other_losses_up_to_rounding(prepare, recordings, dataset, objective):
    """The rate of a recorded step is a tensor, which rounds; bf16 would make the difference larger."""
    with pretended_cuda():
        engine = replace(GRAPH, precision="fp32")
        found = numbers(*prepare(dataset, objective, engine, batch=8))  # batch norms amplify the rounding of few images
        assert len(recordings) == 1
        expected = numbers(*prepare(dataset, objective, replace(engine, compile="no"), batch=8))
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(("dataset", "objective"), [*CASES, DISPLACED])
def test_what_is_recorded_takes_every_number_from_the_device(prepare, recordings, dataset, objective):
    traces = []
    with pretended_cuda() as card:
        _, batches, step = prepare(dataset, objective)
        for number in STEPS:
            batch = batches(number)
            if number > PLAIN_STEPS:
                card.reset()
                recordings[0]()
                asked = card.copies + card.waits + card.mixtures
                assert not asked
                traces.append(card.trace)
                card.reset()
                step(batch, stream(0, "other image", number + 1))
                assert card.copies.total() == 1
                waited = card.waits + card.unpinned
                assert not waited
            else:
                step(batch, stream(0, "other image", number + 1))
    assert len(traces) == 3
    assert traces[0] == traces[1] == traces[2]


@pytest.mark.parametrize(
    ("objective", "engine", "settings"),
    [
        ("supervised", GRAPH, {}),  # its dropout draws from the host
        ("moco", GRAPH, {"optimizer": "adamw"}),
        ("moco", replace(GRAPH, compile="no"), {}),
    ],
)
def test_what_cannot_be_recorded_or_shall_not_be_is_done_plainly(prepare, recordings, objective, engine, settings):
    with pretended_cuda():
        assert not isinstance(prepare("vts", objective, engine, **settings)[-1], RecordedStep)
        assert isinstance(prepare("vts", "moco")[-1], RecordedStep)
    assert not isinstance(prepare("vts", "moco", device=torch.device("cpu"))[-1], RecordedStep)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize(("dataset", "objective"), CASES)
def test_a_cuda_graph_gives_the_numbers_of_the_plain_step(prepare, dataset, objective):
    device = torch.device("cuda")
    found, expected = (
        numbers(*prepare(dataset, objective, replace(GRAPH, precision="fp32", compile=compile), device))[: len(STEPS)]
        for compile in ("graph", "no")
    )
    torch.testing.assert_close(torch.stack(found), torch.stack(expected), rtol=1e-3, atol=0)
    assert len({float(loss) for loss in found}) == len(STEPS)
