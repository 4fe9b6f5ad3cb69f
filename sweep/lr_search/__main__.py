"""`python -m sweep.lr_search [PRESET]`: find the learning rates of a preset's losses, by validation at rho 0."""

import sys
from collections.abc import Sequence

from sweep.run import right_datasets

USAGE = """Find each loss's learning rate by the probe's validation F1 at rho 0; write a YAML for `sweep.run --config`.

usage: python -m sweep.lr_search [PRESET] [--config sweep.yaml] [--rates ...] [--seeds ...] [--losses ...] [--flags ...]

Each rate is tried with the first seed, the better half of them with each further one (--no-prune: all of them). The
same command again runs what is missing.

Presets (default: vts-quick):

"""


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code: 0 chosen, 1 something is missing, 2 a mistake in what was given, 130
    Ctrl-C, 141 nobody reads what it says, 143 SIGTERM."""
    from sweep.cli import answered, read
    from sweep.lr_search.config import searched, to_fill
    from sweep.lr_search.halving import search_rates

    def command() -> int:
        search, base = read(argv, searched, prog="python -m sweep.lr_search", usage=USAGE)
        return search_rates(search, to_fill(search, base))

    return answered("sweep.lr_search", command)


def enter() -> None:
    """Entry of the command line."""
    right_datasets()
    from sweep.signals import end

    end(main(sys.argv[1:]))


if __name__ == "__main__":
    enter()
