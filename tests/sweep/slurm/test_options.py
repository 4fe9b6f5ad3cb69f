"""Options of sbatch, as `sweep.slurm` reads and refuses them, and the command around them."""

import stat

import pytest

from datasets.errors import InputError
from sweep.cli import parse
from sweep.slurm.__main__ import check_place, main
from sweep.slurm.options import check_options, duration, parse_options


def test_options_are_read_in_all_ways_that_sbatch_knows():
    words = ["--partition=gpu", "--time", "4:00:00", "-c", "8", "-N2", "--exclusive", "-a1-4", "--mem=4G", "-p", "new"]
    assert parse_options(words) == {
        "partition": "new",
        "time": "4:00:00",
        "cpus-per-task": "8",
        "nodes": "2",
        "exclusive": "",
        "array": "1-4",
        "mem": "4G",
    }
    assert parse_options(["--ntasks=1", "--ntasks-per-node=1"]) == {"ntasks": "1", "ntasks-per-node": "1"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("1:30", 90), ("2:00:00", 7200), ("1-12", 129600), ("1-0:30", 88200), ("UNLIMITED", float("inf"))],
)
def test_times_are_those_of_slurm(text, seconds):
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("options", "words", "said"),
    [
        (["gpu"], [], "gpu: no option of sbatch"),
        (["--wrap=ls"], [], "--wrap ls: leave it out"),
        (["--ntasks=4"], [], "--ntasks 4: leave it out"),
        (["--nodes=1-4"], [], "--nodes 1-4: give one number"),
        (["--nodes=2", "--array=1-2"], [], "--nodes and --array were both given"),
        (["--nodes=2"], ["--inline"], "--inline runs on one machine"),
        (["--nodes=2"], ["--cores", "1"], "--cores and --temp-dir are for a single machine"),
        (["--array=1-2"], ["--out", "s3://bucket/name"], "is an address: give a folder"),
        (["--array=1-2"], ["--retry-failed"], "--until and --retry-failed need all records"),
        (["--cpus-per-task=1"], ["--cores", "2"], "--cores 2 is more than --cpus-per-task=1"),
        (["--cpus-per-task=1"], ["--threads", "2"], "--threads 2 is more than --cpus-per-task=1"),
        (["--cpus-per-task=many"], [], "--cpus-per-task many: give a number"),
        (["--signal=USR1@60"], [], "--signal USR1@60: the script needs B:TERM@SECONDS"),
        (["--time=2"], [], "--time 2: the sweep ends 120 s before the job"),
        (["--time=soon"], [], "--time soon: give minutes"),
        ([], ["--plan"], "--plan and --dry-run run no cell"),
    ],
)
def test_what_contradicts_the_sweep_or_its_script_is_refused_in_one_line(options, words, said):
    with pytest.raises(InputError) as refusal:
        check_options(parse_options(options), parse(["vts-smoke", *words]))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_folder_on_a_local_disk_is_refused_if_nodes_are_other_machines(tmp_path):
    with pytest.raises(InputError, match=r"on a disk of this machine \(ext4\), which the nodes \(node1"):
        check_place(tmp_path, "ext4", ["node1", "node2"])
    for kind, elsewhere in (("ext4", []), ("nfs4", ["node1"]), ("lustre", ["node1"]), ("", ["node1"])):
        check_place(tmp_path, kind, elsewhere)
    check_place("s3://bucket/name", "ext4", ["node1"])


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Programs in the place of Slurm's: one partition `main`, on this machine."""
    refuse = 'grep -q "partition=main" || { echo "sbatch: error: invalid partition specified: nowhere" >&2; exit 1; }'
    for program, what in {
        "sinfo": 'case "$*" in *%R*) echo main;; esac',
        "scontrol": "true",
        "sbatch": f'if [ "$1" = --test-only ]; then {refuse}; else echo "Submitted batch job 7"; fi',
    }.items():
        (tmp_path / program).write_text(f"#!/bin/bash\n{what}\n")
        (tmp_path / program).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


@pytest.mark.usefixtures("slurm")
def test_the_script_is_written_and_submitted_and_a_partition_that_is_not_there_refused(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["vts-smoke", "--out", str(out), "--submit", "--", "-p", "main"]) == 0
    assert "job       7" in capsys.readouterr().out
    script = (tmp_path / "out.sbatch").read_text()
    assert "#SBATCH --partition=main\n" in script
    assert f"python -m sweep.run vts-smoke --out {out} --time-left auto" in script
    assert main(["vts-smoke", "--out", str(out), "--", "-p", "nowhere"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "sbatch refuses --partition=nowhere: invalid partition specified: nowhere; its partitions: main" in said
    assert (tmp_path / "out.sbatch").read_text() == script  # nothing is lost
    assert main(["vts-smoke", "--out", str(out), "--shard", "auto"]) == 2
    assert "--shard: leave it out" in capsys.readouterr().err


def test_without_slurm_the_script_is_written_and_not_checked(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["vts-smoke", "--out", str(tmp_path / "out")]) == 0
    assert "not checked" in capsys.readouterr().out
    assert main(["vts-smoke", "--out", str(tmp_path / "out"), "--submit"]) == 2
    assert "there is no sbatch here" in capsys.readouterr().err
