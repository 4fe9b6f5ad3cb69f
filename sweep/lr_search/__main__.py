"""`python -m sweep.lr_search [PRESET]`: find learning rates for the losses of a preset, by validation at rho 0."""

import sys
from collections.abc import Sequence

from sweep.cli import parse_command, run_command
from sweep.lr_search.config import search_for, sweep_to_fill
from sweep.signals import exit_with

USAGE = """Find a learning rate for each loss by the probe's validation F1 at rho 0.

The result is chosen.yaml, a sweep with these rates for `sweep.run --config`.

usage: python -m sweep.lr_search [PRESET] [--config sweep.yaml] [--rates ...] [--seeds ...] [--losses ...] [--flags ...]

All rates run on the first seed. After each seed, the better half continues (--no-prune: all of them). Repeat the
command to run missing cells.

Presets (default: vts-quick):

"""


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code.

    0: all rates are chosen, 1: something is missing, 2: a mistake in the input, 130: Ctrl-C, 141: its output pipe was
    closed, 143: SIGTERM.
    """

    def command() -> int:
        search, base = parse_command(argv, search_for, prog="python -m sweep.lr_search", usage=USAGE)
        # Before the imports below, which take seconds on a busy machine.
        print(f"learning rates for {base.preset} in {search.sweep.out}: checking settings, folder and data ...")
        from sweep.lr_search.search import search_learning_rates

        return search_learning_rates(search, sweep_to_fill(search, base))

    return run_command("sweep.lr_search", command)


if __name__ == "__main__":
    exit_with(main(sys.argv[1:]))
