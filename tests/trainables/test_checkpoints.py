"""Checkpoint files: complete or absent, verified by digest, used only by their cell, and never blocking a step."""

import errno
import os
import pickle
import threading
from pathlib import Path

import pytest
import torch

from datasets.files import write_atomically
from tests.trainables.checkpoint_states import expected, forged, state, text
from trainables import checkpoints as module
from trainables.checkpoints import Checkpoints, StoppedError, snapshot


@pytest.fixture
def said():
    return []


@pytest.fixture
def open_here(tmp_path, said):
    def opened(identity="cell", **options):
        return Checkpoints(tmp_path / "key", identity, notify=said.append, **options)

    return opened


def fill(checkpoints, *steps, stage="pretrain"):
    for step in steps:
        checkpoints.after_step(stage, step, lambda step=step: state(step))
        checkpoints.close()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_what_is_loaded(open_here, said):
    assert open_here().load() is None
    fill(open_here(every=0.0), 3)
    assert text(open_here().load()) == expected("pretrain", 3, 3)
    assert said == []


def test_the_last_two_are_kept_and_the_newest_is_loaded(open_here, tmp_path):
    one = open_here(every=0.0)
    fill(one, 8, 9, 10)
    assert names(tmp_path / "key") == ["pretrain-10.ckpt", "pretrain-9.ckpt"]
    assert text(open_here().load()) == expected("pretrain", 10, 10)  # 10 comes after 9, unlike their names
    one.finish_stage("pretrained", state(0))
    one.close()
    assert names(tmp_path / "key") == ["pretrain-10.ckpt", "pretrained-0.ckpt"]
    fill(one, 1, stage="probe")
    assert text(open_here().load()) == expected("probe", 1, 1)
    one.remove()
    assert not (tmp_path / "key").exists()


def test_a_resumed_cell_keeps_the_one_that_it_came_from(open_here, tmp_path):
    fill(open_here(every=0.0), 1, 2)
    again = open_here(every=0.0)
    assert again.load().step == 2
    fill(again, 3)
    assert names(tmp_path / "key") == ["pretrain-2.ckpt", "pretrain-3.ckpt"]


def test_the_same_step_may_be_written_again(open_here, tmp_path):
    fill(open_here(every=0.0), 1, 2)
    again = open_here(every=0.0)
    again.load()
    fill(again, 2)
    assert "pretrain-2.ckpt" in names(tmp_path / "key")
    assert text(open_here().load()) == expected("pretrain", 2, 2)


def test_nothing_is_written_before_it_is_due(open_here, tmp_path):
    made = []
    open_here(every=1e9).after_step("pretrain", 1, lambda: made.append(1) or {})
    assert made == []
    assert not (tmp_path / "key").exists()


def test_who_is_asked_to_stop_writes_and_stops(open_here, tmp_path, said):
    with pytest.raises(StoppedError):
        open_here(every=1e9, heartbeat=lambda: True).after_step("probe", 7, lambda: state(7))
    assert text(open_here().load()) == expected("probe", 7, 7)
    with pytest.raises(StoppedError):
        list(open_here(heartbeat=lambda: True).with_heartbeat([1, 2]))
    assert list(open_here().with_heartbeat([1, 2])) == [1, 2]
    with pytest.raises(StoppedError):
        Checkpoints(None, "", heartbeat=lambda: True).after_step("probe", 7, dict)
    assert said == []


class Slow:
    """A slow write, which waits for an event."""

    def __init__(self, monkeypatch):
        self.begun, self.may = threading.Event(), threading.Event()

        def slowly(path, *parts):
            self.begun.set()
            assert self.may.wait(30)
            write_atomically(path, *parts)

        monkeypatch.setattr(module, "write_atomically", slowly)


def test_training_goes_on_while_a_checkpoint_is_written(open_here, monkeypatch, tmp_path):
    slow, made = Slow(monkeypatch), []
    one = open_here(every=0.0)

    def at(step):
        made.append(step)
        return state(step)

    one.after_step("pretrain", 1, lambda: at(1))
    assert slow.begun.wait(30)
    one.after_step("pretrain", 2, lambda: at(2))  # due while the first is being written, so skipped
    assert made == [1]
    slow.may.set()
    one.close()
    one.after_step("pretrain", 3, lambda: at(3))
    one.close()
    assert names(tmp_path / "key") == ["pretrain-1.ckpt", "pretrain-3.ckpt"]


def test_a_checkpoint_holds_its_own_step_though_the_weights_move_on(open_here, monkeypatch):
    slow = Slow(monkeypatch)
    one, live = open_here(every=0.0), state(1)
    one.after_step("pretrain", 1, lambda: live)
    assert slow.begun.wait(30)
    live["weights"]["a"].add_(100)
    live["points"].append("later")
    slow.may.set()
    one.close()
    assert text(open_here().load()) == expected("pretrain", 1, 1)


def test_a_stop_waits_for_the_one_that_is_written(open_here, monkeypatch, tmp_path):
    slow, stop = Slow(monkeypatch), [False, True]
    one = open_here(every=0.0, heartbeat=lambda: stop.pop(0))
    one.after_step("pretrain", 1, lambda: state(1))
    assert slow.begun.wait(30)
    threading.Timer(0.1, slow.may.set).start()
    with pytest.raises(StoppedError):
        one.after_step("pretrain", 2, lambda: state(2))
    assert names(tmp_path / "key") == ["pretrain-1.ckpt", "pretrain-2.ckpt"]


def test_a_copy_shares_nothing():
    value = {"a": torch.zeros(2), "b": [torch.zeros(2)[None].expand(3, 2)], "c": (1, "x", None)}
    copy = snapshot(value)
    value["a"].add_(1)
    value["b"].append(2)
    assert repr(copy) == repr({"a": torch.zeros(2), "b": [torch.zeros(3, 2)], "c": (1, "x", None)})


@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("no\nmemory")])
def test_a_fault_while_writing_is_said_once_by_the_training_thread(open_here, monkeypatch, tmp_path, call, error):
    fill(open_here(every=0.0), 1)
    before = (tmp_path / "key" / "pretrain-1.ckpt").read_bytes()
    heard = []

    def fail(*rest, **options):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Path if call == "open" else os, call, fail)
        one = Checkpoints(
            tmp_path / "key",
            "cell",
            every=0.0,
            notify=lambda line: heard.append((line, threading.current_thread() is threading.main_thread())),
        )
        fill(one, 2, 3, 4)
    assert len(heard) == 1
    assert heard[0][1]
    assert "pretrain-2.ckpt cannot be written" in heard[0][0]
    assert "\n" not in heard[0][0]
    assert (tmp_path / "key" / "pretrain-1.ckpt").read_bytes() == before
    assert not any(name.startswith(".") for name in names(tmp_path / "key"))


def test_what_an_interrupted_write_left_is_swept(open_here, tmp_path, said):
    fill(open_here(every=0.0), 1)
    (tmp_path / "key" / ".pretrain-2.ckpt.1-1.part").write_bytes(b"half")
    assert open_here().load().step == 1
    assert names(tmp_path / "key") == ["pretrain-1.ckpt"]
    assert said == []


def test_files_of_other_names_are_left_alone(open_here, tmp_path):
    one = open_here(every=0.0)
    fill(one, 1)
    for name in ("notes.txt", "pretrain-x.ckpt", "other-9.ckpt", "pretrain-9.ckpt.old"):
        (tmp_path / "key" / name).write_bytes(b"mine")
    assert open_here().load().step == 1
    fill(one, 2, 3)
    assert {"notes.txt", "pretrain-x.ckpt", "other-9.ckpt", "pretrain-9.ckpt.old"} < set(names(tmp_path / "key"))


def test_a_checkpoint_of_something_else_is_said_and_removed(open_here, tmp_path, said):
    fill(open_here(every=0.0), 5)
    assert open_here("other").load() is None
    assert names(tmp_path / "key") == []
    assert "other settings, data" in said[0]


def test_one_under_another_name_is_not_used(open_here, tmp_path, said):
    fill(open_here(every=0.0), 5)
    (tmp_path / "key" / "pretrain-5.ckpt").rename(tmp_path / "key" / "probe-5.ckpt")
    assert open_here().load() is None
    assert "under another name" in said[0]


def test_a_folder_in_a_checkpoints_place_is_said(open_here, tmp_path, said):
    (tmp_path / "key" / "pretrain-5.ckpt").mkdir(parents=True)
    assert open_here().load() is None
    assert "cannot be read" in said[0]


def test_code_in_a_file_is_not_run(open_here, tmp_path, said):
    class Harmful:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "harm"),)

    (tmp_path / "key").mkdir()
    torch.save({"identity": "cell", "stage": "probe", "step": 1, "state": Harmful()}, tmp_path / "saved")
    plain = pickle.dumps({"identity": "cell", "stage": "probe", "step": 1, "state": {"x": Harmful()}})
    for payload in ((tmp_path / "saved").read_bytes(), plain, b""):
        (tmp_path / "key" / "probe-1.ckpt").write_bytes(forged(payload))
        assert open_here().load() is None
        assert not (tmp_path / "harm").exists()
        assert "contains something other than tensors" in said[-2]
        assert "\n" not in said[-2]


@pytest.mark.parametrize(
    "content", [[1], {"identity": "cell"}, {"identity": "cell", "stage": "probe", "step": "1", "state": {}}]
)
def test_a_file_that_holds_something_else_is_not_used(open_here, tmp_path, said, content):
    (tmp_path / "key").mkdir()
    torch.save(content, tmp_path / "saved")
    (tmp_path / "key" / "probe-1.ckpt").write_bytes(forged((tmp_path / "saved").read_bytes()))
    assert open_here().load() is None
    assert "does not contain the state of a cell" in said[0]
