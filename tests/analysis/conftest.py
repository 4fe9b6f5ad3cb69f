"""Synthetic records."""

import hashlib
import itertools
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from analysis.records import parquet
from analysis.records.io import COLUMNS, schema, write_record
from analysis.records.studies import Study, studies

CLASSES = ("stratified", "veined", "noise")


def made_up(
    objective: str = "moco",
    rho: float = 0.5,
    nu: float = 0.25,
    pairing: str = "noisy",
    seed: int = 0,
    f1: float | None = 0.6,
    classes: tuple[str, ...] = CLASSES,
    **changes: Any,
) -> dict[str, Any]:
    """A complete row; cells without pretraining and failed cells have the usual nulls."""
    coordinates = (changes.get("dataset", "vts"), objective, rho, nu, pairing, seed, changes.get("recipe"))
    key = hashlib.sha256(repr(coordinates).encode()).hexdigest()[:16]
    row: dict[str, Any] = dict.fromkeys(schema(classes).names)
    row |= {"key": key, "status": "done", "dataset": "vts", "objective": objective, "rho": rho, "nu": nu}
    row |= {"pairing": pairing, "seed": seed, "recipe": "00ff", "version": "0.1.0", "schema": 1}
    row |= {"started": "2026-11-01T12:00:00Z", "test_f1_macro": f1, "test_miou": 0.4, "test_accuracy": 0.7}
    row |= {f"test_f1_{name}": f1 for name in classes}
    if objective != "random":
        row |= {c.name: 2 for c in COLUMNS if c.name.startswith(("pretrain", "noisy_", "noise_"))}
        row |= {"pretrain_plateau": 4, "pretrain_floor": 1, "collapsed": False}
    if changes.get("status") == "failed":
        row |= {name: None for name in row if name.startswith("test_")} | {"error": "ValueError: no"}
    return row | changes


def grid(seeds: int = 3) -> list[dict[str, Any]]:
    """28 cells per seed: a random baseline, three losses at rho 0 and at 2 rho x 2 nu x 2 pairings."""
    rows = []
    for seed in range(seeds):
        rows.append(made_up("random", 0.0, 0.0, "none", seed, 0.41 + 0.01 * seed))
        for loss, base in {"moco": 0.55, "within_image": 0.63, "cross_image": 0.62}.items():
            rows.append(made_up(loss, 0.0, 0.0, "none", seed, base + 0.01 * seed))
            for rho, nu, pairing in itertools.product((0.25, 1.0), (0.25, 1.0), ("noisy", "exposure")):
                f1 = base + 0.01 * seed + 0.02 * rho - 0.03 * nu + (0.01 if pairing == "noisy" else 0)
                rows.append(made_up(loss, rho, nu, pairing, seed, f1))
    return rows


def write_summary(folder: Path, rows: Iterable[dict[str, Any]], classes: tuple[str, ...] = CLASSES) -> Path:
    """Write the rows as the summary.parquet of a sweep, which is faster than a file for each record."""
    return parquet.write(folder / "summary.parquet", pa.Table.from_pylist(list(rows), schema(classes)))


@pytest.fixture(scope="session")
def one_seed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of one seed; do not change it."""
    folder = tmp_path_factory.mktemp("one_seed")
    for each in grid(1):
        write_record(folder, each, CLASSES)
    return folder


@pytest.fixture
def row() -> Callable[..., dict[str, Any]]:
    return made_up


@pytest.fixture
def rows() -> list[dict[str, Any]]:
    return grid()


@pytest.fixture
def frame() -> Callable[[list[dict[str, Any]]], pd.DataFrame]:
    """Rows as `read_records` would return them, unsorted."""
    return lambda rows: pd.DataFrame(rows)


@pytest.fixture
def classes() -> tuple[str, ...]:
    return CLASSES


@pytest.fixture
def study(frame: Callable) -> Callable[[list[dict[str, Any]]], Study]:
    def only(rows: list[dict[str, Any]]) -> Study:
        (found,) = studies(frame(rows))
        return found

    return only
