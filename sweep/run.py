"""`python -m sweep.run [PRESET] [--flags]`: run a sweep, or what is missing of it, and show what it found."""

import sys

from sweep.cli import main
from sweep.signals import exit_with

if __name__ == "__main__":
    exit_with(main(sys.argv[1:]))
