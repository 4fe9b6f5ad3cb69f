"""`noisy-pairs COMMAND ...`: the commands of this project under one name; each is `python -m MODULE ...`, too."""

import difflib
import runpy
import sys
from collections.abc import Sequence

COMMANDS = {
    "run": ("sweep.run", "run the missing cells of a sweep and show the results"),
    "probe": ("sweep.probe", "probe the encoders that a sweep has kept"),
    "status": ("sweep.status", "progress, rate and time left of a sweep"),
    "doctor": ("sweep.doctor", "check machines, disks, data and MLflow before a sweep"),
    "lr-search": ("sweep.lr_search", "find learning rates by validation scores"),
    "sync": ("sweep.sync", "fill MLflow from the records"),
    "slurm": ("sweep.slurm", "write a script for Slurm, and submit it"),
    "report": ("analysis.report", "one page: verdicts, figures, tables"),
    "claims": ("analysis.claims", "which of the paper's sentences the records support"),
    "figures": ("analysis.figures", "the figures as SVG, PNG or PDF"),
    "summary": ("analysis.summary", "tables; merge and group records"),
    "compare": ("analysis.compare", "whether two sweeps agree"),
    "publish": ("analysis.publish", "a folder that a data hub takes"),
    "manifest": ("datasets.manifest", "check and preview your own image pairs"),
    "vts": ("datasets.vts", "preview synthetic scenes"),
    "xbd": ("datasets.xbd", "prepare, preview and list xBD"),
}
"""The module and the purpose of each command."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command in this process.

    Args:
        argv: the command and its arguments; None: those of the process.

    Returns:
        0 after the list of commands, 2 if there is no such command. A command itself ends the process.
    """
    name, *words = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    if name in ("-h", "--help"):
        print("usage: noisy-pairs COMMAND ...   (COMMAND --help: its arguments)\n")
        for command, (module, purpose) in COMMANDS.items():
            print(f"  {command:<10} {purpose:<58} python -m {module}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        print(f"noisy-pairs: unknown command {name!r}: {meant}choose from {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    module, _ = COMMANDS[name]
    sys.argv[1:] = words
    runpy.run_module(module, run_name="__main__", alter_sys=True)
    return 0
