"""Training never waits for the driver: a thread sends the reports of a cell, in order, and ends with the cell."""

import threading
import time
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from datasets.vts.config import CLASSES
from sweep.tune import worker
from sweep.tune.job import WorkerJob
from trainables.checkpoints import StoppedError


def threads():
    return [one.name for one in threading.enumerate() if one.name.startswith("reports")]


@pytest.fixture
def job(sweep, monkeypatch):
    monkeypatch.setattr(worker, "INTERVAL", 0.0)
    source = SimpleNamespace(files=(), classes=CLASSES, fingerprint="d", title="s", notes=())
    return WorkerJob.of(sweep, {sweep.recipe.data: source})


@pytest.fixture
def run(sweep, job, monkeypatch):
    """Run a cell that does `steps(report, checkpoints)`, and send its reports to `driver`."""

    def run(steps, driver):
        def run_cell(cell, cell_job, device, *, report, checkpoints, **more):
            steps(report, checkpoints)
            return {}

        monkeypatch.setattr(worker, "run_cell", run_cell)
        worker.train(asdict(sweep.cells()[0]), job, driver)

    return run


def test_a_cell_goes_on_while_the_driver_is_busy_and_its_record_comes_last(run):
    trained, in_time, heard = threading.Event(), [], []

    def steps(report, checkpoints):
        for step in range(1, 4):
            report("pretrain", step, {"train_loss": 1.0 / step})
            checkpoints.after_step("pretrain", step, dict)
        trained.set()

    def driver(report):
        in_time.append(trained.wait(10))  # the driver answers only when the cell is done
        heard.append(report)

    run(steps, driver)
    assert all(in_time)
    assert [report["points"][0][1] for report in heard[:3]] == [1, 2, 3]
    assert heard[-1]["record"].status == "done"
    assert len(heard) == 4
    assert not threads()


def test_a_busy_driver_gets_no_second_sign_of_life_before_it_has_read_the_first(run):
    trained, heard = threading.Event(), []

    def steps(report, checkpoints):
        checkpoints._heartbeat._interval = 0.0
        for _ in range(100):
            checkpoints.after_step("pretrain", 1, dict)
        trained.set()

    def driver(report):
        trained.wait(10)
        heard.append(report)

    run(steps, driver)
    assert [list(report) for report in heard[:-1]] == [["alive"]]


def test_the_request_to_stop_is_seen_although_the_driver_is_busy(run, job):
    left, heard = threading.Event(), []

    def steps(report, checkpoints):
        report("pretrain", 1, {"train_loss": 1.0})
        job.run_dir.stop.parent.mkdir(parents=True, exist_ok=True)
        job.run_dir.stop.touch()
        try:
            checkpoints.after_step("pretrain", 1, dict)
        except StoppedError:
            left.set()
            raise

    def driver(report):
        heard.append((left.wait(10), report))

    run(steps, driver)
    assert all(in_time for in_time, _ in heard)
    assert heard[-1][1] == {"stopped": True}


def test_the_driver_can_end_a_cell_which_then_says_nothing_more(run):
    heard = []

    def steps(report, checkpoints):
        report("pretrain", 1, {"train_loss": 1.0})
        report("pretrain", 2, {"train_loss": 1.0})
        until = time.monotonic() + 10
        while time.monotonic() < until:
            checkpoints.after_step("pretrain", 2, dict)

    def driver(report):
        heard.append(report)
        raise SystemExit(0)

    with pytest.raises(SystemExit):
        run(steps, driver)
    assert len(heard) == 1
    assert not threads()
