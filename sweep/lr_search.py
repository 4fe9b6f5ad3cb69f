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
    Ctrl-C, 143 SIGTERM."""
    from analysis.errors import RecordsError
    from datasets.errors import InputError
    from sweep.commandline import read
    from sweep.search import searched, to_fill
    from sweep.searching import search_rates
    from sweep.stopping import Terminated, terminable

    try:
        with terminable():
            search, base = read(argv, searched, prog="python -m sweep.lr_search", usage=USAGE)
            return search_rates(search, to_fill(search, base))
    except (InputError, RecordsError) as error:
        print(f"sweep.lr_search: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print("sweep.lr_search: stopped; the same command runs what is missing", file=sys.stderr)
        return 143 if isinstance(stop, Terminated) else 130
    except OSError as error:
        print(f"sweep.lr_search: {error}: free space or choose another --out, then run it again", file=sys.stderr)
        return 2


def enter() -> None:
    """Entry of the command line."""
    right_datasets()
    from sweep.stopping import leave

    code = main(sys.argv[1:])
    if code > 128:  # a signal: who sent it does not wait for what Python does at its end
        leave(code)
    raise SystemExit(code)


if __name__ == "__main__":
    enter()
