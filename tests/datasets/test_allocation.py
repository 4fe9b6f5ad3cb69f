"""What a process may use is the tightest of all limits, and the text names it."""

import os
import shutil
import subprocess
import sys

import pytest

from datasets import allocation as module
from datasets.allocation import allocation, usable_cores
from datasets.errors import InputError
from tests.helpers.command import ROOT, call

MB = 2**20


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine of 128 cores, all of which the process may use."""
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(128))


def tree(root, groups="", **files):
    """A root folder with `/proc/self/cgroup` and files below `/sys/fs/cgroup`; `__` in a name stands for `/`."""
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        *folders, file = name.split("__")
        place = root.joinpath("sys/fs/cgroup", *folders)
        place.mkdir(parents=True, exist_ok=True)
        (place / file.replace("_max", ".max").replace("cfs", "cpu.cfs").replace("limit", "memory.limit")).write_text(
            text
        )
    return root


def found(root, cores=0, **variables):
    return allocation(cores, root=root, environment=variables)


def test_without_a_limit_the_whole_machine_may_be_used_and_nothing_is_said(tmp_path):
    usable = found(tmp_path)  # a system without control groups
    assert (usable.cores.amount, usable.cores.total) == (128, 128)
    assert usable.memory.amount == usable.memory.total > 0
    assert usable.limits == ""


def test_the_affinity_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(4))
    assert found(tmp_path).limits == "4 cores of 128: affinity"


V1 = "5:memory:/slurm/job_7/step_0\n4:cpu,cpuacct:/slurm/job_7/step_0\n0::/init.scope\n"


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        # version 2: the process's own group, one above it, the outermost as in a container, and none with a quota
        ("0::/a/b\n", {"a__b__cpu_max": "400000 100000\n"}, 4),
        ("0::/a/b\n", {"a__cpu_max": "600000 100000\n", "a__b__cpu_max": "max 100000\n"}, 6),
        ("0::/a/b\n", {"a__cpu_max": "200000 100000\n", "a__b__cpu_max": "700000 100000\n"}, 2),
        ("0::/\n", {"cpu_max": "150000 100000\n"}, 2),
        ("0::/docker/far\n", {"cpu_max": "300000 100000\n"}, 3),
        ("0::/../../elsewhere\n", {"cpu_max": "300000 100000\n"}, 3),
        ("0::/a\n", {"a__cpu_max": "max 100000\n"}, 128),
        ("0::/a\n", {"a__cpu_max": "damaged\n"}, 128),
        # version 1
        (
            V1,
            {"cpu,cpuacct__slurm__job_7__cfs_quota_us": "500000", "cpu,cpuacct__slurm__job_7__cfs_period_us": "100000"},
            5,
        ),
        (V1, {"cpu__slurm__job_7__cfs_quota_us": "50000", "cpu__slurm__job_7__cfs_period_us": "100000"}, 1),
        (V1, {"cpu__cfs_quota_us": "-1", "cpu__cfs_period_us": "100000"}, 128),
    ],
)
def test_the_tightest_quota_of_all_groups_around_the_process_counts(groups, files, cores, tmp_path):
    usable = found(tree(tmp_path, groups, **files))
    assert usable.cores.amount == cores
    assert ("quota of the control group" in usable.limits) == (cores < 128)


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        ("0::/a/b\n", {"a__memory_max": f"{512 * MB}\n", "a__b__memory_max": "max\n"}),
        (V1, {"memory__slurm__job_7__limit_in_bytes": f"{512 * MB}", "memory__limit_in_bytes": f"{2**63 - 4096}"}),
    ],
)
def test_memory_is_limited_by_a_group_or_by_the_queue(groups, files, tmp_path):
    root = tree(tmp_path, groups, **files)
    assert found(root).memory.amount == 512 * MB
    assert ": limit of the control group" in found(root).limits
    less = found(root, SLURM_MEM_PER_NODE="256")
    assert (less.memory.amount, less.memory.reason) == (256 * MB, "SLURM_MEM_PER_NODE")
    assert found(root, SLURM_MEM_PER_NODE="0").memory.amount == 512 * MB  # Slurm's word for all memory of the node
    each = found(root, SLURM_MEM_PER_CPU="64", SLURM_CPUS_ON_NODE="3")
    assert (each.memory.amount, each.memory.reason) == (192 * MB, "SLURM_MEM_PER_CPU")


def test_what_a_queue_gives_a_task_counts_and_otherwise_what_it_gives_on_the_node(tmp_path):
    assert (
        found(tmp_path, SLURM_CPUS_ON_NODE="16", SLURM_CPUS_PER_TASK="8").limits
        == "8 cores of 128: SLURM_CPUS_PER_TASK"
    )
    assert found(tmp_path, SLURM_CPUS_ON_NODE="16").limits == "16 cores of 128: SLURM_CPUS_ON_NODE"
    assert found(tmp_path, SLURM_CPUS_ON_NODE="many").limits == ""


def test_threads_of_openmp_are_an_upper_bound_that_cores_replaces(tmp_path):
    assert found(tmp_path, OMP_NUM_THREADS="3,2").limits == "3 cores of 128: OMP_NUM_THREADS"
    assert found(tmp_path, OMP_NUM_THREADS="256").limits == ""
    assert found(tmp_path, OMP_NUM_THREADS="0").limits == ""
    assert found(tmp_path, 6, OMP_NUM_THREADS="3").limits == "6 cores of 128: --cores"
    in_a_worker = {"OMP_NUM_THREADS": "1", module.RAY_WORKER: "77"}
    assert found(tmp_path, **in_a_worker).limits == ""


def test_more_cores_than_may_be_used_are_refused_with_the_reason(tmp_path):
    assert found(tmp_path, 1).limits == "1 core of 128: --cores"
    assert found(tmp_path, 8, SLURM_CPUS_PER_TASK="8").limits == "8 cores of 128: SLURM_CPUS_PER_TASK"
    words = (
        r"\A--cores 9: this process may use 8 of the machine's 128 cores: SLURM_CPUS_PER_TASK; give at most 8[^\n]*\Z"
    )
    with pytest.raises(InputError, match=words):
        found(tmp_path, 9, SLURM_CPUS_PER_TASK="8")


@pytest.mark.parametrize(
    ("named", "amount"),
    [(None, 4), ("2", 1), ("0,1", 2), ("GPU-8f2e,GPU-11aa", 2), ("", 0), ("-1", 0), ("1,-1,2", 1), ("NoDevFiles", 0)],
)
def test_only_gpus_that_are_visible_may_be_used(named, amount, tmp_path):
    for number in range(4):
        (tmp_path / f"proc/driver/nvidia/gpus/0000:0{number}:00.0").mkdir(parents=True)
    usable = found(tmp_path, **({} if named is None else {"CUDA_VISIBLE_DEVICES": named}))
    assert usable.gpus.amount == amount
    text = f"{amount} GPU{'s' * (amount != 1)} of 4: CUDA_VISIBLE_DEVICES"
    assert usable.limits == ("" if named is None else text)


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
class TestOnThisMachine:
    """With the kernel's word instead of a made-up one."""

    @pytest.fixture(autouse=True)
    def real(self, machine, monkeypatch):
        monkeypatch.undo()
        for name in list(os.environ):
            if name.startswith(("SLURM_", "OMP_")):
                monkeypatch.delenv(name)

    def test_a_sweep_says_what_it_may_use_and_refuses_more(self, tmp_path):
        before = os.sched_getaffinity(0)
        words = ("vts-smoke", "--dry-run", "--out", tmp_path / "out")
        try:
            os.sched_setaffinity(0, {min(before)})
            assert usable_cores() == 1
            assert f"using 1 core of {os.cpu_count()}: affinity" in call(*words).stdout
            refused = [call(*words, *more) for more in (("--cores", 2), ("--threads", 2))]
        finally:
            os.sched_setaffinity(0, before)
        assert [(done.returncode, done.stderr.count("\n")) for done in refused] == [(2, 1)] * 2
        assert "--cores 2: this process may use 1 of the machine's " in refused[0].stderr
        assert "--threads 2: a cell cannot use more than the 1 core of this machine that may be used (affinity)" in (
            refused[1].stderr
        )

    @pytest.mark.skipif(not shutil.which("taskset"), reason="needs taskset")
    def test_under_taskset_too(self, tmp_path):
        core = str(min(os.sched_getaffinity(0)))
        words = ["vts-smoke", "--dry-run", "--out", str(tmp_path / "out")]
        done = subprocess.run(
            ["taskset", "-c", core, sys.executable, "-m", "sweep.run", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        assert f"using 1 core of {os.cpu_count()}: affinity" in done.stdout

    def test_cores_of_a_cluster_are_not_ours_to_choose(self, tmp_path):
        done = call("vts-smoke", "--dry-run", "--cores", 1, "--address", "auto", "--out", tmp_path / "out")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "--cores 1 is for a Ray that this command starts: with --address each machine has what" in done.stderr
