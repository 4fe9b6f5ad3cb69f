"""`python -m sweep.lr_search [PRESET]`: find the learning rates of a preset's losses, by validation at rho 0."""

import sys
from collections.abc import Sequence

from sweep.cli import parse_command, run_command
from sweep.lr_search.config import search_for, sweep_to_fill
from sweep.lr_search.search import search_learning_rates
from sweep.signals import exit_with

USAGE = """Find each loss's learning rate by the probe's validation F1 at rho 0; write a YAML for `sweep.run --config`.

usage: python -m sweep.lr_search [PRESET] [--config sweep.yaml] [--rates ...] [--seeds ...] [--losses ...] [--flags ...]

Each rate is tried with the first seed, the better half of them with each further one (--no-prune: all of them). The
same command again runs what is missing.

Presets (default: vts-quick):

"""


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code: 0 chosen, 1 something is missing, 2 a mistake in what was given, 130
    Ctrl-C, 141 nobody reads what it says, 143 SIGTERM."""

    def command() -> int:
        search, base = parse_command(argv, search_for, prog="python -m sweep.lr_search", usage=USAGE)
        return search_learning_rates(search, sweep_to_fill(search, base))

    return run_command("sweep.lr_search", command)


if __name__ == "__main__":
    exit_with(main(sys.argv[1:]))
