"""What is timed is the step of a real cell, in the thread of cells, and nothing of a candidate is left for the next."""

import threading
import weakref
from dataclasses import replace

import pytest
import torch

from datasets.vts.textures import load_textures
from sweep.autotune import measurement
from sweep.autotune.measurement import BenchmarkTask, in_this_process
from sweep.cluster.machine import Machine
from sweep.presets import preset
from sweep.tune.compute import compute
from trainables.cell_job import CellJob
from trainables.engine import PLAIN, Engine
from trainables.pretrain import Training
from trainables.profiling import whole_step as module
from trainables.run_cell import run_cell

SWEEP = preset("vts-smoke")
CELL = next(cell for cell in SWEEP.cells() if cell.rho)
LAPTOP = Machine(id="n", name="here", processor="some", cores=1, memory=2**40)


@pytest.fixture(scope="module")
def source():
    return load_textures(SWEEP.recipe.data, None)


def task(source):
    return BenchmarkTask(cell=CELL, recipe=SWEEP.recipe, source=source, engine=Engine(), cells=1, machine=LAPTOP)


@pytest.fixture
def steps(monkeypatch):
    """The thread and the loss of each step of pretraining."""
    seen = []
    step = Training.step

    def spied(self, views, generator):
        loss = step(self, views, generator)
        seen.append((threading.get_ident(), float(loss)))
        return loss

    monkeypatch.setattr(Training, "step", spied)
    return seen


def test_the_steps_are_those_of_the_cell_with_its_data_and_augmentation(source, steps):
    torch.set_num_threads(1)
    run_cell(CELL, CellJob(recipe=SWEEP.recipe, source=source), torch.device("cpu"), report=lambda *point: None)
    real = [loss for _, loss in steps]
    steps.clear()
    with in_this_process(task(source), 1) as measure:
        measured = measure(PLAIN, 1)
    assert not measured.fault
    assert measured.loss == real[2]
    assert [loss for _, loss in steps][:4] == real[:4]  # no step trains on the views of another
    assert {thread for thread, _ in steps} == {compute(threading.get_ident)}
    assert measured.rate > 0
    assert 0 < measured.memory < measured.room


@pytest.mark.parametrize(("threads", "seconds"), [(1, 0.5), (2, 5.0)])
def test_a_step_of_one_thread_takes_as_long_as_its_cpu_time_whatever_else_runs(threads, seconds, monkeypatch):
    """Another program has the core nine times as long."""
    now = {"wall": 0.0, "cpu": 0.0, "waited": 0.0}

    def step():
        for name, passed in (("wall", 5.0), ("cpu", 0.5), ("waited", 4.5 * threads)):
            now[name] += passed

    monkeypatch.setattr(measurement.time, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(measurement.time, "process_time", lambda: now["cpu"])
    monkeypatch.setattr(measurement, "waited_for_cores", lambda: now["waited"])
    trainer = object.__new__(measurement.Trainer)
    vars(trainer).update(
        _step=step, _threads=threads, _task=task(None), _device=torch.device("cpu"), _baseline=0, _release=None
    )
    figures = compute(trainer._train)
    assert figures.seconds == [seconds] * 3
    assert figures.delayed == pytest.approx(0.9)
    (joined,) = [measurement.joined(task(None), PLAIN, [4.0], [figures])]
    assert joined.rate == task(None).batch / seconds
    assert joined.disturbance == "other programs had its cores for 90 % of the time"


def test_the_wait_of_all_threads_is_added_up_and_is_none_where_the_system_does_not_tell(tmp_path):
    for thread, text in (("11", "5 2000000000 1\n"), ("12", "9 500000000 7\n"), ("13", "")):
        (tmp_path / "task" / thread).mkdir(parents=True)
        (tmp_path / "task" / thread / "schedstat").write_text(text)
    assert measurement.waited_for_cores(tmp_path) == 2.5
    assert measurement.waited_for_cores(tmp_path / "absent") == 0


def test_a_candidate_is_gone_before_the_next_is_built_also_after_an_error(source, monkeypatch):
    candidates, alive = [], []
    real = module.whole_step

    def watched(cell, job, data):
        alive.append([one() for one in candidates if one() is not None])
        if job.engine.layout == "contiguous":
            raise RuntimeError("no such layout")
        step = real(cell, job, data)
        candidates.append(weakref.ref(step))
        return step

    monkeypatch.setattr(module, "whole_step", watched)
    with in_this_process(task(source), 1) as measure:
        assert not measure(PLAIN, 1).fault
        assert measure(replace(PLAIN, layout="contiguous"), 1).fault == "no such layout"
        assert not measure(PLAIN, 1).fault
    assert alive == [[], [], []]
    assert len(candidates) == 2
