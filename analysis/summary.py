"""`python -m analysis.summary DIR...`: merge the records of sweeps into one file, print tables, group records.

Does not need torch, ray or mlflow, so it also works on a copy of the folders on another machine.
"""

import argparse
import sys
from collections.abc import Sequence
from os.path import realpath
from pathlib import Path

import pandas as pd
import pyarrow as pa

from analysis.cli import add_folders, exit_with, local_path
from analysis.errors import RecordsError
from analysis.records import parquet
from analysis.records.io import column_types, compact
from analysis.records.merge import print_notes, read_sweeps
from analysis.records.remote import is_remote
from analysis.records.schema import columns_markdown
from analysis.stats.groups import group_statistics, render_groups
from analysis.tables import render

_WRITES = (".parquet", ".csv", ".txt")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write and print the tables. The exit code is 2 for a user error.

    For one local folder and without `--by`, `DIR/summary.parquet` is written, too. Notes on the records (conflicts,
    duplicates, engines) go to stderr.
    """
    options = _parser().parse_intermixed_args(arguments)
    if options.schema:
        print(columns_markdown())
        return 0
    try:
        text = _summarise(options.dir, options.out, options.by, options.metric)
    except (RecordsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.summary", description=__doc__)
    add_folders(parser, nargs="*")
    parser.add_argument(
        "--out",
        type=local_path,
        metavar="FILE",
        help="write records or groups (.parquet, .csv) or the printed text (.txt)",
    )
    parser.add_argument(
        "--by", nargs="+", metavar="COLUMN", help="print statistics for each combination of these columns"
    )
    parser.add_argument(
        "--metric", metavar="COLUMN", help="the score for --by (default: accuracy for classification, else macro F1)"
    )
    parser.add_argument("--schema", action="store_true", help="print the columns of a record as Markdown and exit")
    return parser


def _summarise(folders: Sequence[Path | str], out: Path | None, by: Sequence[str] | None, metric: str | None) -> str:
    """Write the files, and return the text to print."""
    _check_options(folders, out, by, metric)
    writes = by is None and len(folders) == 1 and not is_remote(folders[0]) and (out is None or out.suffix == ".txt")
    if writes and Path(folders[0]).is_dir():
        folders = [compact(folders[0])]
    merged = read_sweeps(folders)
    print_notes(merged)
    if by is None:
        text = render(merged.records, level=merged.level)
        _write(out, merged.records, text, column_types(merged.records))
        return text
    table = group_statistics(merged.records, by, metric=metric, level=merged.level)
    text = render_groups(table)
    _write(out, table, text, None)
    return text


def _check_options(
    folders: Sequence[Path | str], out: Path | None, by: Sequence[str] | None, metric: str | None
) -> None:
    if metric is not None and by is None:
        raise RecordsError("--metric needs --by: also name the columns to group by, as in --by objective rho")
    if not folders:
        raise RecordsError("no folder given: name folders of sweeps before the options, as in DIR --by objective rho")
    if out is None:
        return
    if out.suffix not in _WRITES:
        raise RecordsError(f"--out {out}: the name must end in one of {', '.join(_WRITES)}")
    for folder in folders:
        if not is_remote(folder) and Path(realpath(Path(folder, "records"))) in Path(realpath(out)).parents:
            raise RecordsError(f"--out {out} would be read as a record in this folder: choose another folder")


def _write(out: Path | None, table: pd.DataFrame, text: str, types: pa.Schema | None) -> None:
    if out is None:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".parquet":
        parquet.write_frame(out, table, types)
    elif out.suffix == ".csv":
        parquet.write_bytes(out, table.to_csv(index=False).encode())
    else:
        parquet.write_bytes(out, f"{text}\n".encode())


if __name__ == "__main__":
    exit_with(main)
