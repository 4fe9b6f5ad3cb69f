import errno
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.errors import RecordsError
from analysis.records import parquet

OLD = pa.table({"x": [1]})
NEW = pa.table({"x": [2]})


def test_round_trip_and_replacement(tmp_path):
    path = parquet.write(tmp_path / "deep" / "x.parquet", OLD)
    assert parquet.read(path, remedy="") == OLD
    parquet.write(path, NEW)
    assert parquet.read(path, remedy="") == NEW
    assert os.listdir(path.parent) == ["x.parquet"]


def _half_written(table, file, **options):
    file.write(b"PAR1 and then the disk is full")
    raise OSError(errno.ENOSPC, "No space left on device")


def _refuse(*arguments):
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize(("module", "name", "failure"), [(pq, "write_table", _half_written), (os, "replace", _refuse)])
@pytest.mark.parametrize("before", [None, OLD])
def test_a_failed_write_leaves_what_was_there(tmp_path, monkeypatch, module, name, failure, before):
    path = tmp_path / "x.parquet"
    if before is not None:
        parquet.write(path, before)
    monkeypatch.setattr(module, name, failure)
    with pytest.raises(OSError, match=r"No space|Read-only"):
        parquet.write(path, NEW)
    assert parquet.files(tmp_path) == ([] if before is None else [path])
    assert before is None or parquet.read(path, remedy="") == before
    assert all(p == path for p in tmp_path.iterdir())


def test_a_draft_is_never_under_a_visible_name(tmp_path, monkeypatch):
    seen = []
    true_replace = os.replace

    def spy(source, target):
        seen.extend(os.listdir(tmp_path))
        assert parquet.files(tmp_path) == []
        true_replace(source, target)

    monkeypatch.setattr(os, "replace", spy)
    parquet.write(tmp_path / "x.parquet", NEW)
    assert len(seen) == 1
    assert seen[0].startswith(".x.parquet.")
    assert not seen[0].endswith(".parquet")


def test_every_cut_of_a_file_is_noticed(tmp_path):
    path = parquet.write(tmp_path / "x.parquet", pa.table({"x": range(50)}))
    whole = path.read_bytes()
    for length in (*range(0, len(whole), 5), *range(len(whole) - 20, len(whole))):
        path.write_bytes(whole[:length])
        with pytest.raises(RecordsError, match="do this") as caught:
            parquet.read(path, remedy="do this")
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_flipped_bit_in_the_values_is_noticed(tmp_path):
    path = parquet.write(tmp_path / "x.parquet", pa.table({"x": [1.5, 2.5]}))
    data = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset
    size = pq.ParquetFile(path).metadata.row_group(0).column(0).total_compressed_size
    data[start + size - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RecordsError):
        parquet.read(path, remedy="")


def test_an_absent_file_is_not_a_damaged_one(tmp_path):
    with pytest.raises(FileNotFoundError):
        parquet.read(tmp_path / "x.parquet", remedy="")


def test_files_are_sorted_and_hidden_ones_passed_over(tmp_path):
    for name in ("b.parquet", "a/c.parquet", ".d.parquet", "_e.parquet", ".f/g.parquet", "h.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.parquet").mkdir()
    assert parquet.files(tmp_path) == [tmp_path / "a/c.parquet", tmp_path / "b.parquet"]
    assert parquet.files(tmp_path / "absent") == []


def test_a_folder_that_may_not_be_looked_into_is_not_taken_for_an_empty_one(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: False)  # because root may read everything
    with pytest.raises(PermissionError, match="Permission denied"):
        parquet.files(tmp_path)


def test_a_file_that_a_user_named_is_replaced_whole(tmp_path):
    path = tmp_path / "new" / "report.html"
    for text in (b"old, and longer", b"new"):
        assert parquet.write_bytes(path, text) == path
        assert path.read_bytes() == text
    assert list(path.parent.iterdir()) == [path]


def test_a_link_and_a_device_are_written_to_and_not_replaced(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "file")
    parquet.write_bytes(tmp_path / "link", b"text")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"text"
    parquet.write_bytes(Path(os.devnull), b"text")
    assert not Path(os.devnull).is_file()
