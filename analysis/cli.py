"""Arguments and exit codes that the command lines share."""

import argparse
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from analysis.names import MARGIN
from analysis.records.remote import is_remote


def exit_with(main: Callable[[], int]) -> None:
    """Run `main` and exit with its code. If a reader of the output stops early, such as `head`, that is no error."""
    try:
        code = main()
        sys.stdout.flush()
    except OSError as error:
        # Otherwise Python flushes again at exit and prints an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0 if isinstance(error, BrokenPipeError) else 2
        if code:
            print(f"error: {error}", file=sys.stderr)
    sys.exit(code)


def add_folders(
    parser: argparse.ArgumentParser, name: str = "dir", nargs: Literal["+", "*"] | None = "+", *, metavar: str = "DIR"
) -> None:
    """Add the argument DIR: one sweep (if `nargs` is None) or several, each a path or an address."""
    text = "folder of a sweep, or its summary.parquet; a path or s3://BUCKET/NAME"
    parser.add_argument(name, nargs=nargs, type=path_or_address, metavar=metavar, help=text)


def add_margin(parser: argparse.ArgumentParser) -> None:
    """Add the argument --margin, in points."""
    parser.add_argument(
        "--margin",
        type=number_between("the margin", 0, 100),
        default=100 * MARGIN,
        metavar="POINTS",
        help='"robust" means: not worse by more than this (default: %(default)g)',
    )


def local_path(text: str) -> Path:
    """A type for `add_argument`: a file or folder. `~` is a home folder, as some shells leave it in `--out=~/x`."""
    if not text:
        raise argparse.ArgumentTypeError("is empty: give a path (. is the current folder)")
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        raise argparse.ArgumentTypeError(f"no home folder {text.partition('/')[0]} is known: write the path from / on")
    return Path(expanded)


def path_or_address(text: str) -> Path | str:
    """A type for `add_argument`. An address remains text, because a `Path` would drop one of its slashes."""
    return text if is_remote(text) else local_path(text)


def number_between(name: str, low: float, high: float) -> Callable[[str], float]:
    """A type for `add_argument`: a number strictly between `low` and `high`."""

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not low < number < high:
            raise argparse.ArgumentTypeError(f"{name} is {text!r}, use a number above {low:g} and below {high:g}")
        return number

    return parse
