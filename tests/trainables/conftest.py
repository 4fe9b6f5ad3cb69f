"""Small data and a small recipe, with which a whole cell takes a second."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from datasets.cifar10.config import Cifar10Settings
from datasets.cifar10.files import Cifar10Images
from datasets.manifest.config import ManifestSettings
from datasets.registry import load
from datasets.seeding import stream
from datasets.source import Demands, Place
from datasets.vts import textures
from datasets.vts.config import VtsSettings
from datasets.vts.dataset import Vts
from datasets.xbd.config import XbdSettings
from tests.helpers import fake_pairs, fake_xbd
from trainables.recipe import Encoder, Moco, Pretrain, Probe, Recipe

DEMANDS = Demands(rho=(0.0, 0.5), pairings=("noisy",), labels=True, batch=2, supervised_batch=2, probe_batch=2)


@pytest.fixture(scope="session")
def bank():
    return textures.make_procedural(32, count=8)


@pytest.fixture(scope="session")
def recipe():
    return Recipe(
        data=VtsSettings(size=32, train=24, val=10, test=10),
        encoder=Encoder(slim=0.125, output_stride=8),
        moco=Moco(queue=20),
        pretrain=Pretrain(steps=4, batch=8, evaluations=2),
        probe=Probe(steps=4, batch=8, cached_views=2, evaluations=2),
    )


@pytest.fixture
def data(bank, recipe):
    return Vts(recipe.data, bank, partial(stream, 0), torch.device("cpu"))


@pytest.fixture(scope="session")
def whole_images():
    """Images with a class each, in the place of CIFAR-10."""
    draw = np.random.default_rng(0)
    return Cifar10Images(
        train=draw.integers(0, 256, (40, 32, 32, 3), np.uint8),
        train_labels=(np.arange(40) % 10).astype(np.uint8),
        test=draw.integers(0, 256, (20, 32, 32, 3), np.uint8),
        test_labels=(np.arange(20) % 10).astype(np.uint8),
        fingerprint="made up",
        published=False,
    )


@pytest.fixture(scope="session")
def sources(bank, recipe, whole_images, tmp_path_factory):
    """The settings and source of each data set."""
    folder = tmp_path_factory.mktemp("pairs")
    fake_xbd.tree(folder / "xbd", train=16, tier3=8, test=4)
    xbd = XbdSettings(size=32)
    manifest = ManifestSettings(size=16)
    rows = fake_pairs.listed(folder / "made.csv", fake_pairs.sound(folder))
    places = Place(root=folder / "xbd", store=folder / "store"), Place(root=rows, store=folder / "store")
    return {
        "vts": (recipe.data, bank),
        "cifar10": (Cifar10Settings(), whole_images),
        "xbd": (xbd, load(xbd, places[0], DEMANDS)),
        "manifest": (manifest, load(manifest, places[1], replace(DEMANDS, labels=False))),
    }


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
