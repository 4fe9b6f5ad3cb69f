"""What the command lines share: arguments, and how they exit."""

import argparse
import math
import os
import sys
from collections.abc import Callable
from typing import Literal

from analysis.records.remote import path_or_address


def exit_with(main: Callable[[], int]) -> None:
    """Run `main` and exit with its code. A reader of the output that stops early, such as `head`, is no error."""
    try:
        code = main()
        sys.stdout.flush()
    except OSError as error:
        # Python would try to flush again as it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0 if isinstance(error, BrokenPipeError) else 2
        if code:
            print(f"error: {error}", file=sys.stderr)
    sys.exit(code)


def add_folders(
    parser: argparse.ArgumentParser, name: str = "dir", nargs: Literal["+", "*"] | None = "+", *, metavar: str = "DIR"
) -> None:
    """Add the argument DIR: one or several sweeps (one where `nargs` is None), each a path or an address."""
    text = "a sweep's folder or its summary.parquet, here or at s3://"
    parser.add_argument(name, nargs=nargs, type=path_or_address, metavar=metavar, help=text)


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
