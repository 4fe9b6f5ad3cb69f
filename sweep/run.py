"""`python -m sweep.run [PRESET] [--flags]`: run the missing cells of a sweep and show the results."""

import sys

from sweep.cli import main
from sweep.signals import exit_with

if __name__ == "__main__":
    exit_with(main(sys.argv[1:]))
