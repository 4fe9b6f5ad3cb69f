"""A sweep that is killed at any point loses nothing: the same command ends with the results of an undisturbed sweep."""

import os
import signal
import time

import pandas as pd
import pytest

from analysis.records.io import read_curves, read_records, recorded_keys
from sweep.storage.run_dir import RunDir
from tests.helpers.command import begun, in_session, read_until, run, wait_for
from tests.sweep.test_run import TIMES, runs

pytestmark = pytest.mark.slow  # minutes on two cores; `make chaos` does it at length

WORDS = ("vts-smoke", "--losses", "moco", "--rho", 0, "--pretrain.steps", 400, "--checkpoint-every", 0.2)


def workers(session):
    return [pid for pid, name in in_session(session).items() if "ImplicitFunc" in name]


def busy(session):
    return [name for name in in_session(session).values() if not name.endswith("Agent")]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "out"
    assert run(*WORDS, "--out", folder).returncode == 0
    return folder


def same(folder, other):
    pd.testing.assert_frame_equal(
        read_records(folder).drop(columns=TIMES), read_records(other).drop(columns=TIMES), check_exact=True
    )
    pd.testing.assert_frame_equal(read_curves(folder), read_curves(other), check_exact=True)


def clean(folder):
    hidden = [path for path in folder.rglob(".*") if "logs" not in path.parts]
    assert not hidden
    assert not RunDir(folder).checkpoints.exists()


def test_worker_killed_worker_stopped_driver_killed(undisturbed, tmp_path):
    folder = tmp_path / "out"
    run_dir = RunDir(folder)

    def checkpoint():
        return max((path.stat().st_mtime_ns for path in run_dir.checkpoints.glob("*/*.ckpt")), default=0)

    with begun(*WORDS, "--out", folder, "--patience", 6) as process:
        read_until(process, "running 1")
        first = wait_for(checkpoint)
        (victim,) = workers(process.pid)
        os.kill(victim, signal.SIGKILL)
        second = wait_for(lambda: checkpoint() > first and checkpoint())
        (victim,) = wait_for(lambda: [pid for pid in workers(process.pid) if pid != victim])
        os.kill(victim, signal.SIGSTOP)
        read_until(process, "no report for 6 s: its worker is killed")
        wait_for(lambda: checkpoint() > second)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        # Two helpers of Ray's stay for a minute and do nothing.
        wait_for(lambda: not busy(process.pid), seconds=20, what="the driver's processes are gone")
    assert recorded_keys(folder).status == {}
    assert RunDir(folder).driver.exists()
    assert len(run_dir.cells_with_checkpoints()) == 1
    time.sleep(0.1)
    (folder / ".tables.txt.part").touch()
    os.utime(folder / ".tables.txt.part", (1, 1))
    done = run(*WORDS, "--out", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the previous command in this folder (" in done.stdout
    assert "was interrupted" in done.stdout
    assert "unfinished files of an interrupted command" in done.stdout
    assert "running 1, 1 of them from a checkpoint" in done.stdout
    same(folder, undisturbed)
    clean(folder)
    found = runs(folder)[1]
    assert len(found) == 2
    assert {run.info.status for run in found} == {"FINISHED"}


def test_a_lost_worker_is_counted_and_its_cell_goes_on(undisturbed, tmp_path):
    folder = tmp_path / "out"
    with begun(*WORDS, "--out", folder) as process:
        seen = read_until(process, "running 1")
        wait_for(lambda: list(RunDir(folder).checkpoints.glob("*/*.ckpt")))
        for worker in workers(process.pid):
            os.kill(worker, signal.SIGKILL)
        seen += process.stdout.read()
        assert process.wait(timeout=60) == 0, seen
    assert "problems: 1 x machine lost" in seen
    same(folder, undisturbed)
    clean(folder)
