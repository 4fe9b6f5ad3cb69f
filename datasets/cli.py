"""Runs the command lines of data sets. A mistake prints one line, or one for each cause, and exits with code 2."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from datasets import namesake as namesake  # here too, because another project may have replaced `__init__.py`
from datasets import settings
from datasets.errors import InputError
from datasets.misregistration import AMOUNTS, Misregistration


def local_path(text: str) -> Path:
    """A type for `add_argument`: see `settings.local_path`."""
    try:
        return settings.local_path(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def picture(text: str) -> Path:
    """A type for `add_argument`: a picture to write. Its ending is the format; matplotlib would add one in silence."""
    path = local_path(text)
    if path.is_dir() or not path.suffix:
        such = path / "pairs.png" if path.is_dir() else f"{path}.png"
        raise argparse.ArgumentTypeError(f"{path}: name the picture to write, as in {such}")
    return path


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


def add_amounts(parser: argparse.ArgumentParser) -> None:
    """Add the amounts of misregistration to a preview, under the names that they have in a sweep."""
    for name, unit in zip(AMOUNTS, ("px", "degrees", "per cent"), strict=True):
        about = f"also show partners as --pairings misregistration does, by so many {unit} (0)"
        parser.add_argument(f"--{name}", f"--data.{name}", type=float, default=0.0, metavar="NUMBER", help=about)


def amounts(args: argparse.Namespace) -> Misregistration | None:
    """The amounts that were given; None if all are 0.

    Raises:
        InputError: one is out of range for images of `args.size` px.
    """
    given = {name: getattr(args, name) for name in AMOUNTS}
    if not any(given.values()):
        return None
    amount = Misregistration(**given)
    amount.check(args.size)
    return amount
