"""--address: mistakes are one line, our code is copied, and a sweep survives the loss of a machine."""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from datasets.errors import InputError
from sweep.cluster import join, preflight
from sweep.cluster.join import resolve_address
from sweep.cluster.machine import Machine, NoAnswer
from sweep.cluster.machine_report import ReportRequest, report_machine
from sweep.cluster.preflight import check_machines
from tests.helpers.command import begun, read_until, run, wait_for
from tests.sweep.test_survival import same

ENGINE = ("--precision", "fp32", "--engine.layout", "channels_last", "--engine.compile", "no", "--threads", 1)


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """A machine that belongs to no cluster."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("auto", "this machine belongs to no cluster"),
        ("ray://10.0.0.4:10001", "runs on a machine of the cluster"),
        ("here", "give auto, or HOST:PORT"),
        (":6379", "give auto, or HOST:PORT"),
        ("127.0.0.1:99999", "nothing answers"),
    ],
)
def test_an_address_that_cannot_be_is_refused_with_what_is_valid(alone, address, words):
    with pytest.raises(InputError, match=f"--address .*{words}"):
        resolve_address(address)


def test_a_cluster_that_is_gone_is_refused_at_once_and_so_is_what_is_none(alone, monkeypatch):
    monkeypatch.setattr(join, "HEALTH_TIMEOUT", 0.5)
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{port.getsockname()[1]}"
        with pytest.raises(InputError, match=r"nothing answers there \(Connection refused\): start the cluster"):
            resolve_address(address)
        (alone / "ray").mkdir()
        (alone / "ray/ray_current_cluster").write_text(address + "\n")
        port.listen()
        with pytest.raises(InputError, match="does not answer as a Ray head"):
            resolve_address(address)
        monkeypatch.setattr(join, "_check_is_ray", lambda address: None)
        assert resolve_address(address) == resolve_address("auto") == address


def test_the_ray_of_another_user_is_joined_only_if_it_is_named(alone, monkeypatch):
    monkeypatch.setattr(join, "_check_is_ray", lambda address: None)
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        port.listen()
        address = f"127.0.0.1:{port.getsockname()[1]}"
        (alone / "ray").mkdir()
        (alone / "ray/ray_current_cluster").write_text(address)
        assert resolve_address("auto") == address
        monkeypatch.setattr(os, "getuid", lambda: 4711)
        with pytest.raises(
            InputError, match=r"\A--address auto: the Ray on this machine belongs to another user[^\n]*\Z"
        ):
            resolve_address("auto")
        monkeypatch.setenv("RAY_ADDRESS", address)
        assert resolve_address("auto") == resolve_address(address) == address


def test_the_command_says_it_in_one_line(alone):
    done = run("vts-smoke", "--out", alone / "out", "--address", "127.0.0.1:1", env={"RAY_TMPDIR": str(alone)})
    assert done.returncode == 2
    assert done.stderr.startswith("sweep.run: --address 127.0.0.1:1: nothing answers")
    assert done.stderr.count("\n") == 1
    assert not (alone / "out" / "sweep.yaml").exists()


def test_our_packages_travel_and_nothing_else():
    with join.code_folder(()) as folder:
        assert sorted(path.name for path in folder.iterdir()) == sorted(join.PACKAGES)
        assert (folder / "analysis/report").is_dir()
        assert not list(folder.rglob("__pycache__"))
        words = [
            sys.executable,
            "-c",
            "from sweep.cluster.machine_report import ReportRequest, report_machine\n"
            "print(report_machine(ReportRequest()).datasets)",
        ]
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True)
        assert Path(done.stdout.strip()) == folder.resolve() / "datasets"
    assert not folder.exists()


@pytest.fixture
def answers(monkeypatch):
    """Name of each machine -> its made-up answer."""
    found = {}

    def asked(function, *arguments, among):
        return {name: answer(*arguments) if callable(answer) else answer for name, answer in found.items()}

    machine = Machine(id="x", name="here", cores=4, gpus=1, memory=1, accelerator="L4")
    monkeypatch.setattr(preflight, "list_machines", lambda: [machine])
    monkeypatch.setattr(preflight, "call_on_each", asked)
    return found


def other(**changes):
    return replace(report_machine(ReportRequest()), **changes)


def test_machines_that_fit_are_told_in_a_line(answers, tmp_path):
    answers["a"] = report_machine
    assert check_machines(tmp_path, [tmp_path]) == [
        "cluster: 4 cores and 1 GPUs on here; machines that join later run cells too"
    ]
    assert not list(tmp_path.iterdir())


def test_a_machine_that_is_blind_or_mute_is_said(answers, tmp_path):
    answers.update(a=lambda request: other(unreadable=request.paths[:1]), b=NoAnswer("no answer within 60 s"))
    _, mute, blind = check_machines(tmp_path, [])
    assert mute == "machine b does not answer (no answer within 60 s); cells run on the others"
    assert "is not visible to 1 of 1 machines (a)" in blind
    assert "starts again from the beginning" in blind


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            lambda request: other(unreadable=request.paths[1:]),
            "machine a of the cluster does not see /the/store: put it on a disk",
        ),
        (other(datasets="/usr/lib/python3/site-packages/datasets"), "another package named 'datasets', from /usr/lib"),
        (other(libraries={"torch": "1.0"}), r"other libraries, \{\"torch\": \"1.0\"\} instead of"),
    ],
)
def test_a_machine_that_cannot_run_cells_is_refused(answers, tmp_path, answer, words):
    answers["a"] = answer
    with pytest.raises(InputError, match=words):
        check_machines(tmp_path, [Path("/the/store")])


def test_machines_that_may_write_to_the_store_are_told_in_a_line(answers):
    answers.update(a=lambda *asked: report_machine(*asked) if len(asked) == 1 else "", b=NoAnswer("gone"))
    told, mute = check_machines("s3://bucket/name", [])
    assert told.startswith("cluster: 4 cores")
    assert mute.startswith("machine b does not answer (gone)")


def test_a_machine_that_may_not_write_to_the_store_is_refused_before_anything_runs(answers):
    def answer(*asked):
        return report_machine(*asked) if len(asked) == 1 else f"access to {asked[0]} denied"

    answers["a"] = answer
    with pytest.raises(
        InputError, match=r"1 of 1 machines cannot write there .*\(a: access to s3://bucket/name denied\)"
    ):
        check_machines("s3://bucket/name", [])


@pytest.fixture
def short_path():
    """A folder with a short name, because the paths of Ray's sockets have a maximum length."""
    with tempfile.TemporaryDirectory(prefix="np-", dir="/tmp") as place:
        yield Path(place)


@contextmanager
def cluster(place, workers):
    """A head without cores and `workers` nodes with one core each, with its files in `place`."""
    sockets = [one for one in gc.get_objects() if issubclass(type(one), socket.socket)]
    before = os.environ.get("RAY_TMPDIR")
    os.environ["RAY_TMPDIR"] = str(place)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield made, [made.add_node(num_cpus=1) for _ in range(workers)]
    finally:
        made.shutdown()
        for one in gc.get_objects():  # Ray's cluster of tests leaves open those that it has found free ports with
            if issubclass(type(one), socket.socket) and one not in sockets:
                one.close()
        if before is None:
            del os.environ["RAY_TMPDIR"]
        else:
            os.environ["RAY_TMPDIR"] = before


def raylet(node):
    return node.all_processes["raylet"][0].process


@pytest.mark.slow
def test_a_machine_is_lost_in_mid_sweep_and_the_results_are_those_of_an_undisturbed_one(tmp_path, short_path):
    words = ("vts-smoke", "--losses", "moco", "--seeds", 0, 1, "--pretrain.steps", 400, "--checkpoint-every", 0.2)
    calm, folder = tmp_path / "calm", tmp_path / "out"
    assert run(*words, *ENGINE, "--out", calm).returncode == 0
    with (
        cluster(short_path, 2) as (made, nodes),
        begun(*words, *ENGINE, "--out", folder, "--address", made.address) as process,
    ):
        seen = read_until(process, "running ")
        wait_for(lambda: len({path.parent for path in folder.glob("checkpoints/*/*.ckpt")}) == 2, what="two cells run")
        os.kill(raylet(nodes[0]).pid, signal.SIGKILL)
        seen += process.stdout.read()
        assert process.wait(timeout=60) == 0, seen
        assert raylet(nodes[1]).poll() is None, "the cluster outlives the command"
    assert "machine lost" in seen
    assert "cluster: 2 cores on " in seen
    same(folder, calm)


@pytest.mark.slow
def test_cells_wait_for_a_machine_and_go_to_it_when_it_comes(tmp_path, short_path):
    words = ("vts-smoke", "--losses", "moco", "--rho", 0, *ENGINE, "--out", tmp_path / "out")
    with cluster(short_path, 0) as (made, _), begun(*words, "--address", made.address) as process:
        read_until(process, "waiting for a machine with at least 1 cores for cells")
        made.add_node(num_cpus=1)
        seen = process.stdout.read()
        assert process.wait(timeout=60) == 0, seen


@pytest.mark.slow
def test_ctrl_c_ends_the_command_and_not_the_cluster(tmp_path, short_path):
    words = ("vts-smoke", "--pretrain.steps", 5000, "--checkpoint-every", 0.5, *ENGINE, "--out", tmp_path / "out")
    with cluster(short_path, 1) as (made, nodes), begun(*words, "--address", made.address) as process:
        read_until(process, "running ")
        wait_for(lambda: list(tmp_path.glob("out/checkpoints/*")), what="a cell runs")
        process.send_signal(signal.SIGINT)
        seen = process.stdout.read()
        assert process.wait(timeout=60) == 130, seen
        assert "running cells write their checkpoints" in seen
        assert raylet(nodes[0]).poll() is None


@pytest.mark.slow
def test_a_plan_is_measured_on_a_cluster_and_compared_with_what_it_took(tmp_path, short_path):
    words = ("vts-smoke", "--losses", "moco", "--rho", 0, "--seeds", 0, 1, *ENGINE, "--out", tmp_path / "out")
    with cluster(short_path, 2) as (made, _):
        plan = run(*words, "--address", made.address, "--plan")
        assert plan.returncode == 0, plan.stderr
        assert "cluster: 2 cores on " in plan.stdout
        assert "timing moco, 1 at a time" in plan.stdout
        assert json.loads((tmp_path / "out/plan.json").read_text())["at_once"] == 2
        done = run(*words, "--address", made.address)
    assert done.returncode == 0, done.stderr
    assert "until the last cell: forecast" in done.stdout
