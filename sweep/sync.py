"""`python -m sweep.sync DIR [--to URI]`: fill MLflow from a sweep's records. Repeated calls add no cell twice."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis.cli import exit_with, path_or_address
from analysis.errors import RecordsError
from analysis.records.coverage import COORDINATES
from analysis.records.io import read_records
from analysis.records.remote import fetch, is_remote, normalized_address
from analysis.records.schema import varied_settings
from analysis.text import without_secrets
from datasets.errors import InputError
from sweep.config.yaml_io import from_yaml
from sweep.storage.lock import locked
from sweep.storage.run_dir import RunDir
from sweep.tracking.background import fill
from sweep.tracking.connection import connect, unusable
from sweep.tracking.parent_metrics import parent_metrics
from trainables.cell import Cell


def sync(place: Path | str, uri: str | None) -> str:
    """Fill the MLflow server or database at `uri`, or the database in the folder.

    Returns:
        One line that says what was done.

    Raises:
        InputError: there is no sweep, a command runs it now, or MLflow cannot be used.
        RecordsError: there are no records, or one cannot be read.
    """
    run_dir = RunDir.at(normalized_address(place) if is_remote(place) else Path(place))
    if run_dir.uri:
        with locked(run_dir):
            fetch(run_dir.uri, run_dir.root)
    if not run_dir.config.exists():
        raise InputError(f"{run_dir.name}: there is no sweep.yaml; give the --out of a sweep")
    sweep = replace(from_yaml(run_dir.config), out=run_dir.uri or run_dir.root)
    records = read_records(run_dir.root)
    # The cells of the records, not of the grid: sweep.yaml may describe a part of them.
    names = ("dataset", *COORDINATES, "recipe")
    varied = varied_settings(records.columns)
    cells = [
        Cell(**{name: row[name] for name in names}, settings=tuple((v, row[v]) for v in varied if pd.notna(row[v])))
        for row in records.to_dict("records")
    ]
    server = uri or run_dir.mlflow_uri
    with locked(run_dir):
        tracking = connect(server, sweep, own=uri is None)
        complete = {cell.key for cell in sweep.cells()} <= set(records["key"][records["status"] == "done"])
        artifacts = [run_dir.tables, run_dir.config, run_dir.report, run_dir.figures, run_dir.summary]
        try:
            filled = fill(tracking, run_dir.root, cells)
            tracking.end(
                complete, parent_metrics(records, sweep.grown.level), [path for path in artifacts if path.exists()]
            )
        except (RecordsError, OSError):  # of the folder: MLflow's own errors are of other kinds
            raise
        except Exception as error:  # errors of MLflow, or of a database's driver
            raise unusable(server, error, own=uri is None) from error
    shown = without_secrets(server)
    return f"MLflow at {shown}: {filled} of {len(cells)} recorded cells were missing and have been added"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m sweep.sync", description=__doc__)
    parser.add_argument(
        "folder", type=path_or_address, metavar="DIR", help="a sweep's folder, or a URI such as s3://bucket/name"
    )
    parser.add_argument(
        "--to",
        metavar="URI",
        default=os.environ.get("MLFLOW_TRACKING_URI"),
        help="MLflow server or database (default: MLFLOW_TRACKING_URI, else the database in DIR)",
    )
    arguments = parser.parse_args(argv)
    try:
        print(sync(arguments.folder, arguments.to))
    except (InputError, RecordsError, OSError) as error:
        print(f"sweep.sync: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    exit_with(main)
