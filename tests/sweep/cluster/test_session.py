"""Ray's start on a busy machine: a failed start is tried again, then it is one line and exit code 2."""

import os
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from datasets.errors import InputError
from sweep.backend import RayBackend
from sweep.cluster import session
from sweep.presets import preset
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
    assert "/session_latest/logs" in done.stderr
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


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"RAY_TMPDIR": "/dev/null"}, "RAY_TMPDIR decides on this place (now /dev/null)"),
        ({"RAY_TMPDIR": "", "TMPDIR": "/dev/null"}, "TMPDIR decides on this place (now /dev/null)"),
        ({"RAY_ROTATION_MAX_BYTES": "many"}, "invalid literal for int() with base 10: 'many'"),
    ],
)
def test_a_start_that_cannot_succeed_is_not_tried_again(variables, words, monkeypatch, capsys):
    """Without its folder Ray is not called; otherwise Ray itself fails, before it starts a process."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    with pytest.raises(InputError, match="Ray cannot start: ") as refusal, session.ray_session(PLAIN):
        pass
    assert words in str(refusal.value)
    assert "its files go to /" in str(refusal.value)
    assert "less busy" not in str(refusal.value)
    assert capsys.readouterr().out == ""


def test_ray_gets_the_cores_and_the_memory_that_this_process_may_use(monkeypatch):
    seen = {}
    monkeypatch.setattr(ray, "init", lambda **options: seen.update(options))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})  # as under `taskset -c 0`
        with session.ray_session(PLAIN):
            assert seen["num_cpus"] == 1
    finally:
        os.sched_setaffinity(0, before)
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1024")
    with session.ray_session(PLAIN, cores=1):
        assert seen["num_cpus"] == 1
    assert seen["_memory"] + seen["object_store_memory"] == 2**30
    assert 0 < seen["object_store_memory"] < seen["_memory"]


def test_a_sweep_hands_its_cores_and_its_folder_to_ray(monkeypatch):
    seen = {}
    monkeypatch.setattr(session, "ray_session", lambda *arguments, **more: nullcontext(seen.update(more)))
    sweep = replace(preset("vts-smoke"), cores=3, temp_dir=Path("/tmp/x"))
    with RayBackend(None).session(sweep):
        assert (seen["cores"], seen["temp_dir"]) == (3, Path("/tmp/x"))


@pytest.mark.parametrize(("visible", "counted"), [("-1", 0), ("", 0), (None, None)])
def test_ray_finds_the_gpus_itself_unless_all_are_hidden(visible, counted, monkeypatch):
    seen = {}
    monkeypatch.setattr(ray, "init", lambda **options: seen.update(options))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with session.ray_session(PLAIN):
        assert seen["num_gpus"] == counted


def test_ray_starts_nothing_that_the_callers_environment_asks_for(monkeypatch):
    """In a shell of a cluster these variables describe another Ray."""
    for name in session.OF_ANOTHER_RAY:
        monkeypatch.setenv(name, "{")  # as JSON, as an address and as a module's name it is an error
    seen = {}
    monkeypatch.setattr(ray, "init", lambda **options: seen.update(os.environ))
    with session.ray_session(PLAIN):
        assert not seen.keys() & set(session.OF_ANOTHER_RAY)
        assert ray._private.worker._maybe_modify_runtime_env({"env_vars": {}}, False) == {"env_vars": {}}


def test_workers_run_this_python_under_uv_run_and_in_a_job_of_ray():
    code = """
import json, sweep, ray
from ray._private import ray_constants, worker
from ray._private.client_mode_hook import is_client_mode_enabled
from ray._private.runtime_env import uv_runtime_env_hook
uv_runtime_env_hook._get_uv_run_cmdline = lambda: ["uv", "run", "--no-sync", "python", "-m", "sweep.run"]
ours = {"working_dir": "/ours", "env_vars": {"A": "1"}}
print(worker._maybe_modify_runtime_env(dict(ours), False) == ours, is_client_mode_enabled)
print(worker._merge_runtime_env({"working_dir": "gcs://job.zip"}, ours, override=True)["working_dir"])
import os; print(os.environ["RAY_OVERRIDE_JOB_RUNTIME_ENV"], "TUNE_RESULT_DIR" in os.environ)
"""
    asked = {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "1", "RAY_CLIENT_MODE": "1", "TUNE_RESULT_DIR": "/tmp/x"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["True", "False", "/ours", "1", "False"], done.stderr


def test_a_container_with_little_shared_memory_starts_ray(monkeypatch, tmp_path):
    """Docker gives 64 MB; on a machine with much memory Ray itself refuses that unless it is told not to."""
    from ray._private import services, utils

    monkeypatch.setattr(utils, "get_shared_memory_bytes", lambda: 64 * 2**20)
    place, *_ = services.determine_plasma_store_config(20 * 10**9, str(tmp_path), None, None)
    assert place == str(tmp_path)
