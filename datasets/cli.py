"""How the command lines of data sets end: a mistake is one line, or one a problem, and exit code 2."""

import argparse
import sys
from collections.abc import Sequence

from datasets.errors import InputError


def run(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse the words, do what the parser's `run` default does with them, and return the exit code.

    Returns:
        0; 2 for a mistake in what was given, without a traceback; 130 after Ctrl-C.
    """
    name = parser.prog.removeprefix("python -m ")
    given = parser.parse_args(argv)
    try:
        given.run(given)
    except (InputError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: stopped; the same command goes on where it was", file=sys.stderr)
        return 130
    return 0
