"""A training step asks little of a GPU: no wait of the host, no mixture of devices, few launches and copies.

On a pretended device, so that it is known without one.
"""

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from datasets.registry import open_data
from datasets.seeding import stream
from datasets.tiles import sides
from datasets.transfer import send
from tests.helpers.pretended_cuda import DEVICE, pretended_cuda
from trainables import batches
from trainables.batches import Batches
from trainables.cell import Cell
from trainables.engine import PLAIN
from trainables.models.encoders import make_encoder
from trainables.pretrain import Training, cell_objective
from trainables.registry import losses_for
from trainables.views import CHOSEN, STATIC

LAUNCHES = {
    "moco": (249, 403),
    "within_image": (259, 296),
    "cross_image": (259, 320),
    "supervised": (72, 239),
    "rince": (249, 423),
    "rince_within": (259, 320),
    "simclr": (249, 300),
    "supcon": (249, 310),
    "byol": (249, 880),
    "simsiam": (249, 645),
    "vicreg": (249, 655),
    "densecl": (249, 483),
    "pixpro": (249, 995),
}
"""Launches at most, to make the views of a step with all changes of colour, and for the step itself."""
COPIES = {"supervised": 2}
"""Copies at most; 1 for all others."""
PAPER = ("moco", "within_image", "cross_image", "supervised")
CASES = [
    *((dataset, loss) for dataset in ("vts", "xbd", "manifest") for loss in PAPER),
    *(("vts", loss) for loss in losses_for("segmentation") if loss not in PAPER),
    *(("cifar10", loss) for loss in ("moco", "supervised", "supcon")),
]
FEW = [("vts", loss) for loss in (*PAPER, "pixpro")] + [("xbd", "within_image"), ("cifar10", "supcon")]


def steps(recipe, source, dataset, objective, card=None):
    """Make the views of steps of a cell and do the steps; yields the views, and what the card has launched by then."""
    augment = replace(recipe.augment, jitter=0.8, blur=0.5, grey=0.3)
    constant = replace(recipe.pretrain, batch=2, schedule="constant", warmup=0)  # the rate is a number of the host
    recipe = replace(recipe, data=source[0], augment=augment, pretrain=constant)
    pairing = "false_positive" if dataset == "cifar10" else "noisy"
    cell = Cell(dataset=dataset, objective=objective, rho=0.5, nu=0.5, pairing=pairing)
    device = DEVICE if card else torch.device("cpu")
    data = open_data(*source, 0, device)
    encoder = make_encoder(recipe.encoder, replace(PLAIN, precision="bf16"), bands=recipe.data.bands)
    training = Training(cell_objective(encoder, data, cell, recipe), recipe.pretrain, device)
    load = Batches(training.objective, data, cell, recipe)
    for step in range(6):
        if card:
            card.reset()
        views = load(step).views()
        made = card.launches.total() if card else 0
        training.step(views, stream(0, "other image", step))
        yield views, made


def asked_of_a_gpu(recipe, source, dataset, objective):
    """What the third step asks of a GPU: the card with its counts, and the launches that made the views."""
    with pretended_cuda() as card:
        *_, (_, made) = itertools.islice(steps(recipe, source, dataset, objective, card), 3)
    return card, made


@pytest.mark.parametrize(("dataset", "objective"), CASES)
def test_a_step_asks_little_of_a_gpu(recipe, sources, dataset, objective):
    card, made = asked_of_a_gpu(recipe, sources[dataset], dataset, objective)
    assert not card.waits
    assert not card.mixtures
    assert not card.unpinned
    assert card.copies.total() <= COPIES.get(objective, 1), card.copies
    most = LAUNCHES[objective]
    assert made <= most[0], card.launches
    assert card.launches.total() - made <= most[1], card.launches


@pytest.mark.parametrize(("dataset", "objective"), FEW)
def test_every_step_asks_the_same_of_a_gpu_whatever_is_drawn(recipe, sources, dataset, objective, monkeypatch):
    monkeypatch.setattr(batches, "augmenter", lambda engine, device: STATIC)
    with pretended_cuda() as card:
        traces = [card.trace for _ in steps(recipe, sources[dataset], dataset, objective, card)]
    assert traces[2] == traces[3] == traces[4] == traces[5]  # the first two set up


@pytest.mark.parametrize(
    ("dataset", "objective"), [("vts", "cross_image"), ("xbd", "within_image"), ("cifar10", "moco")]
)
@pytest.mark.parametrize("how", [CHOSEN, STATIC])
def test_a_gpu_sees_the_views_of_the_cpu(recipe, sources, dataset, objective, how, monkeypatch):
    expected = next(steps(recipe, sources[dataset], dataset, objective))[0]
    monkeypatch.setattr(batches, "augmenter", lambda engine, device: how)
    with pretended_cuda() as card:
        found = next(steps(recipe, sources[dataset], dataset, objective, card))[0]
        for name in (field.name for field in fields(expected)):
            one, other = getattr(found, name), getattr(expected, name)
            if other is None or how is CHOSEN or not other.is_floating_point():
                assert (one is None and other is None) or torch.equal(one.cpu(), other)
            else:  # means over images of another memory layout have another rounding
                torch.testing.assert_close(one.cpu(), other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("objective", ["moco", "cross_image"])
def test_tiles_that_a_gpu_cannot_keep_come_without_a_wait(recipe, sources, objective, monkeypatch):
    monkeypatch.setattr(sides, "KEPT", 0)
    card, _ = asked_of_a_gpu(recipe, sources["xbd"], "xbd", objective)
    assert not card.waits
    assert not card.unpinned
    assert card.copies.total() == 1


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_both_ways_of_tiles_to_a_gpu_give_the_bits_of_the_cpu(kept, dtype, monkeypatch):
    monkeypatch.setattr(sides, "KEPT", kept)
    first, second = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (2, 5, 4, 4, 3), dtype)
    rows = np.array([4, 0, 0, 2])
    for which in np.array([[True, False, True, False], [False] * 4, [True] * 4]):
        expected = sides.Sides(lambda: first, lambda: second, torch.device("cpu")).transfer(rows, which).sent()
        with pretended_cuda():
            found = sides.Sides(lambda: first, lambda: second, DEVICE).transfer(rows, which).sent().cpu()
        assert torch.equal(found, expected)
        assert found.dtype == expected.dtype


def test_many_tensors_are_sent_in_one_copy():
    sent = [torch.tensor([True, False, True]), None, torch.arange(5), torch.rand(2, 3), torch.empty(0, 4)]
    with pretended_cuda() as card:
        arrived = send(DEVICE, *sent)
        assert (card.copies.total(), card.waits, card.unpinned, card.launches) == (1, {}, {}, {})
        for before, after in zip(sent, arrived, strict=True):
            assert after is before or (torch.equal(after.cpu(), before) and after.dtype == before.dtype)


def test_the_pretended_gpu_sees_what_a_gpu_would_suffer_from():
    with pretended_cuda() as card:
        here, mask = torch.ones(3, device=DEVICE), torch.tensor([True, False, True])
        (on_gpu,) = send(DEVICE, mask)
        card.reset()
        for wait in (
            lambda: float(here.sum()),
            lambda: bool(here.any()),
            lambda: here.nonzero(),
            lambda: here[on_gpu],
            lambda: here[mask],
            lambda: here.cpu(),
            lambda: here.tolist(),
            lambda: torch.ones(3).to(DEVICE),
        ):
            before = card.waits.total()
            wait()
            assert card.waits.total() > before
        assert not card.mixtures
        assert not card.unpinned
        torch.ones(3).to(DEVICE, non_blocking=True)
        assert card.unpinned.total() == 1
        here + torch.ones(3)
        assert card.mixtures.total() == 1
        here * torch.tensor(2.0)
        assert card.mixtures.total() == 1
