"""Small data and a small recipe, with which a whole cell takes a second."""

from functools import partial

import pytest
import torch

from datasets.seeding import stream
from datasets.vts import textures
from datasets.vts.config import VtsSettings
from datasets.vts.dataset import Vts
from trainables.recipe import Encoder, Moco, Pretrain, Probe, Recipe


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


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
