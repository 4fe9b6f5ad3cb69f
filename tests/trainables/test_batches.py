"""Batches that are read from disk for a GPU are packed ahead by a thread: the same bits, and nothing is left behind."""

import threading
from dataclasses import fields, replace

import pytest
import torch

from datasets.registry import open_data
from datasets.tiles import sides
from datasets.tiles.dataset import TilePool
from tests.helpers.pretended_cuda import DEVICE, pretended_cuda
from trainables.batches import Batches
from trainables.cell import Cell
from trainables.cell_state import without_checkpoints
from trainables.models.encoders import make_encoder
from trainables.pretrain import cell_objective, train

CELL = Cell(dataset="xbd", objective="cross_image", rho=0.5)


def threads():
    return [one.name for one in threading.enumerate() if one.name.startswith("batches")]


@pytest.fixture
def of_xbd(recipe, sources):
    return replace(recipe, data=sources["xbd"][0], pretrain=replace(recipe.pretrain, batch=2))


@pytest.fixture
def make(of_xbd, sources, monkeypatch):
    """Device -> the batches of a cell, of which a GPU can keep no tile."""
    monkeypatch.setattr(sides, "KEPT", 0)

    def make(device):
        data = open_data(*sources["xbd"], 0, device)
        objective = cell_objective(make_encoder(of_xbd.encoder, bands=of_xbd.data.bands), data, CELL, of_xbd)
        return Batches(objective, data, CELL, of_xbd)

    return make


def content(views):
    values = (getattr(views, field.name) for field in fields(views))
    return [None if one is None else one.cpu() for one in values]


def test_a_gpu_sees_the_bits_of_the_cpu_in_whatever_order_steps_are_asked_for(make):
    plain = make(torch.device("cpu"))
    expected = [plain(step) for step in range(4)]
    assert not threads()  # a CPU has no time to spare
    with pretended_cuda():
        ahead = make(DEVICE)
        for step in (0, 1, 2, 0, 3, 3):
            found = ahead(step)
            assert torch.equal(found.noisy, expected[step].noisy)
            assert all(map(torch.equal, content(found.views()), content(expected[step].views())))
        assert threads()
        ahead.close()
        assert not threads()


def test_the_next_batch_is_read_while_a_step_runs(make, monkeypatch):
    read, transfer = threading.Event(), TilePool.transfer

    def seen(self, *args, **kwargs):
        if threading.current_thread() is not threading.main_thread():
            read.set()
        return transfer(self, *args, **kwargs)

    monkeypatch.setattr(TilePool, "transfer", seen)
    with pretended_cuda():
        ahead = make(DEVICE)
        ahead(0)
        assert read.wait(10)
        ahead.close()


def test_what_cannot_be_read_is_raised_in_its_step_and_leaves_no_thread(of_xbd, sources, monkeypatch):
    monkeypatch.setattr(sides, "KEPT", 0)
    transfer = TilePool.transfer

    def broken(self, *args, **kwargs):
        if threading.current_thread() is threading.main_thread():
            return transfer(self, *args, **kwargs)
        raise OSError("the disk is gone")

    monkeypatch.setattr(TilePool, "transfer", broken)
    with pretended_cuda():
        data = open_data(*sources["xbd"], 0, DEVICE)
        objective = cell_objective(make_encoder(of_xbd.encoder, bands=of_xbd.data.bands), data, CELL, of_xbd)
        seen = []
        monkeypatch.setattr("trainables.pretrain.Training.step", lambda *args: seen.append(1) or torch.zeros(()))
        with pytest.raises(OSError, match="the disk is gone"):
            train(objective, data, CELL, of_xbd, without_checkpoints(lambda *point: None))
    assert len(seen) == 1
    assert not threads()
