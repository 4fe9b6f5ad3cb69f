"""Ray's start on a busy machine: a failed start is tried again, then it is one line and exit code 2."""

import os
import subprocess
import sys

import pytest
import ray

from datasets.errors import InputError
from sweep.cluster import session
from sweep.signals import descendants
from tests.helpers.command import ROOT, call
from trainables.engine import PLAIN

COMMAND = """
import sys, sweep, ray
from sweep.cli import main
from sweep.signals import exit_with
start, failures = ray.init, iter(range({failures}))

def slow(**options):
    if next(failures, None) is not None:
        raise Exception("The current node timed out during startup.\\nThis could happen because ...")
    start(**options)

ray.init = slow
exit_with(main(sys.argv[1:]))
"""


@pytest.mark.slow  # what it adds to the test below is a whole sweep
def test_after_a_failed_start_ray_is_started_again_and_the_sweep_runs(tmp_path):
    words = ["vts-smoke", "--losses", "random", "--rho", "0", "--out", str(tmp_path / "out"), "--no-report"]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND.format(failures=1), *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.count("; trying again") == 1
    assert "macro F1 on test, %" in done.stdout


def failing(failures):
    """A start of Ray that fails so many times, as on a busy machine, and then starts nothing."""
    left = iter(range(failures))

    def start(**options):
        if next(left, None) is not None:
            raise Exception("The current node timed out during startup.\nThis could happen because ...")

    return start


def test_a_failed_start_is_tried_again(monkeypatch, capsys):
    monkeypatch.setattr(ray, "init", failing(session.START_TRIES - 1))
    with session.ray_session(PLAIN):
        assert capsys.readouterr().out.count("; trying again\n") == session.START_TRIES - 1


def test_ray_that_never_starts_is_one_line_and_exit_code_2(monkeypatch, tmp_path):
    monkeypatch.setattr(ray, "init", failing(99))
    done = call("vts-smoke", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stdout.count("; trying again") == session.START_TRIES - 1
    assert done.stderr.startswith("sweep.run: Ray did not start within 0 s (the load is ")
    assert f"in {session.START_TRIES} tries: The current node timed out during startup." in done.stderr
    assert "run the same command again when the machine is less busy" in done.stderr
    assert done.stderr.count("\n") == 1


def test_nothing_of_a_failed_start_is_left_running(monkeypatch, capsys):
    left = []

    def fail(**options):
        left.append(subprocess.Popen(["sh", "-c", "sleep 300 & wait"]))
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr(ray, "init", fail)
    with pytest.raises(InputError, match="Ray did not start"), session.ray_session(PLAIN):
        pass
    assert len(left) == session.START_TRIES
    assert [process.wait(10) for process in left] == [-9] * session.START_TRIES
    assert not {process.pid for process in left} & set(descendants(os.getpid()))
    assert capsys.readouterr().out.count("\n") == session.START_TRIES - 1
