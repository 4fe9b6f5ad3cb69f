"""Checkpoints at an address: an interrupted cell resumes on another machine with the same result."""

import os
import shutil
import time

import pytest
import torch

from sweep.storage import object_store
from sweep.storage.checkpoint_sync import StopFlag, StoreMirror
from sweep.storage.run_dir import STOP, RunDir
from tests.helpers import fake_s3
from tests.helpers.command import wait_for
from tests.trainables.conftest import bank, recipe  # noqa: F401  fixtures
from tests.trainables.test_resume import MOCO, TIMES, Beat
from trainables.cell_job import CellJob
from trainables.checkpoints import Checkpoints, StoppedError
from trainables.run_cell import run_cell


@pytest.fixture(scope="module", autouse=True)
def server():
    with fake_s3.serving() as server:
        yield server


@pytest.fixture
def machine(request, tmp_path, monkeypatch):
    """Moves to another machine, which has no file of the sweep."""
    count = 0

    def moved():
        nonlocal count
        count += 1
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"machine-{count}"))
        return RunDir.at(f"s3://{fake_s3.BUCKET}/{request.node.name}")

    return moved


@pytest.fixture
def run(recipe, bank):  # noqa: F811
    """Run the cell with a machine's run_dir; returns metrics without times, points and predictions, as text."""

    def ran(run_dir, beat, every=1e9, said=None):
        points, shown, notify = [], [], ([] if said is None else said).append
        metrics = run_cell(
            MOCO,
            CellJob(recipe=recipe, source=bank),
            torch.device("cpu"),
            report=lambda *point: points.append(point),
            take_examples=shown.extend,
            checkpoints=open_here(run_dir, every=every, heartbeat=beat, notify=notify),
        )
        pictures = [(one.number, one.predicted.tobytes()) for one in shown]
        return repr(({name: value for name, value in metrics.items() if name not in TIMES}, points, pictures))

    return ran


def open_here(run_dir, **options):
    return Checkpoints(
        run_dir.cell_checkpoints(MOCO.key),
        "this",
        mirror=StoreMirror(run_dir.store, run_dir.cell_checkpoints(MOCO.key)),
        **options,
    )


def cut_everywhere(run, machine, thinned):
    beats = Beat()
    whole = run(machine(), beats)
    machine().remove_checkpoints(MOCO.key)
    for last in range(1, beats.count + 1, thinned):
        with pytest.raises(StoppedError):
            run(machine(), Beat(last))
        again, said = Beat(), []
        assert run(machine(), again, said=said) == whole
        assert said == []
        if last > beats.count / 2:  # before, a stop in an evaluation may have come ahead of the first checkpoint
            assert again.count < beats.count  # it did resume
        machine().remove_checkpoints(MOCO.key)


def test_a_cell_that_is_cut_off_goes_on_elsewhere_as_if_it_had_not_been(run, machine):
    cut_everywhere(run, machine, thinned=9)


@pytest.mark.slow
def test_a_cell_that_is_cut_off_anywhere_goes_on_elsewhere_as_if_it_had_not_been(run, machine):
    cut_everywhere(run, machine, thinned=1)


def state(number):
    return {"weights": torch.full((3,), float(number))}


def fill(checkpoints, *steps):
    for step in steps:
        checkpoints.after_step("pretrain", step, lambda step=step: state(step))
        checkpoints.close()


def test_the_last_two_are_kept_there_and_the_newest_is_loaded_elsewhere(machine):
    run_dir = machine()
    assert run_dir.cells_with_checkpoints() == set()
    fill(open_here(run_dir, every=0.0), 8, 9, 10)
    there = [f"checkpoints/{MOCO.key}/pretrain-{step}.ckpt" for step in (10, 9)]
    assert run_dir.store.names("checkpoints") == there
    assert run_dir.cells_with_checkpoints() == {MOCO.key}
    elsewhere = machine()
    one = open_here(elsewhere, every=0.0)
    assert one.load().step == 10
    fill(one, 11)
    assert elsewhere.store.names("checkpoints") == [there[0], there[0].replace("10", "11")]
    elsewhere.remove_checkpoints(MOCO.key)
    assert run_dir.cells_with_checkpoints() == set()
    assert not elsewhere.cell_checkpoints(MOCO.key).exists()


def test_one_that_is_damaged_there_is_said_and_removed_and_the_one_before_taken(machine):
    run_dir = machine()
    fill(open_here(run_dir, every=0.0), 1, 2)
    run_dir.store.write(f"checkpoints/{MOCO.key}/pretrain-2.ckpt", b"damaged")
    said = []
    assert open_here(machine(), notify=said.append).load().step == 1
    assert len(said) == 2
    assert [name[-15:] for name in run_dir.store.names("checkpoints")] == ["pretrain-1.ckpt"]


def test_what_is_here_is_not_read_again(machine):
    run_dir = machine()
    fill(open_here(run_dir, every=0.0), 1)
    path = run_dir.cell_checkpoints(MOCO.key) / "pretrain-1.ckpt"
    before = path.stat().st_ino
    assert open_here(run_dir).load().step == 1
    assert path.stat().st_ino == before
    shutil.rmtree(run_dir.cell_checkpoints(MOCO.key))
    assert open_here(run_dir).load().step == 1


def test_a_store_that_is_away_is_said_once_and_changes_nothing(run, machine, monkeypatch):
    whole = run(machine(), Beat())
    machine().remove_checkpoints(MOCO.key)
    calls = []

    def away(self, path, once):
        calls.append(path)
        raise object_store.StoreError("s3://bucket/x cannot be written: the server does not answer")

    monkeypatch.setattr(object_store.ObjectStore, "push", away)
    said = []
    run_dir = machine()
    assert run(run_dir, Beat(), every=0.0, said=said) == whole
    assert len(calls) > 2
    assert len(said) == 1
    assert "the server does not answer" in said[0]
    assert said[0].endswith("the cell continues without it")


def test_a_request_to_stop_is_seen(machine, monkeypatch):
    monkeypatch.setattr("sweep.storage.checkpoint_sync.INTERVAL", 0.0)
    run_dir = machine()
    seen = StopFlag(run_dir)
    assert not seen.now()
    assert not seen()
    time.sleep(0.2)
    assert not seen()
    run_dir.store.write(STOP, b"")
    assert seen.now()
    wait_for(seen, 5)
    seen.close()


def test_a_store_that_is_away_asks_nobody_to_stop_and_holds_nobody_up(machine, monkeypatch):
    monkeypatch.setattr("sweep.storage.checkpoint_sync.INTERVAL", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(
            object_store.ObjectStore,
            "_info",
            lambda self, name: time.sleep(1) or (_ for _ in ()).throw(OSError("away")),
        )
        seen = StopFlag(machine())
        started = time.monotonic()
        assert not any(seen() for _ in range(1000))
        assert time.monotonic() - started < 0.9
        time.sleep(1.2)
        assert not seen()
        seen.close()


def test_names_are_the_same_on_one_machine(machine):
    run_dir = machine()
    assert run_dir.stop == run_dir.root / "checkpoints" / "stop"
    assert str(run_dir.root).startswith(os.environ["XDG_CACHE_HOME"])
