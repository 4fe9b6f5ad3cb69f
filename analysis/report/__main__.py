"""`python -m analysis.report DIR...`: the results of sweeps in one file: verdicts, figures, tables, provenance.

The HTML page opens from disk, without network or server. Its tables can be sorted, and it can be printed. `--format md`
or `latex` writes only the tables. Does not need torch, ray or mlflow.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.cli import add_folders, add_margin, exit_with, local_path
from analysis.errors import RecordsError
from analysis.figures import draw_all
from analysis.records.merge import print_notes, read_sweeps
from analysis.records.parquet import write_bytes
from analysis.records.remote import default_folder
from analysis.report.page import ENDINGS, Format, html_page, plain_text


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report. The exit code is 2 for a user error."""
    options = _parser().parse_args(arguments)
    margin = options.margin / 100
    try:
        merged = read_sweeps(options.dir)
        out = options.out or _default_out(options.dir, options.format)
        if options.format == "html":
            text = html_page(merged, draw_all(merged.records, merged.folders), margin=margin)
        else:
            text = plain_text(merged, options.format, margin=margin)
        write_bytes(out, text.encode())
    except (RecordsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_notes(merged)
    print(out)
    return 0


def _default_out(folders: Sequence[Path | str], form: Format) -> Path:
    if len(folders) > 1:
        raise RecordsError(f"several folders: name the file for their report, as in --out report{ENDINGS[form]}")
    return default_folder(folders[0]) / f"report{ENDINGS[form]}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.report", description=__doc__)
    add_folders(parser)
    parser.add_argument(
        "--out",
        type=local_path,
        metavar="FILE",
        help="file to write (default: DIR/report.html; ./NAME/report.html for s3://BUCKET/NAME)",
    )
    parser.add_argument(
        "--format",
        choices=tuple(ENDINGS),
        default="html",
        help="HTML page, or only its tables as Markdown or LaTeX",
    )
    add_margin(parser)
    return parser


if __name__ == "__main__":
    exit_with(main)
