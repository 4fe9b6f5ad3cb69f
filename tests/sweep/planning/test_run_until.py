"""`--until` through the command line: real cells, one start of Ray, an interrupted run, and the printed lines."""

import re
import signal

import pandas as pd
import pytest
import yaml

from analysis.records.io import read_records
from sweep.config.yaml_io import from_yaml
from tests.helpers.command import begun, call, read_until, run

TIMES = ["seconds", "pretrain_seconds", "probe_seconds", "images_per_second", "started"]
WORDS = ("vts-smoke", "--losses", "moco", "random", "--pairings", "noisy", "exposure", "--rho", 0, 1, "--seeds", 0, 1)
NEVER = ("--until", "halfwidth(difference) < 1e-9", "--max-seeds", 4)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("until") / "out"
    return folder, run(*WORDS, *NEVER, "--out", folder, "--workers", 2)


@pytest.mark.slow
def test_seeds_are_added_until_there_are_as_many_as_allowed(swept):
    folder, done = swept
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    records = read_records(folder)
    assert records.groupby("objective").seed.agg(["nunique", "size"]).to_dict("index") == {
        "moco": {"nunique": 4, "size": 12},
        "random": {"nunique": 4, "size": 4},
    }
    assert re.search(r"moco: half-width [\d.]+ points after 2 seeds, not below 1e-07: seed 2 is added", done.stdout)
    assert re.search(r"after 4 seeds, not below 1e-07, and --max-seeds is 4: no further seed", done.stdout)
    assert done.stdout.count("engine: ") == 1  # Ray is started once
    plan = from_yaml(folder / "sweep.yaml")
    assert plan.grown.added == {"moco": (2, 3), "random": (2, 3)}
    assert {cell.key for cell in plan.cells()} == set(records.key)


@pytest.mark.slow
def test_the_same_command_and_its_yaml_run_nothing_more(swept):
    folder, _ = swept
    for words in ((*WORDS, *NEVER, "--out", folder), ("--config", folder / "sweep.yaml")):
        again = run(*words)
        assert again.returncode == 0, again.stderr
        assert "all 16 cells are recorded already; nothing to run" in again.stdout
        assert "and --max-seeds is 4: no further seed" in again.stdout
    wide = run(*WORDS, "--until", "halfwidth(difference) < 0.9", "--max-seeds", 4, "--out", folder)
    assert "below 90: enough" in wide.stdout
    before = yaml.safe_load((folder / "sweep.yaml").read_text())["grown"]
    plain = run(*WORDS, "--out", folder)  # without --until
    assert "all 16 cells are recorded already" in plain.stdout
    assert yaml.safe_load((folder / "sweep.yaml").read_text())["grown"] == before
    assert before["level"] > 0.95


@pytest.mark.slow
def test_a_sweep_that_is_cut_off_while_it_grows_ends_as_if_it_had_not_been(swept, tmp_path):
    words = (*WORDS, *NEVER, "--out", tmp_path / "out", "--workers", 2)
    with begun(*words) as process:
        read_until(process, "seed 2 is added")
        read_until(process, "seed 2 ")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(read_records(tmp_path / "out")) < 16
    done = run(*words)
    assert done.returncode == 0, done.stderr
    there, here = (read_records(folder).drop(columns=TIMES) for folder in (swept[0], tmp_path / "out"))
    pd.testing.assert_frame_equal(there, here, check_exact=True)
    assert from_yaml(tmp_path / "out" / "sweep.yaml").grown == from_yaml(swept[0] / "sweep.yaml").grown


def test_a_mistake_is_one_line_and_nothing_is_run(tmp_path):
    done = call("vts-smoke", "--until", "halfwidth < 3", "--max-seeds", 4, "--seeds", 0, 1, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
