"""Files of a killed driver are removed. Files that another process is writing, and files of others, stay."""

import os

import pytest

from sweep.storage.cleanup import remove_leftovers
from sweep.storage.run_dir import RunDir

NOW = 1_000_000.0


@pytest.fixture
def run_dir(tmp_path):
    return RunDir(tmp_path)


def make(path, age):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (NOW - age, NOW - age))
    return path


def test_old_drafts_go_and_nothing_else(run_dir, tmp_path):
    gone = [
        make(tmp_path / ".sweep.yaml.part", 10),
        make(tmp_path / "records" / "dataset=vts" / ".a.parquet.12345678.tmp", 10),
        make(tmp_path / "checkpoints" / "key" / ".probe-3.ckpt.1-1.part", 10),
        make(tmp_path / "records" / "logs" / ".a.tmp", 10),
    ]
    stay = [
        make(tmp_path / ".summary.parquet.12345678.tmp", -10),
        make(tmp_path / "notes.tmp", 10),
        make(tmp_path / ".lock", 10),
        make(tmp_path / "logs" / "ray" / ".x.tmp", 10),
        make(tmp_path / "checkpoints" / "key" / "probe-3.ckpt", 10),
    ]
    assert remove_leftovers(run_dir, {}, before=NOW) == 4
    assert not [path for path in gone if path.exists()]
    assert all(path.exists() for path in stay)


def test_checkpoints_of_recorded_cells_and_an_old_request_to_stop_go(run_dir):
    for key in ("done", "failed", "begun"):
        make(run_dir.cell_checkpoints(key) / "probe-3.ckpt", 10)
    make(run_dir.stop, 10)
    assert remove_leftovers(run_dir, {"done": "done", "failed": "failed"}, before=NOW) == 0
    assert run_dir.cells_with_checkpoints() == {"begun"}
    assert not run_dir.stop.exists()
    remove_leftovers(run_dir, {"begun": "done"}, before=NOW)
    assert not run_dir.checkpoints.exists()


def test_a_folder_that_is_not_there_needs_nothing(tmp_path):
    assert remove_leftovers(RunDir(tmp_path / "none"), {}, before=NOW) == 0
