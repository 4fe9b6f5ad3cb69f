"""Refuses to be installed with Hugging Face's package `datasets`. To import this module is to check it.

Wheels of both projects unpack into one folder, `site-packages/datasets`, so one of the two is broken: `__init__.py` is
that of the later one, and to uninstall either takes it away. A checkout (`pip install -e`) has a folder of its own.
"""

import sys
from pathlib import Path
from typing import NoReturn

_PROJECT = ("analysis", "benchmarks", "datasets", "sweep", "trainables")

REINSTALL = "`pip install --force-reinstall --no-deps` noisy-pairs"
REMEDY = f"keep the two in two environments: `pip uninstall datasets` here, then {REINSTALL}"


def refuse(reason: str) -> NoReturn:
    """End a command of this project with one line and exit code 2; in other programs, raise `ImportError`."""
    if _is_command():
        print(f"error: {reason}", file=sys.stderr)
        raise SystemExit(2)
    raise ImportError(reason)


def _is_command() -> bool:
    words = sys.orig_argv  # not `argv`, whose first word changes while a module is looked for
    module = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    return module.partition(".")[0] in _PROJECT or Path("".join(words[1:2])).name == "noisy-pairs"


def _refuse_shared_folder(folder: Path) -> None:
    """Refuse if the folder of this package is also that of a distribution named `datasets`."""
    for ending in ("dist-info", "egg-info"):
        for other in sorted(folder.parent.glob(f"datasets-*.{ending}")):
            name = other.name.removesuffix(f".{ending}")
            refuse(f"{folder} holds files of noisy-pairs and of Hugging Face's {name}, so one is broken: {REMEDY}")


_refuse_shared_folder(Path(__file__).absolute().parent)
