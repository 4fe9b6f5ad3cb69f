"""`--shard auto`: commands share a folder. Every cell is recorded once, and the last command shows the results."""

import os
import signal

import pandas as pd
import pytest

from analysis.records.io import read_records, recorded_keys
from datasets.errors import InputError
from sweep.cli import parse
from sweep.monitor.progress import read_progress
from sweep.planning.time_limit import TimeLimit
from sweep.presets import preset
from sweep.storage import claims
from sweep.storage.claims import Claims
from tests.helpers.command import begun, call, read_until, run, wait_for
from tests.sweep.test_run import results, runs
from trainables.cell import digest

CELLS = preset("vts-smoke").cells()
GRID = digest(sorted(cell.key for cell in CELLS))
SHARE = ("vts-smoke", "--inline", "--shard", "auto", "--out")

pytestmark = pytest.mark.usefixtures("torch_settings_stay")


@pytest.fixture
def other(tmp_path, monkeypatch):
    """Another driver of `out`, which has one cell."""
    monkeypatch.setattr(claims, "RENEWED", 0.2)
    other = Claims(tmp_path / "out", GRID)
    other.enter()
    assert other.take(CELLS[2].key)
    yield other
    other.leave()


def test_each_runs_what_the_other_has_not_and_the_last_shows_the_results(fake_cells, other, tmp_path):
    tries, out = fake_cells(lambda number, tried: None), tmp_path / "out"
    first = call(*SHARE, out)
    assert first.returncode == 0, first.stdout + first.stderr
    assert tries.keys() == {cell.key for cell in CELLS} - {CELLS[2].key}
    assert "6 of 7 cells are recorded; another command has the rest" in first.stdout
    assert not (out / "summary.parquet").exists()
    assert not (out / "mlflow.db").exists()
    other.leave()
    last = call(*SHARE, out)
    assert last.returncode == 0, last.stdout + last.stderr
    assert {len(times) for times in tries.values()} == {1}
    assert len(read_records(out / "summary.parquet")) == 7
    assert len(runs(out)[1]) == 8
    assert sorted(name for name in os.listdir(out) if name.startswith((".", "progress", "checkpoints"))) == [
        "progress.json"
    ]
    progress = read_progress(out / "progress.json")
    assert (progress.driver.stage, progress.used.cells) == ("ended", 7)


def test_a_cell_that_was_taken_away_from_a_suspended_command_is_not_recorded_by_it(fake_cells, tmp_path):
    out, thief = tmp_path / "out", []

    def steal(number, tried):
        if number == 3:
            (lease,) = (out / ".shards" / "cells").iterdir()
            lease.unlink()
            thief.append(Claims(out, GRID))
            thief[0].enter()
            assert thief[0].take(lease.name)

    fake_cells(steal)
    done = call(*SHARE, out)
    assert "another command has taken it over, because this one was suspended" in done.stdout
    assert recorded_keys(out).status.keys() == {cell.key for cell in CELLS} - {CELLS[3].key}
    thief[0].leave()


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "with --shard auto: wait, stop it, add --shard auto"),
        (("--shard", "auto", "--pretrain.steps", 7), "with other cells or another recipe"),
        (("--shard", "auto", "--seeds", 0, 1), "with other cells or another recipe"),
    ],
)
def test_what_does_not_belong_to_the_others_is_refused_in_one_line_and_runs_nothing(fake_cells, tmp_path, words, said):
    tries = fake_cells(lambda number, tried: None)
    done = call("vts-smoke", "--inline", "--out", tmp_path / "out", *words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert not tries


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--out", "s3://bucket/name"), "--out s3://bucket/name is an address"),
        (("--retry-failed",), "--retry-failed runs cells again when all cells are recorded"),
        (("--until", "halfwidth(against_clean) < .1", "--seeds", "0", "1", "--max-seeds", "8"), "--until adds seeds"),
    ],
)
def test_what_needs_the_folder_for_one_command_is_refused_before_anything_runs(words, said):
    with pytest.raises(InputError) as refusal:
        parse(["vts-smoke", "--shard", "auto", *words])
    assert said in str(refusal.value)


def test_cells_that_would_end_too_late_are_left_and_the_exit_code_says_so(fake_cells, tmp_path, monkeypatch):
    tries = fake_cells(lambda number, tried: None)
    words = ("vts-smoke", "--inline", "--out", tmp_path / "out")
    assert call(*words).returncode == 0  # records tell how long a cell takes
    monkeypatch.setattr(TimeLimit, "left", -1.0)
    done = call(*words, "--seeds", 0, 1, "--time-left", 60)
    assert done.returncode == 75, done.stdout + done.stderr
    assert tries.keys() == {cell.key for cell in CELLS}
    assert "cells are left for a later command, because they would not end in time" in done.stdout
    assert "not finished" in done.stdout


@pytest.mark.slow
def test_a_command_whose_neighbour_is_killed_takes_its_cell_and_all_records_are_the_same(smoke, tmp_path):
    words = (*SHARE, tmp_path / "out", "--checkpoint-every", 0.2)
    with begun(*words) as one, begun(*words) as two:
        read_until(one, "test F1")
        wait_for(lambda: len(list((tmp_path / "out" / ".shards" / "cells").iterdir())) == 2)
        os.kill(one.pid, signal.SIGKILL)
        said = two.stdout.read()
        assert two.wait(timeout=300) == 0, said
    pd.testing.assert_frame_equal(results(tmp_path / "out"), results(smoke[0]), check_exact=True)
    assert len(read_records(tmp_path / "out" / "summary.parquet")) == 7
    assert len(runs(tmp_path / "out")[1]) == 8
    assert not (tmp_path / "out" / ".shards").exists()
    assert "nothing to run" in run("vts-smoke", "--inline", "--out", tmp_path / "out").stdout
