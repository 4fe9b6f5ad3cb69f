"""`python -m analysis.summary DIR...`: put sweeps' records into one file, print their tables, group them.

Needs neither torch, ray nor mlflow: it works on a copy of the folders, anywhere.
"""

import argparse
import sys
from collections.abc import Sequence
from os.path import realpath
from pathlib import Path

import pandas as pd
import pyarrow as pa

from analysis.cli import add_folders, exit_with
from analysis.errors import RecordsError
from analysis.records import parquet
from analysis.records.io import compact
from analysis.records.merge import print_notes, read_sweeps
from analysis.records.remote import is_remote
from analysis.records.schema import class_columns, columns_markdown, schema
from analysis.stats.groups import group_statistics, render_groups
from analysis.tables import render

_WRITES = (".parquet", ".csv", ".txt")


def main(arguments: Sequence[str] | None = None) -> int:
    """Write and print what was asked for; returns the exit code, 2 for a user's mistake.

    One folder here and no `--by`: `DIR/summary.parquet` is written (or `--out`, a table), and tables printed. What a
    reader has to know of the records (conflicts, what was counted once, engines) goes to stderr.
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
    parser.add_argument("--out", type=Path, metavar="FILE", help=".parquet or .csv: records or groups; .txt: the text")
    parser.add_argument("--by", nargs="+", metavar="COLUMN", help="statistics for each combination of these columns")
    parser.add_argument("--metric", metavar="COLUMN", help="with --by: the score (default: the study's own)")
    parser.add_argument("--schema", action="store_true", help="print the records' columns as Markdown, and end")
    return parser


def _summarise(folders: Sequence[Path | str], out: Path | None, by: Sequence[str] | None, metric: str | None) -> str:
    """The text to print, once everything is written."""
    _check_options(folders, out, by, metric)
    writes = by is None and len(folders) == 1 and not is_remote(folders[0]) and (out is None or out.suffix == ".txt")
    if writes and Path(folders[0]).is_dir():
        folders = [compact(folders[0])]
    merged = read_sweeps(folders)
    print_notes(merged)
    if by is None:
        text = render(merged.records)
        _write(out, merged.records, text, schema(class_columns(list(merged.records.columns))))
        return text
    table = group_statistics(merged.records, by, metric=metric, level=merged.level)
    text = render_groups(table, by)
    _write(out, table, text, None)
    return text


def _check_options(
    folders: Sequence[Path | str], out: Path | None, by: Sequence[str] | None, metric: str | None
) -> None:
    if metric is not None and by is None:
        raise RecordsError("--metric is for --by: name the columns to group by too, as in --by objective rho")
    if not folders:
        raise RecordsError("no folder given: name sweeps' folders before the options, as in DIR --by objective rho")
    if out is None:
        return
    if out.suffix not in _WRITES:
        raise RecordsError(f"--out {out}: end its name in one of {', '.join(_WRITES)}")
    for folder in folders:
        if not is_remote(folder) and Path(realpath(Path(folder, "records"))) in Path(realpath(out)).parents:
            raise RecordsError(f"--out {out} would be taken for a record there: choose another folder")


def _write(out: Path | None, table: pd.DataFrame, text: str, types: pa.Schema | None) -> None:
    if out is None:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".parquet":
        whole = pa.Table.from_pandas(table, schema=types, preserve_index=False)
        parquet.write(out, whole.replace_schema_metadata(None))
    elif out.suffix == ".csv":
        parquet.write_bytes(out, table.to_csv(index=False).encode())
    else:
        parquet.write_bytes(out, f"{text}\n".encode())


if __name__ == "__main__":
    exit_with(main)
