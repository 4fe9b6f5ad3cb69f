"""Tools of others read the folders of a sweep without advice, and we read folders of older versions."""

import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from analysis.records.io import compact, read_curves, read_records, recorded_keys, write_curves
from analysis.records.parquet import files
from analysis.records.predictions import PREDICTIONS, Prediction, write_predictions
from analysis.records.schema import PARTITIONS
from tests.analysis.conftest import grid
from tests.helpers.readers import READERS, with_pyarrow_dataset

KEYS = ("a" * 16, "b" * 16)


def by_key(rows):
    return sorted(rows, key=lambda row: row["key"])


@pytest.fixture
def folder(one_seed, tmp_path):
    return shutil.copytree(one_seed, tmp_path / "sweep")


def made_by_an_older_version(paths):
    """Until November 2026 the partition columns were in the files, as dictionaries."""
    for path in paths:
        table = pq.ParquetFile(path).read()
        for name in PARTITIONS:
            (value,) = (part.split("=")[1] for part in path.parts if part.startswith(f"{name}="))
            table = table.append_column(name, pa.array([value]).dictionary_encode())
        pq.write_table(table, path)


@pytest.mark.parametrize("read", READERS)
def test_each_reader_finds_every_record_and_column(one_seed, read):
    assert by_key(read(one_seed / "records")) == by_key(grid(1))


@pytest.mark.parametrize("read", READERS)
def test_each_reader_reads_curves_and_predictions(tmp_path, read):
    image, labels = np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), np.uint8)
    for key in KEYS:
        write_curves(tmp_path, key, [("pretrain", 10, "loss", 3.9), ("probe", 10, "loss", None)])
        write_predictions(tmp_path, key, [Prediction(key=key, number=0, image=image, truth=labels, predicted=labels)])
    points = [{"stage": "pretrain", "step": 10, "name": "loss", "value": 3.9}]
    points.append({"stage": "probe", "step": 10, "name": "loss", "value": None})
    assert by_key(read(tmp_path / "curves")) == [{"key": key, **point} for key in KEYS for point in points]
    pictures = by_key(read(tmp_path / "predictions"))
    assert [(row["key"], row["truth"]) for row in pictures] == [(key, bytes(labels)) for key in KEYS]
    assert all(list(row) == PREDICTIONS.names for row in pictures)


def test_the_folders_follow_the_convention_of_spark(folder):
    """Spark takes partition columns from folder names. It passes over names with `_` or `.`, and takes one schema."""
    (folder / "records" / ".half.tmp").write_bytes(b"")
    paths = files(folder / "records")
    assert len(paths) == len(grid(1))
    for path in paths:
        names = [part.split("=")[0] for part in path.relative_to(folder / "records").parent.parts]
        assert names == list(PARTITIONS)
        assert not set(names) & set(pq.read_schema(path).names)
    assert len({str(pq.read_schema(path)) for path in paths}) == 1


@pytest.mark.parametrize("older", [slice(None), slice(0, None, 2), slice(1, None, 2)])
def test_records_of_an_older_version_are_read_alone_and_among_new_ones(folder, one_seed, older):
    made_by_an_older_version(files(folder / "records")[older])
    assert recorded_keys(folder) == recorded_keys(one_seed)
    pd.testing.assert_frame_equal(read_records(folder), read_records(one_seed))
    assert compact(folder).read_bytes() == compact(shutil.copytree(one_seed, folder.with_name("new"))).read_bytes()


@pytest.mark.parametrize("read", [read for read in READERS if read is not with_pyarrow_dataset])
@pytest.mark.parametrize("older", [slice(0, None, 2), slice(1, None, 2)])
def test_most_readers_read_old_records_among_new_ones(folder, read, older):
    made_by_an_older_version(files(folder / "records")[older])
    assert by_key(read(folder / "records")) == by_key(grid(1))


def test_the_records_of_one_loss_are_selected_by_their_folder(one_seed):
    moco = [row for row in grid(1) if row["objective"] == "moco"]
    assert by_key(pq.read_table(one_seed / "records", filters=[("objective", "=", "moco")]).to_pylist()) == by_key(moco)


def test_pandas_reads_curves_in_our_order(tmp_path):
    for key in reversed(KEYS):
        write_curves(tmp_path, key, [("pretrain", 10, "loss", 3.9), ("pretrain", 20, "loss", 3.1)])
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "curves"), read_curves(tmp_path))
