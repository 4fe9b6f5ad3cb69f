"""Other people's readers of a folder of Parquet files, each called in its plainest way: folder -> rows."""

from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow.dataset
import pyarrow.parquet
import pytest

Rows = list[dict[str, Any]]


def with_pandas(folder: Path) -> Rows:
    frame = pd.read_parquet(folder).astype(object)
    return frame.where(frame.notna(), None).to_dict("records")


def with_pyarrow_parquet(folder: Path) -> Rows:
    return pyarrow.parquet.read_table(folder).to_pylist()


def with_pyarrow_dataset(folder: Path) -> Rows:
    return pyarrow.dataset.dataset(folder, partitioning="hive").to_table().to_pylist()


def with_duckdb(folder: Path) -> Rows:
    with duckdb.connect() as database:
        return database.sql(f"select * from '{folder}/**/*.parquet'").to_arrow_table().to_pylist()


def with_polars(folder: Path) -> Rows:
    return pytest.importorskip("polars").read_parquet(folder).to_dicts()


READERS = (with_pandas, with_pyarrow_parquet, with_pyarrow_dataset, with_duckdb, with_polars)
