"""Records changed by other tools, other versions or by hand are read, or rejected in one line."""

import shutil

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.errors import RecordsError
from analysis.records import parquet
from analysis.records.io import compact, read_records, recorded_keys, write_record
from analysis.records.schema import schema
from analysis.summary import main
from analysis.tables import render


@pytest.fixture
def folder(one_seed, tmp_path):
    return shutil.copytree(one_seed, tmp_path / "sweep")


def summary_of(rows, path):
    return parquet.write(path, pa.Table.from_pylist(rows, schema(("stratified", "veined", "noise"))))


def altered(path, name, values):
    table = pq.ParquetFile(path).read()
    at = table.schema.get_field_index(name)
    pq.write_table(table.set_column(at, name, values), path)
    return path


@pytest.mark.parametrize("tool", ["duckdb", "pandas"])
def test_a_hive_layout_by_other_tools_is_read(folder, tmp_path, tool):
    summary, place = compact(folder), tmp_path / "theirs" / "records"
    place.parent.mkdir()
    if tool == "duckdb":
        with duckdb.connect() as database:
            database.sql(f"COPY '{summary}' TO '{place}' (FORMAT parquet, PARTITION_BY (dataset, objective))")
    else:
        pd.read_parquet(summary).to_parquet(place, partition_cols=["dataset", "objective"])
    files = parquet.files(place)
    assert "objective" not in pq.ParquetFile(files[0]).schema.names
    pd.testing.assert_frame_equal(read_records(place.parent), read_records(folder))


def test_a_summary_that_pandas_wrote_is_read(folder, tmp_path):
    theirs = tmp_path / "theirs.parquet"
    read_records(folder).to_parquet(theirs)
    pd.testing.assert_frame_equal(read_records(theirs), read_records(folder))


def test_the_order_of_a_summary_does_not_matter(folder, tmp_path):
    theirs = tmp_path / "theirs.parquet"
    pd.read_parquet(compact(folder)).sample(frac=1, random_state=0).to_parquet(theirs, index=False)
    pd.testing.assert_frame_equal(read_records(theirs), read_records(folder))


@pytest.mark.parametrize("version", [0, -1, None])
def test_a_schema_that_never_was_is_refused(tmp_path, row, version):
    path = altered(summary_of([row()], tmp_path / "a.parquet"), "schema", pa.array([version]))
    with pytest.raises(RecordsError, match=f"schema {version}, which no version of noisy-pairs has written"):
        read_records(path)


def test_a_schema_that_is_no_number_is_refused(tmp_path, row):
    path = altered(summary_of([row()], tmp_path / "a.parquet"), "schema", pa.array(["one"]))
    with pytest.raises(RecordsError, match="is not a record: schema is string: move it elsewhere"):
        read_records(path)


def test_a_schema_that_never_was_is_refused_before_a_sweep_goes_on(tmp_path, row, classes):
    altered(write_record(tmp_path, row(), classes), "schema", pa.array([0]))
    for reader in (read_records, recorded_keys, compact):
        with pytest.raises(RecordsError, match="no version"):
            reader(tmp_path)


def test_a_column_added_later_is_null_in_older_records(tmp_path, row):
    path = summary_of([row()], tmp_path / "a.parquet")
    pq.write_table(pq.ParquetFile(path).read().drop_columns(["task", "val_f1_macro", "threads"]), path)
    records = read_records(path)
    assert list(records.columns) == list(row())
    assert records[["task", "val_f1_macro", "threads"]].isna().all(axis=None)
    assert "macro F1 on test" in render(records)


@pytest.mark.parametrize("name", ["seed", "rho", "recipe", "status"])
def test_null_where_a_record_must_have_a_value_is_refused(tmp_path, row, name):
    table = pa.table({**{n: [v] for n, v in row().items()}, name: [float("nan") if name == "rho" else None]})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(RecordsError, match=rf"a\.parquet is not a record, it has null in {name}"):
        read_records(tmp_path / "a.parquet")


@pytest.mark.parametrize(("name", "value"), [("pairing", "both"), ("status", "running"), ("objective", "../x")])
def test_values_that_do_not_exist_are_named(tmp_path, row, name, value):
    path = summary_of([row(**{name: value})], tmp_path / "a.parquet")
    with pytest.raises(RecordsError, match=f"has {name} '{value}', which this version does not know"):
        read_records(path)


def test_two_columns_of_one_name_are_refused(tmp_path, row):
    table = pa.Table.from_pylist([row()])
    pq.write_table(table.append_column("rho", table["rho"]), tmp_path / "a.parquet")
    with pytest.raises(RecordsError, match="two columns with one name"):
        read_records(tmp_path / "a.parquet")


def test_no_rows_are_no_records(tmp_path):
    with pytest.raises(RecordsError, match="no records in"):
        read_records(summary_of([], tmp_path / "a.parquet"))


def test_a_folder_of_which_only_the_summary_was_copied_is_read_and_left_as_it_is(folder, tmp_path):
    copy = parquet.write_bytes(tmp_path / "copy" / "summary.parquet", compact(folder).read_bytes())
    once = copy.stat()
    pd.testing.assert_frame_equal(read_records(copy.parent), read_records(folder))
    assert recorded_keys(copy.parent) == recorded_keys(folder)
    assert compact(copy.parent) == copy
    assert copy.stat() == once
    (copy.parent / "records").mkdir()  # as in the copy of an address
    pd.testing.assert_frame_equal(read_records(copy.parent), read_records(folder))


def test_a_key_twice_in_a_summary_is_two_studies_or_refused(tmp_path, row, classes):
    joined = summary_of([row(data="aa"), row(data="bb"), row(data=None)], tmp_path / "a.parquet")
    assert sorted(read_records(joined)["data"].dropna()) == ["aa", "bb"]
    for data in ("aa", None):
        twice = summary_of([row(data=data), row(seed=1), row(data=data)], tmp_path / "b.parquet")
        with pytest.raises(RecordsError, match=f"the key {row()['key']} occurs twice, in .*b.parquet: delete"):
            read_records(twice)
    # The folder of a sweep has one set of data.
    path = write_record(tmp_path, row(data="aa"), classes)
    summary_of([row(data="bb")], path.with_name("other.parquet"))
    with pytest.raises(RecordsError, match="occurs twice"):
        read_records(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not parquet", b"PAR1PAR1"])
def test_no_parquet_at_all_is_one_line(tmp_path, capsys, content):
    (tmp_path / "a.parquet").write_bytes(content)
    assert main([str(tmp_path / "a.parquet")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_done_without_a_score_is_said(row, frame):
    text = render(frame([row(), row(seed=1, test_f1_macro=None)]))
    assert "1 of 2 cells are done without test_f1_macro and not in the tables" in text


def test_every_odd_sweep_is_summarised(tmp_path, row, capsys):
    """One seed, one pairing, no rho 0, no baseline, only failures, NaN: all have tables and groups."""
    sweeps = {
        "one cell": [row()],
        "failures": [row(seed=seed, status="failed") for seed in range(2)],
        "no noise": [row("moco", 0.0, 0.0, "none")],
        "baseline": [row("random", 0.0, 0.0, "none", f1=None)],
        "no number": [row(f1=float("nan"))],
        "unknown loss": [row("mine"), row("mine", pairing="exposure")],
        "half old": [row(task=None), row(task="classification", seed=1)],
    }
    for name, rows in sweeps.items():
        path = summary_of(rows, tmp_path / f"{name}.parquet")
        for options in ([], ["--by", "objective", "pairing"]):
            assert main([str(path), *options]) == 0, name
            assert rows[0]["objective"] in capsys.readouterr().out
