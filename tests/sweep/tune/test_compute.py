"""A worker runs all its cells in one thread, although Ray Tune calls it in a new one for each cell."""

import threading
from types import SimpleNamespace

import pytest

from sweep.tune import compute, trainable, worker


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


def test_measurements_use_the_thread_of_cells(run):
    seen = []
    run(lambda: seen.append(threading.get_ident()))
    in_new_thread(lambda: seen.append(compute.compute(threading.get_ident)))
    assert seen[0] == seen[1]
