"""A training step asks little of a GPU: no wait of the host, no mixture of devices, few launches and copies.

On a pretended device, so that it is known without one.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.cifar10.config import Cifar10Settings
from datasets.cifar10.files import Cifar10Images
from datasets.manifest.config import ManifestSettings
from datasets.registry import load, open_data
from datasets.seeding import stream
from datasets.source import Demands, Place
from datasets.tiles import sides
from datasets.transfer import send
from datasets.xbd.config import XbdSettings
from tests.helpers import fake_pairs, fake_xbd
from tests.helpers.pretended_cuda import DEVICE, pretended_cuda
from trainables.cell import Cell
from trainables.engine import PLAIN
from trainables.models.encoders import make_encoder
from trainables.pretrain import Training, batches, cell_objective
from trainables.registry import losses_for

DEMANDS = Demands(rho=(0.0, 0.5), pairings=("noisy",), labels=True, batch=2, supervised_batch=2, probe_batch=2)


@pytest.fixture(scope="session")
def sources(bank, recipe, tmp_path_factory):
    """The settings and source of each data set."""
    draw = np.random.default_rng(0)
    images = Cifar10Images(
        train=draw.integers(0, 256, (40, 32, 32, 3), np.uint8),
        train_labels=(np.arange(40) % 10).astype(np.uint8),
        test=draw.integers(0, 256, (20, 32, 32, 3), np.uint8),
        test_labels=(np.arange(20) % 10).astype(np.uint8),
        fingerprint="made up",
        published=False,
    )
    folder = tmp_path_factory.mktemp("pairs")
    fake_xbd.tree(folder / "xbd", train=16, tier3=8, test=4)
    xbd = XbdSettings(size=32)
    manifest = ManifestSettings(size=16)
    rows = fake_pairs.listed(folder / "made.csv", fake_pairs.sound(folder))
    places = Place(root=folder / "xbd", store=folder / "store"), Place(root=rows, store=folder / "store")
    return {
        "vts": (recipe.data, bank),
        "cifar10": (Cifar10Settings(), images),
        "xbd": (xbd, load(xbd, places[0], DEMANDS)),
        "manifest": (manifest, load(manifest, places[1], replace(DEMANDS, labels=False))),
    }


LAUNCHES = {
    "moco": (252, 400),
    "within_image": (261, 296),
    "cross_image": (261, 320),
    "supervised": (70, 240),
    "rince": (252, 420),
    "rince_within": (261, 320),
    "simclr": (252, 300),
    "supcon": (252, 310),
    "byol": (252, 880),
    "simsiam": (252, 645),
    "vicreg": (252, 655),
    "densecl": (252, 480),
    "pixpro": (255, 995),
}
"""Launches at most, to make the views of a step with all changes of colour, and for the step itself."""
COPIES = {"moco": 4, "within_image": 6, "cross_image": 7, "supervised": 4, "rince_within": 6, "pixpro": 5}
"""Copies at most; other losses as `moco`."""
PAPER = ("moco", "within_image", "cross_image", "supervised")
CASES = [
    *((dataset, loss) for dataset in ("vts", "xbd", "manifest") for loss in PAPER),
    *(("vts", loss) for loss in losses_for("segmentation") if loss not in PAPER),
    *(("cifar10", loss) for loss in ("moco", "supervised", "supcon")),
]


def asked_of_a_gpu(recipe, source, dataset, objective):
    """What the third step asks of a GPU: the card with its counts, and the launches that made the views."""
    augment = replace(recipe.augment, jitter=0.8, blur=0.5, grey=0.3)
    recipe = replace(recipe, data=source[0], augment=augment, pretrain=replace(recipe.pretrain, batch=2))
    pairing = "false_positive" if dataset == "cifar10" else "noisy"
    cell = Cell(dataset=dataset, objective=objective, rho=0.5, nu=0.5, pairing=pairing)
    with pretended_cuda() as card:
        data = open_data(*source, 0, DEVICE)
        encoder = make_encoder(recipe.encoder, replace(PLAIN, precision="bf16"), bands=recipe.data.bands)
        training = Training(cell_objective(encoder, data, cell, recipe), recipe.pretrain, DEVICE)
        views_of = batches(training.objective, data, cell, recipe)
        for step in range(3):
            card.reset()
            views, _ = views_of(step)
            made = card.launches.total()
            training.step(views, stream(0, "other image", step))
    return card, made


@pytest.mark.parametrize(("dataset", "objective"), CASES)
def test_a_step_asks_little_of_a_gpu(recipe, sources, dataset, objective):
    card, made = asked_of_a_gpu(recipe, sources[dataset], dataset, objective)
    assert not card.waits
    assert not card.mixtures
    assert not card.unpinned
    assert card.copies.total() <= COPIES.get(objective, COPIES["moco"]), card.copies
    most = LAUNCHES[objective]
    assert made <= most[0], card.launches
    assert card.launches.total() - made <= most[1], card.launches


@pytest.mark.parametrize("objective", ["moco", "cross_image"])
def test_tiles_that_a_gpu_cannot_keep_come_without_a_wait(recipe, sources, objective, monkeypatch):
    monkeypatch.setattr(sides, "KEPT", 0)
    card, _ = asked_of_a_gpu(recipe, sources["xbd"], "xbd", objective)
    assert not card.waits
    assert not card.unpinned


@pytest.mark.parametrize("kept", [0, 1])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_both_ways_of_tiles_to_a_gpu_give_the_bits_of_the_cpu(kept, dtype, monkeypatch):
    monkeypatch.setattr(sides, "KEPT", kept)
    first, second = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, (2, 5, 4, 4, 3), dtype)
    rows = np.array([4, 0, 0, 2])
    for which in np.array([[True, False, True, False], [False] * 4, [True] * 4]):
        expected = sides.Sides(lambda: first, lambda: second, torch.device("cpu")).take(rows, which)
        with pretended_cuda():
            found = sides.Sides(lambda: first, lambda: second, DEVICE).take(rows, which).cpu()
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
