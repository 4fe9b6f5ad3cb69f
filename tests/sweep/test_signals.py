"""Ctrl-C and SIGTERM: how a sweep ends, what it prints, and that no process stays."""

import os
import signal
import time

import pytest

from analysis.records.io import read_records, recorded_keys
from sweep import signals
from sweep.signals import StopRequest, Terminated, descendants, sigterm_raises
from sweep.storage.run_dir import RunDir
from tests.helpers.command import begun, in_session, read_until, run, wait_for

LONG = ("--workers", 1, "--losses", "random", "moco", "--seeds", 0, 1, "--pretrain.steps", 2000)
"""A short cell, then one so long that the sweep cannot be over before a signal comes."""


def ended(process, seen, seconds):
    started = time.monotonic()
    seen += process.stdout.read()
    code = process.wait(timeout=seconds)
    assert time.monotonic() - started < seconds, seen
    wait_for(lambda: not in_session(process.pid), what=f"gone: {in_session(process.pid)}")
    assert "Traceback" not in seen
    return code, seen


def workers(session):
    return [pid for pid, name in in_session(session).items() if "ImplicitFunc" in name]


def newest(folder):
    return max(path.stat().st_mtime_ns for path in RunDir(folder).checkpoints.glob("*/*.ckpt"))


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopping") / "out"
    with begun("vts-smoke", "--out", folder, *LONG, "--checkpoint-every", 0.5) as process:
        seen = read_until(process, "test F1")
        wait_for(RunDir(folder).cells_with_checkpoints, what="a checkpoint of the second cell")
        os.killpg(process.pid, signal.SIGINT)
        return folder, *ended(process, seen, 60)


def test_ctrl_c_ends_politely_with_a_checkpoint_of_each_running_cell_and_says_how_to_go_on(interrupted):
    folder, code, seen = interrupted
    assert code == 130, seen
    assert "stopping: running cells write their checkpoints; Ctrl-C again stops at once" in seen
    assert "macro F1 on test, %" in seen
    assert "stopped, has a checkpoint" in seen
    assert "not finished" in seen
    assert "the same command runs the missing cells, from their checkpoints" in seen
    assert f" -m sweep.run vts-smoke --out {folder} --workers 1 --losses random moco" in seen
    assert len(read_records(folder)) == 1
    run_dir = RunDir(folder)
    assert len(run_dir.cells_with_checkpoints()) == 1
    assert not run_dir.cells_with_checkpoints() & set(recorded_keys(folder).status)
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]
    assert not run_dir.stop.exists()


def test_the_same_command_goes_on_from_the_checkpoint(interrupted):
    folder = interrupted[0]
    before = newest(folder)
    with begun("vts-smoke", "--out", folder, *LONG, "--checkpoint-every", 1) as process:
        seen = read_until(process, "of them from a checkpoint")
        assert "1 of 6 cells are recorded; running 5, 1 of them from a checkpoint" in seen
        wait_for(lambda: newest(folder) > before)
        # And now SIGTERM, of which the machine's owner says that it is final.
        os.kill(process.pid, signal.SIGTERM)
        code, seen = ended(process, seen, 10)
    assert code == 143, seen
    assert "SIGTERM: running cells write their checkpoints" in seen
    assert "to continue: " in seen


@pytest.mark.slow
def test_a_second_ctrl_c_stops_at_once(tmp_path):
    with begun("vts-smoke", "--out", tmp_path / "out", *LONG, "--workers", 2) as process:
        seen = read_until(process, "test F1")
        time.sleep(1)
        for worker in workers(process.pid):  # so that no cell can answer the first
            os.kill(worker, signal.SIGSTOP)
        os.kill(process.pid, signal.SIGINT)
        time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        code, seen = ended(process, seen, 12)
    assert code == 130, seen
    assert "stopped; to continue: " in seen


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_before_the_first_cell_a_signal_is_one_line(tmp_path, number, code):
    with begun("vts-smoke", "--out", tmp_path / "out") as process:
        wait_for(lambda: [name for name in in_session(process.pid).values() if "gcs_server" in name])
        os.kill(process.pid, number)
        found, seen = ended(process, "", 12)
    assert found == code, seen
    assert "sweep.run: stopped; run the same command again to continue" in seen
    assert not (tmp_path / "out" / ".driver").exists()


@pytest.mark.slow
def test_sigterm_ends_a_sweep_that_cannot_stop_politely(tmp_path):
    """Its workers are suspended, so that no cell can answer."""
    with begun("vts-smoke", "--out", tmp_path / "out", *LONG, "--workers", 2) as process:
        seen = read_until(process, "test F1")
        for worker in workers(process.pid):
            os.kill(worker, signal.SIGSTOP)
        started = time.monotonic()
        os.kill(process.pid, signal.SIGTERM)
        code, seen = ended(process, seen, 10)
        assert code == 143, seen
        assert time.monotonic() - started < 20
    assert run("vts-smoke", "--out", tmp_path / "out", "--dry-run").returncode == 0


def test_the_first_signal_asks_and_the_second_raises(tmp_path, monkeypatch):
    deadlines = []
    monkeypatch.setattr(signals, "_deadline", lambda seconds, then: deadlines.append(seconds))
    stop = StopRequest(RunDir(tmp_path))
    # In the background of a script the shell has it ignored.
    with signals._handling({signal.SIGINT: signal.default_int_handler}), stop.handling():
        assert stop.take_message() is None
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked
        assert (tmp_path / "checkpoints" / "stop").exists()
        assert "Ctrl-C again" in stop.take_message()
        assert stop.take_message() is None
        assert not stop.at_once
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.at_once
        assert deadlines == [signals.EXIT_TIME]
        assert stop.code == 130
    assert not (tmp_path / "checkpoints").exists()


def test_sigterm_has_a_deadline_for_cells_and_one_for_all_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "CHECKPOINT_TIME", 0.2)
    deadlines = []
    stop = StopRequest(RunDir(tmp_path))
    with pytest.raises(Terminated), stop.handling():  # noqa: PT012  the alarm comes while it waits
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.code == 143
        monkeypatch.setattr(signals, "_deadline", lambda seconds, then: deadlines.append(seconds))
        time.sleep(5)
    assert stop.at_once
    assert deadlines == [pytest.approx(signals.EXIT_TIME - 0.2)]


def test_what_is_ignored_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopRequest(RunDir(tmp_path)).handling():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_handlers_are_put_back(tmp_path):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with sigterm_raises(), StopRequest(RunDir(tmp_path)).handling():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_descendants_are_children_and_theirs():
    import subprocess

    with subprocess.Popen(["sh", "-c", "sleep 30 & wait"]) as process:
        wait_for(lambda: len(descendants(process.pid)) == 1)
        assert {process.pid, *descendants(process.pid)} <= set(descendants(os.getpid()))
        for child in [*descendants(process.pid), process.pid]:
            os.kill(child, signal.SIGKILL)
