"""What a killed driver leaves is taken away; what somebody is writing, or what is another's, is not."""

import os

import pytest
from sweep.storage.cell_files import Keeping

from sweep.storage.cleanup import tidy

NOW = 1_000_000.0


@pytest.fixture
def keeping(tmp_path):
    return Keeping(root=tmp_path)


def make(path, age):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (NOW - age, NOW - age))
    return path


def test_old_drafts_go_and_nothing_else(keeping, tmp_path):
    gone = [
        make(tmp_path / ".sweep.yaml.part", 10),
        make(tmp_path / "records" / "dataset=vts" / ".a.parquet.12345678.tmp", 10),
        make(tmp_path / "checkpoints" / "key" / ".probe-3.ckpt.tmp", 10),
        make(tmp_path / "records" / "logs" / ".a.tmp", 10),
    ]
    stay = [
        make(tmp_path / ".summary.parquet.12345678.tmp", -10),
        make(tmp_path / "notes.tmp", 10),
        make(tmp_path / ".lock", 10),
        make(tmp_path / "logs" / "ray" / ".x.tmp", 10),
        make(tmp_path / "checkpoints" / "key" / "probe-3.ckpt", 10),
    ]
    assert tidy(keeping, {}, before=NOW) == 4
    assert not [path for path in gone if path.exists()]
    assert all(path.exists() for path in stay)


def test_checkpoints_of_recorded_cells_and_an_old_request_to_stop_go(keeping):
    for key in ("done", "failed", "begun"):
        make(keeping.of(key) / "probe-3.ckpt", 10)
    make(keeping.stop, 10)
    assert tidy(keeping, {"done": "done", "failed": "failed"}, before=NOW) == 0
    assert keeping.begun() == {"begun"}
    assert not keeping.stop.exists()
    tidy(keeping, {"begun": "done"}, before=NOW)
    assert not keeping.checkpoints.exists()


def test_a_folder_that_is_not_there_needs_nothing(tmp_path):
    assert tidy(Keeping(root=tmp_path / "none"), {}, before=NOW) == 0
