"""`python -m sweep.sync DIR [--to URI]`: fill MLflow from a sweep's records, each cell once however often it is run."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from analysis.cli import exit_with
from analysis.errors import RecordsError
from analysis.records.coverage import COORDINATES
from analysis.records.io import read_records
from analysis.records.remote import fetch, is_remote, normalized_address, path_or_address
from datasets.errors import InputError
from sweep.config.yaml_io import from_yaml
from sweep.storage.lock import locked
from sweep.storage.run_dir import RunDir
from sweep.summarize import parent_metrics
from sweep.tracking.background import fill
from trainables.cell import Cell


def sync(where: Path | str, uri: str | None) -> str:
    """Fill the MLflow at `uri`, or the database in the folder, and say in a line what was done.

    Raises:
        InputError: no sweep's folder or address, a sweep runs there, or no MLflow at `uri`.
        RecordsError: there are no records, or one cannot be read.
    """
    run_dir = RunDir.at(normalized_address(where) if is_remote(where) else Path(where))
    if run_dir.uri:
        with locked(run_dir):
            fetch(run_dir.uri, run_dir.root)
    if not run_dir.config.exists():
        raise InputError(f"{run_dir.name}: there is no sweep.yaml, so it is no sweep's folder")
    sweep = replace(from_yaml(run_dir.config), out=run_dir.uri or run_dir.root)
    records = read_records(run_dir.root)
    # Those of the records, not of the grid: sweep.yaml may be that of a part.
    names = ("dataset", *COORDINATES, "recipe")
    cells = [Cell(**{name: row[name] for name in names}) for row in records.to_dict("records")]
    from sweep.tracking.client import TRACKING_ERRORS, connect

    server = uri or run_dir.mlflow_uri
    with locked(run_dir):
        try:
            tracking = connect(server, sweep, own=uri is None)
            filled = fill(tracking, run_dir.root, cells)
            complete = {cell.key for cell in sweep.cells()} <= set(records["key"][records["status"] == "done"])
            artifacts = [run_dir.tables, run_dir.config, run_dir.report, run_dir.figures, run_dir.summary]
            tracking.end(
                complete, parent_metrics(records, sweep.grown.level), [path for path in artifacts if path.exists()]
            )
        except TRACKING_ERRORS as error:
            raise InputError(
                f"MLflow at {server} stopped answering ({' '.join(str(error).split())[:200]}): run the same command "
                "again, it goes on"
            ) from error
    return f"MLflow at {server}: {filled} of {len(cells)} recorded cells were missing and are filled in"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry of the command line; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m sweep.sync", description=__doc__)
    parser.add_argument("folder", type=path_or_address, metavar="DIR", help="a sweep's folder, here or at s3://")
    parser.add_argument(
        "--to",
        metavar="URI",
        default=os.environ.get("MLFLOW_TRACKING_URI"),
        help="MLflow server or database (default: MLFLOW_TRACKING_URI, else the database in DIR)",
    )
    asked = parser.parse_args(argv)
    try:
        print(sync(asked.folder, asked.to))
    except (InputError, RecordsError, OSError) as error:
        print(f"sweep.sync: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    exit_with(main)
