"""Two drivers in one folder: the second is refused. A killed driver is noticed."""

import os
import signal
import subprocess
import sys

import pytest

from datasets.errors import InputError
from sweep.storage.lock import locked
from sweep.storage.run_dir import RunDir
from tests.helpers.command import ROOT, begun, call, read_until, run

HOLD = """
import sys
from pathlib import Path
from sweep.storage.run_dir import RunDir
from sweep.storage.lock import locked
with locked(RunDir(Path(sys.argv[1]))) as before:
    print(f"in; before: {before}", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "in; before: None\n"
        yield process
        process.kill()


def test_a_second_driver_is_refused_and_told_of_the_first(holder, tmp_path):
    done = call("vts-smoke", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"in use by another sweep ({os.uname().nodename}, process {holder.pid}, since 20" in done.stderr
    assert "choose another --out" in done.stderr


def test_a_driver_that_was_killed_is_noticed_and_gone_on_from(holder, tmp_path):
    folder = RunDir(tmp_path / "out")
    with pytest.raises(InputError, match="in use"), locked(folder):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with locked(folder) as before:
        assert f"process {holder.pid}, since" in str(before)
        assert f"process {os.getpid()}, since" in folder.driver.read_text()
    with locked(folder) as before:
        assert before is None


def test_one_that_ends_by_itself_leaves_nothing(holder, tmp_path):
    holder.communicate("end\n", timeout=20)
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    with locked(RunDir(tmp_path / "out")):
        (tmp_path / "out" / "kept").touch()
    assert os.listdir(tmp_path / "out") == ["kept"]


def test_a_damaged_word_of_another_driver_is_no_obstacle(tmp_path):
    folder = RunDir(tmp_path)
    folder.driver.write_bytes(b"\xff\n\x00" * 1000)
    with locked(folder) as before:
        assert before
        assert len(before) <= 200
    folder.driver.mkdir()
    with pytest.raises(InputError, match="cannot be written"), locked(folder):
        pass


@pytest.mark.slow
def test_two_sweeps_started_on_one_folder(tmp_path):
    words = ("vts-smoke", "--out", tmp_path / "out", "--workers", 1, "--losses", "random", "moco", "--seeds", 0, 1)
    with begun(*words, "--pretrain.steps", 2000) as process:
        read_until(process, "running 6")
        second = run(*words)
        assert second.returncode == 2
        assert f"process {process.pid}, since" in second.stderr
        # sync writes to the same MLflow.
        sync = [sys.executable, "-m", "sweep.sync", str(tmp_path / "out")]
        read_until(process, "test F1")
        third = subprocess.run(sync, cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert third.returncode == 2
        assert "in use by another sweep" in third.stderr
