"""A worker runs all its cells in one thread, although Ray Tune calls it in a new one for each cell."""

import threading
from functools import partial
from types import SimpleNamespace

import pytest
from ray import cloudpickle

from datasets.vts.config import CLASSES
from sweep.tune import compute, trainable, worker
from sweep.tune.job import WorkerJob
from sweep.tune.runner import TuneRunner
from tests.sweep.tune.conftest import Silent
from trainables.cell_job import SharedFeatures


def in_new_thread(function):
    """Call a function as Ray Tune does; returns what it raised."""
    raised = []

    def call():
        try:
            function()
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    return raised


@pytest.fixture
def run(monkeypatch):
    """Run a function in place of a cell, as in a reused worker; returns what the worker raised."""
    monkeypatch.setattr(trainable.tune, "report", lambda result: None)
    here = SimpleNamespace(get_node_id=lambda: "node")
    monkeypatch.setattr(trainable.ray, "get_runtime_context", lambda: here)
    monkeypatch.setattr(trainable.ray, "get_gpu_ids", list)

    def run(cell):
        monkeypatch.setattr(worker, "train", lambda coordinates, job, report, **more: cell())
        return in_new_thread(lambda: trainable.train_cell({"cell": {}}, job=None))

    return run


def test_two_cells_of_a_reused_worker_see_the_same_thread_also_after_an_error_and_an_end_by_ray(run):
    seen = []

    def ended_by(error):
        def cell():
            seen.append(threading.get_ident())
            if error:
                raise error

        return cell

    assert run(ended_by(None)) == []
    for error in (ValueError("of the cell"), SystemExit(0)):  # Tune ends a cell by SystemExit
        assert run(ended_by(error)) == [error]
    assert run(ended_by(None)) == []
    assert len(seen) == 4
    assert len(set(seen)) == 1


def test_cells_of_a_worker_have_the_same_features_and_other_workers_others(run, sweep, stop, monkeypatch):
    source = SimpleNamespace(files=(), classes=CLASSES, fingerprint="d", title="s", notes=())
    job = WorkerJob.of(sweep, {sweep.recipe.data: source})
    pickled = cloudpickle.dumps(TuneRunner(sweep, job, None, sweep.run_dir, Silent(), stop)._trainable)
    workers, seen = [cloudpickle.loads(pickled) for _ in range(2)], []
    monkeypatch.setattr(worker, "train", lambda coordinates, job, report, **more: seen.append(more["features"]))
    for call in (workers[0], workers[1], workers[0]):  # as Ray Tune gives cells to its workers
        assert in_new_thread(partial(call, {"cell": {}})) == []
    assert isinstance(seen[0], SharedFeatures)
    assert (seen[0] is seen[2], seen[0] is seen[1]) == (True, False)


def test_measurements_use_the_thread_of_cells(run):
    seen = []
    run(lambda: seen.append(threading.get_ident()))
    in_new_thread(lambda: seen.append(compute.compute(threading.get_ident)))
    assert seen[0] == seen[1]
