"""A worker whose GPU cannot be used, or no longer works, ends: Ray takes its machine for lost, and the cell goes on."""

import hashlib
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import ray
import torch

from datasets.vts.config import CLASSES
from sweep.tune import trainable, worker
from sweep.tune.job import WorkerJob
from trainables.cell import Cell
from trainables.cell_job import CellJob

SOURCE = SimpleNamespace(files=(), classes=CLASSES, fingerprint="d", title="s", notes=())


class Left(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def said(sweep, monkeypatch):
    """Everything that the worker reports; nothing runs in Ray, and the worker does not end."""
    reports = []

    def leave(code):
        raise Left

    here = SimpleNamespace(get_node_id=lambda: "node")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: here)
    monkeypatch.setattr(trainable.tune, "report", reports.append)
    monkeypatch.setattr(trainable.os, "_exit", leave)
    monkeypatch.setattr(trainable.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(ray, "get_gpu_ids", list)
    return reports


@pytest.fixture
def begin(sweep):
    """Runs the first cell of the sweep."""
    job = WorkerJob.of(sweep, {sweep.recipe.data: SOURCE})
    cell = sweep.cells()[0]
    return lambda: trainable.train_cell({"cell": asdict(cell)}, job=job)


def fails_with(error):
    def run_cell(*what, **more):
        raise error

    return run_cell


def test_a_worker_with_a_gpu_of_ray_that_torch_cannot_use_runs_nothing_and_ends(said, begin, monkeypatch):
    def init():
        raise RuntimeError("no driver")

    monkeypatch.setattr(ray, "get_gpu_ids", lambda: ["0"])
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(worker, "run_cell", fails_with(AssertionError("it must not run")))
    with pytest.raises(Left):
        begin()
    _, report = said  # the first says which worker it is
    assert report.keys() == {"warning"}
    assert "no GPU that torch can use: no driver" in report["warning"]


def test_a_worker_whose_gpu_no_longer_works_ends_and_the_cell_gets_no_record(said, begin, monkeypatch):
    monkeypatch.setattr(worker, "still_works", lambda device: False)
    monkeypatch.setattr(worker, "run_cell", fails_with(RuntimeError("CUDA error: an illegal memory access")))
    with pytest.raises(Left):
        begin()
    _, report = said  # the first says which worker it is
    assert report.keys() == {"warning"}
    assert "an illegal memory access; the GPU no longer works in this process" in report["warning"]


@pytest.mark.parametrize(("text", "kind"), [("unable to find an engine", "out of memory"), ("x", "error in the cell")])
def test_a_worker_whose_device_works_reports_the_error_of_its_cell(said, begin, monkeypatch, text, kind):
    monkeypatch.setattr(worker, "run_cell", fails_with(RuntimeError(text)))
    begin()
    assert said[-1]["kind"] == kind
    assert said[-1]["error"] == f"RuntimeError: {text}"


def test_a_record_names_the_weights_that_its_cell_starts_from(sweep, tmp_path):
    (tmp_path / "a.pth").write_bytes(b"1")
    recipe = replace(sweep.recipe, encoder=replace(sweep.recipe.encoder, weights=str(tmp_path / "a.pth")))
    (tmp_path / "in.pth").write_bytes(b"2")
    job = CellJob(recipe=recipe, source=SOURCE, imagenet=tmp_path / "in.pth")
    digests = {path.name: hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest() for path in tmp_path.iterdir()}
    for objective, name in (("moco", "a.pth"), ("pretrained", "a.pth"), ("imagenet", "in.pth"), ("random", None)):
        record = worker._record(Cell(objective=objective), job, torch.device("cpu"))
        assert record.weights == (f"{name} {digests[name]}" if name else None)
