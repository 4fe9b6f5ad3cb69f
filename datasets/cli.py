"""Runs the command lines of data sets. A mistake prints one line, or one for each cause, and exits with code 2."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from datasets import settings
from datasets.errors import InputError


def local_path(text: str) -> Path:
    """A type for `add_argument`: see `settings.local_path`."""
    try:
        return settings.local_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse the arguments, call the parser's default `run` with them, and return the exit code.

    Returns:
        0; 2 after a mistake of the user, without a traceback; 130 after Ctrl-C.
    """
    name = parser.prog.removeprefix("python -m ")
    args = parser.parse_args(argv)
    try:
        args.run(args)
    except (InputError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: stopped; the same command resumes", file=sys.stderr)
        return 130
    return 0
