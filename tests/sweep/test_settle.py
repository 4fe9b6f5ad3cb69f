"""What is given wins over what the folder began with, and that over what is measured."""

from dataclasses import replace

import pytest

from datasets.errors import InputError
from sweep import settle as module
from sweep.calibrate import Choice
from sweep.machine import Machine
from sweep.measure import Measured
from sweep.presets import preset
from sweep.settle import SHARE, settle
from trainables.engine import PLAIN, Engine

LAPTOP = Machine(device="cpu", processor="some", cores=4, torch="2")
GPU = replace(LAPTOP, device="cuda", processor="H200")
FAST = Engine(precision="bf16", layout="contiguous", compile="no", threads=2)


def asked(**changes):
    return replace(preset("vts-smoke"), **{"engine": Engine(), **changes})


@pytest.fixture
def measured(monkeypatch):
    """What `choose` answers, and the tasks it was given."""
    tasks = []

    def choose(task, images):
        tasks.append((task, images))
        best = Measured(engine=FAST, cells=2, rate=3.0, memory=2 * 10**9, room=10 * 10**9)
        return Choice(best=best, plain=replace(best, engine=PLAIN, rate=1.5), compiling=False, tried=())

    monkeypatch.setattr(module, "choose", choose)
    return tasks


def test_what_is_open_is_measured_for_the_images_that_are_missing(measured):
    sweep, words = settle(asked(), None, asked().cells(), LAPTOP)
    assert sweep.engine == FAST
    assert sweep.cell_memory == 2.0
    assert "2.00 times the plain engine" in words
    ((task, images),) = measured
    assert task.objective == "moco"
    assert images == 6 * 4 * 8  # six cells with a loss, four steps of eight pairs


def test_a_gpu_is_shared_by_as_many_cells_as_measured_and_fit(measured):
    assert settle(asked(), None, asked().cells(), GPU)[0].gpu_share == 0.5
    assert settle(asked(engine=PLAIN, gpu_share=0.0), None, asked().cells(), GPU)[0].gpu_share == 0.5
    assert settle(asked(gpu_share=1.0), None, asked().cells(), GPU)[0].gpu_share == 1.0


def test_nothing_is_measured_where_nothing_is_open(measured):
    for sweep, engine in (
        (asked(engine=PLAIN), PLAIN),
        (asked(engine=Engine(deterministic=True)), replace(PLAIN, deterministic=True)),
        (asked(objectives=("random",)), PLAIN),
    ):
        settled, _ = settle(sweep, None, sweep.cells(), LAPTOP)
        assert settled.engine == engine
        assert settled.gpu_share == SHARE
    assert not measured


def test_a_folder_goes_on_as_it_began_unless_told_otherwise(measured):
    before = asked(engine=FAST, cell_memory=1.5, gpu_share=0.5)
    sweep, words = settle(asked(), before, asked().cells(), LAPTOP)
    assert sweep.engine == FAST
    assert sweep.cell_memory == 1.5
    assert "as before" in words
    told = settle(asked(engine=Engine(threads=1)), before, asked().cells(), LAPTOP)[0]
    assert told.engine == replace(FAST, threads=1)
    assert not measured


def test_more_threads_than_cores_are_refused_with_what_there_is():
    with pytest.raises(InputError, match=r"--threads 9: a cell cannot have more than the 4 cores here"):
        settle(asked(engine=replace(PLAIN, threads=9)), None, asked().cells(), LAPTOP)
