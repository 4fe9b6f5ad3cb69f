import errno
import os
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.errors import RecordsError
from analysis.records.io import (
    ORDER,
    SCHEMA,
    compact,
    read_curves,
    read_records,
    recorded_keys,
    schema,
    write_curves,
    write_record,
)
from analysis.records.schema import PARTITIONS
from tests.analysis.conftest import grid


@pytest.fixture
def rows():
    return grid(1)


@pytest.fixture
def folder(one_seed, tmp_path):
    return shutil.copytree(one_seed, tmp_path / "sweep")


def as_rows(frame):
    """Rows with None for every null, sorted by key: what two readers must agree on."""
    nulled = frame.astype(object).where(frame.notna(), None)
    return sorted(nulled.to_dict("records"), key=lambda row: row["key"])


def test_round_trip(folder, rows):
    frame = read_records(folder)
    assert as_rows(frame) == sorted(rows, key=lambda row: row["key"])
    assert list(frame.columns) == list(rows[0])


def test_rows_are_sorted_by_coordinates(folder):
    frame = read_records(folder)
    found = list(frame[list(ORDER)].itertuples(index=False, name=None))
    assert found == sorted(found)


def test_place_of_a_record(tmp_path, row, classes):
    each = row()
    path = write_record(tmp_path, each, classes)
    assert path == tmp_path / f"records/dataset=vts/objective=moco/{each['key']}.parquet"
    assert os.listdir(path.parent) == [path.name]


def test_writing_again_replaces(tmp_path, row, classes):
    failed = row(status="failed")
    write_record(tmp_path, failed, classes)
    assert recorded_keys(tmp_path).status == {failed["key"]: "failed"}
    write_record(tmp_path, row(), classes)
    assert recorded_keys(tmp_path).status == {failed["key"]: "done"}
    assert len(read_records(tmp_path)) == 1


def test_the_writer_fills_in_the_schema_version(tmp_path, row, classes):
    each = row()
    del each["schema"]
    write_record(tmp_path, each, classes)
    assert read_records(tmp_path)["schema"].tolist() == [SCHEMA]


def test_files_of_a_baseline_and_of_a_full_cell_have_one_schema(tmp_path, row, classes):
    full = write_record(tmp_path, row(), classes)
    baseline = write_record(tmp_path, row("random", 0.0, 0.0, "none"), classes)
    assert pq.read_schema(full) == pq.read_schema(baseline)
    assert pq.read_schema(full).names == [name for name in schema(classes).names if name not in PARTITIONS]


def test_column_types_do_not_depend_on_content(tmp_path, row, classes):
    write_record(tmp_path / "a", row(), classes)
    write_record(tmp_path / "b", row("random", 0.0, 0.0, "none"), classes)
    pd.testing.assert_series_equal(read_records(tmp_path / "a").dtypes, read_records(tmp_path / "b").dtypes)


def test_a_mark_of_collapse_is_read_as_it_was_written_and_absent_from_older_records(tmp_path, row, classes):
    for number, mark in enumerate((True, False, None)):
        write_record(tmp_path, row("moco", 0.0, 0.0, "none", seed=number, collapsed=mark), classes)
    path = write_record(tmp_path, row("moco", 0.0, 0.0, "none", seed=3), classes)
    pq.write_table(pq.ParquetFile(path).read().drop_columns(["collapsed", "feature_std"]), path)
    read = read_records(tmp_path)
    assert read["collapsed"].dtype == "boolean"
    assert read["collapsed"].tolist() == [True, False, pd.NA, pd.NA]
    assert pd.isna(read["feature_std"].iloc[3])


def test_classes_of_several_data_sets_are_united_with_nulls(tmp_path, row):
    write_record(tmp_path, row(classes=("a", "b")), ("a", "b"))
    write_record(tmp_path, row(classes=("b", "c"), dataset="xbd"), ("b", "c"))
    frame = read_records(tmp_path)
    assert [name for name in frame if name.startswith("test_f1")] == [
        "test_f1_macro",
        "test_f1_a",
        "test_f1_b",
        "test_f1_c",
    ]
    assert frame["test_f1_a"].isna().tolist() == [False, True]
    assert frame["test_f1_c"].isna().tolist() == [True, False]
    pd.testing.assert_frame_equal(read_records(compact(tmp_path)), frame)


def test_strays_are_passed_over(folder, rows):
    place = next((folder / "records").rglob("*.parquet")).parent
    (place / ".0123.parquet.abcd.tmp").write_bytes(b"half")
    (place / ".0123.parquet").write_bytes(b"half")
    (place / "notes.txt").write_text("mine")
    assert len(read_records(folder)) == len(recorded_keys(folder).status) == len(rows)
    assert recorded_keys(folder).unreadable == ()


def test_a_full_disk_is_an_oserror_and_leaves_no_record(tmp_path, row, classes, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        write_record(tmp_path, row(), classes)
    assert recorded_keys(tmp_path).status == {}


def test_no_records_says_how_to_make_some(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RecordsError, match=r"no records in .*python -m sweep.run"):
            read_records(folder)
        with pytest.raises(RecordsError, match="no records"):
            compact(folder)
        assert recorded_keys(folder).status == {}


def test_a_cut_off_record_is_named_and_its_cell_not_counted(folder, rows):
    path = sorted((folder / "records").rglob("*.parquet"))[5]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RecordsError, match="delete it and run the same command again") as caught:
        read_records(folder)
    assert str(path) in str(caught.value)
    recorded = recorded_keys(folder)
    assert recorded.unreadable == (path,)
    assert path.stem not in recorded.status
    assert len(recorded.status) == len(rows) - 1


def test_a_cut_off_summary_is_to_be_made_again(folder):
    path = compact(folder)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RecordsError, match=r"python -m analysis\.summary"):
        read_records(path)


def test_a_foreign_parquet_file_is_no_record(folder, rows):
    foreign = folder / "records" / "mine.parquet"
    pq.write_table(pa.table({"colour": ["red"]}), foreign)
    with pytest.raises(RecordsError, match=r"mine\.parquet is not a record"):
        read_records(folder)
    assert recorded_keys(folder).unreadable == (foreign,)


def test_a_record_out_of_its_folders_says_where_it_belongs(tmp_path, row, classes):
    path = write_record(tmp_path, row(), classes)
    path.rename(tmp_path / "records" / path.name)
    with pytest.raises(RecordsError, match="lacks dataset, objective: move it back to records/dataset=NAME/objective="):
        read_records(tmp_path)


def test_a_column_of_another_type_is_no_record(tmp_path, row, classes):
    path = write_record(tmp_path, row(), classes)
    table = pq.ParquetFile(path).read()
    at = table.schema.get_field_index("rho")
    pq.write_table(table.set_column(at, "rho", pa.array(["half"])), path)
    with pytest.raises(RecordsError, match="is not a record: rho"):
        read_records(tmp_path)


def test_a_newer_schema_is_refused(tmp_path, row, classes):
    path = write_record(tmp_path, row(), classes)
    table = pq.ParquetFile(path).read()
    at = table.schema.get_field_index("schema")
    pq.write_table(table.set_column(at, "schema", pa.array([SCHEMA + 1])), path)
    for reader in (read_records, recorded_keys, compact):
        with pytest.raises(RecordsError, match="install a newer noisy-pairs"):
            reader(tmp_path)


def test_a_key_in_two_places_is_refused(folder):
    path = next((folder / "records").rglob("*.parquet"))
    copy = shutil.copy(path, path.with_name("copy.parquet"))
    for reader in (read_records, recorded_keys, compact):
        with pytest.raises(RecordsError, match="occurs twice") as caught:
            reader(folder)
        assert str(path) in str(caught.value)
        assert str(copy) in str(caught.value)


def test_compact_holds_the_same_rows_and_can_be_repeated(folder):
    path = compact(folder)
    assert path == folder / "summary.parquet"
    pd.testing.assert_frame_equal(read_records(path), read_records(folder))
    once = path.read_bytes()
    assert compact(folder).read_bytes() == once


def test_curves_round_trip(tmp_path):
    points = [("pretrain", 0, "loss", 4.2), ("pretrain", 10, "loss", 3.9), ("probe", 10, "loss", None)]
    path = write_curves(tmp_path, "b" * 16, points)
    write_curves(tmp_path, "a" * 16, iter([("probe", 5, "f1_macro", 0.5)]))
    write_curves(tmp_path, "c" * 16, [])
    assert path == tmp_path / "curves" / f"{'b' * 16}.parquet"
    frame = read_curves(tmp_path)
    assert list(frame.columns) == ["key", "stage", "step", "name", "value"]
    assert frame["key"].str[0].tolist() == ["a", "b", "b", "b"]
    assert frame["value"].fillna(-1).tolist() == [0.5, 4.2, 3.9, -1]
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "curves"), frame)


@pytest.mark.parametrize("point", [("rest", 0, "loss", 1.0), ("pretrain", "now", "loss", 1.0), ("pretrain", 0)])
def test_strange_points_are_refused(tmp_path, point):
    with pytest.raises(RecordsError, match="curves of"):
        write_curves(tmp_path, "b" * 16, [point])
    assert not (tmp_path / "curves").exists()


def test_curves_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(RecordsError, match="no curves"):
        read_curves(tmp_path)
    path = write_curves(tmp_path, "b" * 16, [("pretrain", 0, "loss", 1.0)])
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    with pytest.raises(RecordsError, match="delete it"):
        read_curves(tmp_path)
    pq.write_table(pa.table({"x": [1]}), path)
    with pytest.raises(RecordsError, match="does not hold curves"):
        read_curves(tmp_path)


def test_shares_that_were_computed_name_the_same_cell(tmp_path, row, classes):
    for seed, nu in enumerate((0.3, 0.1 + 0.2)):
        write_record(tmp_path, row(seed=seed, nu=nu), classes)
    assert read_records(tmp_path).nu.unique().tolist() == [0.3]
