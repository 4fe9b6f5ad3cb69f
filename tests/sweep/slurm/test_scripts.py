"""Scripts for Slurm do what they say, with programs in place of Slurm and of the sweep; the docs show them."""

import os
import re
import signal
import stat
import subprocess
import time

import pytest

from sweep.slurm.script import Place, render
from tests.helpers.command import ROOT, wait_for

PLACE = Place(folder="/home/me/noisy-pairs", bin="/home/me/noisy-pairs/.venv/bin", script="/home/me/noisy-pairs/NAME")
TEMPLATES = {
    "one node": {"partition": "gpu", "gpus": "1", "cpus-per-task": "8", "time": "4:00:00"},
    "several nodes": {"partition": "gpu", "nodes": "4", "gpus-per-node": "1", "cpus-per-task": "8", "time": "4:00:00"},
    "an array": {"partition": "short", "array": "1-16", "cpus-per-task": "4", "time": "1:00:00"},
}


def template(name):
    """The script of this name in docs/slurm.md."""
    place = Place(folder=PLACE.folder, bin=PLACE.bin, script=f"{PLACE.folder}/results/vts-quick.sbatch")
    return render(["vts-quick"], "results/vts-quick", TEMPLATES[name], place)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_docs_show_the_script_and_the_shell_understands_it(name):
    shown = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", (ROOT / "docs" / "slurm.md").read_text(), re.DOTALL)
    assert template(name) in shown
    assert subprocess.run(["bash", "-n"], input=template(name), text=True).returncode == 0


@pytest.fixture
def job(tmp_path):
    """Run a script where `python`, `squeue`, `scontrol` and `srun` are these shell commands; returns its process."""

    def begin(python, *, state="RUNNING", options=None, sees=True, **environment):
        for program, what in {
            "python": python,
            "squeue": f"echo {state}",
            "scontrol": f'echo "$@" >> {tmp_path}/asked',
            "srun": 'while [[ "$1" == --* ]]; do shift; done; exec "$@"',
        }.items():
            (tmp_path / program).write_text(f"#!/bin/bash\n{what}\n")
            (tmp_path / program).chmod(stat.S_IRWXU)
        script = tmp_path / "out.sbatch"
        place = Place(folder=str(tmp_path), bin=str(tmp_path), script=str(script))
        script.write_text(render(["vts-smoke"], str(tmp_path / "out"), options or {}, place))
        text = script.read_text()
        if not sees:
            script.unlink()
        return subprocess.Popen(
            ["bash", "-c", text],
            env={"PATH": os.environ["PATH"], "SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return begin


def asked(tmp_path):
    place = tmp_path / "asked"
    return place.read_text() if place.exists() else ""


@pytest.mark.parametrize(
    ("code", "state", "again"),
    [(0, "RUNNING", ""), (1, "RUNNING", ""), (2, "RUNNING", ""), (75, "RUNNING", "requeue 7\n"),
     (143, "RUNNING", "requeue 7\n"), (143, "COMPLETING", "")],
)  # fmt: skip
def test_only_a_sweep_that_is_to_go_on_and_was_not_cancelled_is_put_back(job, tmp_path, code, state, again):
    with job(f"exit {code}", state=state) as process:
        assert process.wait(20) == code
    assert asked(tmp_path) == again


def test_sigterm_reaches_the_sweep_whose_end_the_script_awaits(job, tmp_path):
    end = f"trap 'sleep 0.5; touch {tmp_path}/saved; exit 143' TERM"
    busy = f"{end}; touch {tmp_path}/ready; while :; do sleep 0.1; done"
    with job(busy) as process:
        wait_for((tmp_path / "ready").exists, 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    assert (tmp_path / "saved").exists()
    assert asked(tmp_path) == "requeue 7\n"


def test_a_task_of_an_array_puts_only_itself_back_and_shares_the_folder(job, tmp_path):
    array = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    with job('echo "$@"; exit 75', options={"array": "1-4"}, **array) as process:
        said = process.stdout.read()
    assert "--time-left auto --shard auto --temp-dir /tmp/np-7" in said
    assert asked(tmp_path) == "requeue 7_3\n"


def test_without_requeue_nothing_is_put_back(job, tmp_path):
    with job("exit 143", options={"no-requeue": ""}) as process:
        assert process.wait(20) == 143
    assert asked(tmp_path) == ""


@pytest.mark.parametrize("options", [{}, {"nodes": "2"}])
def test_a_node_that_does_not_see_the_folder_ends_the_job_in_one_line(job, tmp_path, options):
    with job(f"touch {tmp_path}/begun", options=options, sees=False) as process:
        said = process.stdout.read()
        assert process.wait(20) == 2
    assert said.count("\n") == 1
    assert f"not every node sees the folder of {tmp_path}/out" in said
    assert not (tmp_path / "begun").exists()


def test_on_several_nodes_the_sweep_joins_the_ray_of_the_job_and_ends_it(job, tmp_path):
    """`ray` listens, as its head does, and notes how it was started."""
    ray = tmp_path / "ray"
    listen = "import os, socket, sys, time; s = socket.create_server(('', int(os.environ['port']))); time.sleep(60)"
    ray.write_text(f'#!/bin/bash\necho "$@" > {tmp_path}/started\nexec /usr/bin/env python3 -c "{listen}"\n')
    ray.chmod(stat.S_IRWXU)
    began = time.monotonic()
    with job('[ -n "$RAY_AUTH_TOKEN" ] && echo "$@"', options={"nodes": "2"}, SLURM_NODEID="0") as process:
        said = process.stdout.read()
        assert process.wait(30) == 0
    assert time.monotonic() - began < 50
    assert re.search(r"--time-left auto --address \S+:20007$", said.strip())
    assert "--head --port=20007 --include-dashboard=false" in (tmp_path / "started").read_text()
