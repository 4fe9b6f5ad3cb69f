"""`python -m sweep.run [PRESET] [--flags]`: run a sweep, or what is missing of it, and show what it found."""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent


def check_datasets() -> None:
    """Make sure that `import datasets` finds our package and not Hugging Face's of that name.

    Exits with code 2 and one line otherwise: nothing else here could be imported.
    """
    import datasets

    found = Path(datasets.__file__ or "").resolve().parent
    if found != _ROOT / "datasets":
        print(
            f"sweep.run: the package 'datasets' was imported from {found}, not from {_ROOT}: run `python -m "
            "sweep.run` in the project's folder, or uninstall the other package",
            file=sys.stderr,
        )
        raise SystemExit(2)


def main() -> None:
    """Entry of the command line."""
    check_datasets()
    from sweep.cli import main as run
    from sweep.signals import exit_with

    exit_with(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
