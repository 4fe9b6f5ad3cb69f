"""`python -m benchmarks.gpu`: what a first machine with a GPU can show in eight minutes.

Each part runs in a process of its own with a time limit. Rows are printed as they come; `--out` also writes them as
JSON, after each part. The exit code is 1 if a part failed, was cut off or not started, and 2 after a mistake in the
command. docs/benchmarks.md says what each part measures.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from benchmarks.gpu.apart import Outcome, Part, run_apart
from benchmarks.gpu.parts import MACHINE, PARTS
from benchmarks.gpu.report import Row, Setting
from datasets.cli import local_path
from datasets.errors import InputError
from datasets.files import write_text_atomically
from datasets.xbd.tree import find_root
from sweep.signals import sigterm_raises

NO_GPU = "no GPU"
LEAST = 10.0
"""Seconds below which no part is started: importing torch takes some of them."""
GOOD = ("done", "skipped")
STOPPED = {"Ctrl-C": 130, "SIGTERM": 143}
"""The exit code after a signal."""


class Check:
    """The parts that have run, within the time that all of them have."""

    def __init__(self, options: argparse.Namespace, folder: str) -> None:
        """`folder`: for the files of the parts."""
        self._options, self._folder = options, folder
        self._begun, self._due = time.time(), time.monotonic() + 60 * options.minutes
        self.machine: Row = {}
        self.outcomes: list[Outcome] = []

    @property
    def has_gpu(self) -> bool:
        """Whether torch can use a GPU here."""
        return self.machine.get("gpu", "none") != "none"

    def look(self) -> Outcome:
        """Describe the machine."""
        found = self._run("machine", MACHINE, MACHINE.seconds)
        self.machine = {name: value for name, value in (found.rows or [{}])[0].items() if name != "case"}
        return found

    def run(self, names: Sequence[str]) -> None:
        """Run these parts, or say why not. Nothing runs after Ctrl-C or SIGTERM."""
        for name in names:
            if self.stopped:
                found = Outcome(part=name, state="not started", why=self.stopped)
            elif PARTS[name].needs_gpu and not self.has_gpu:
                found = Outcome(part=name, state="skipped", why=NO_GPU)
            elif self._left() < LEAST:
                found = Outcome(part=name, state="not started", why=f"{self._options.minutes:g} minutes have passed")
            else:
                # Tiny parts have no limit of their own, because a busy machine needs longer.
                limit = self._left() if self._options.tiny else min(PARTS[name].seconds, self._left())
                found = self._run(name, PARTS[name], limit)
            self.outcomes.append(found)
            self.write()

    def write(self) -> None:
        """Write what is known as JSON, if asked to."""
        if self._options.out:
            write_text_atomically(self._options.out, json.dumps(self.report(), indent=1) + "\n")

    def report(self) -> Mapping[str, object]:
        """What is known."""
        return {
            "machine": self.machine,
            "tiny": self._options.tiny,
            "minutes": self._options.minutes,
            "seconds": round(time.time() - self._begun, 1),
            "passed": self.passed,
            "parts": [asdict(outcome) for outcome in self.outcomes],
        }

    @property
    def passed(self) -> bool:
        """Whether each part is done, or cannot run here."""
        return all(outcome.state in GOOD for outcome in self.outcomes)

    @property
    def stopped(self) -> str:
        """The signal that ended a part; empty without one."""
        return "".join(outcome.why for outcome in self.outcomes if outcome.state == "stopped")

    def _run(self, name: str, part: Part, seconds: float) -> Outcome:
        setting = Setting(
            part=name,
            folder=self._folder,
            tiny=self._options.tiny,
            xbd=str(self._options.xbd or ""),
            begun=self._begun,
            seconds=seconds,
        )
        return run_apart(part, setting)

    def _left(self) -> float:
        return self._due - time.monotonic()


def summary(outcomes: Sequence[Outcome]) -> str:
    """One line for each part."""
    lines = []
    for one in outcomes:
        state = one.state if one.state in GOOD else one.state.upper()
        lines.append(f"{state:<12}{one.part:<10}{one.seconds:5.0f} s{'  ' if one.why else ''}{one.why}")
    return "\n".join(lines)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options. A mistake ends the process with exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument(
        "--part", nargs="+", metavar="NAME", default=[*PARTS], help=f"some of {', '.join(PARTS)} (default: all)"
    )
    parser.add_argument("--minutes", type=float, default=8.0, help="time limit of all parts (default: %(default)g)")
    parser.add_argument("--xbd", type=local_path, metavar="DIR", help="an xBD tree (default: random pixels)")
    parser.add_argument("--out", type=local_path, metavar="FILE", help="also write the rows as JSON")
    parser.add_argument("--tiny", action="store_true", help="small sizes: every part in seconds, on a CPU too")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.part if name not in PARTS]:
        parser.error(f"--part {' '.join(unknown)}: choose from {', '.join(PARTS)}")
    if not 0 < options.minutes < float("inf"):
        parser.error(f"--minutes {options.minutes:g}: give a number above 0")
    if options.out and (options.out.is_dir() or not options.out.parent.is_dir()):
        parser.error(f"--out {options.out}: give a file in a folder that exists")
    if options.xbd:
        try:
            options.xbd = find_root(options.xbd).absolute()
        except InputError as error:
            parser.error(f"--xbd: {error}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts, and print a line for each.

    Returns:
        The exit code: 0 done, 1 a part is not done, 2 a mistake of the user, 130 Ctrl-C, 143 SIGTERM.
    """
    options = parsed(arguments)
    with (
        sigterm_raises(),
        tempfile.TemporaryDirectory(prefix="gpu-check-", ignore_cleanup_errors=True) as folder,
    ):
        check = Check(options, folder)
        found = check.look()
        if found.state == "stopped":
            return STOPPED[found.why]
        if not check.machine:
            print(f"benchmarks.gpu: torch cannot be used here: {found.why}", *found.stderr[-1:], file=sys.stderr)
            return 2
        if not check.has_gpu and not options.tiny:
            print(f"benchmarks.gpu: torch finds {NO_GPU}: add --tiny to try the parts on a CPU", file=sys.stderr)
            return 2
        check.run([name for name in PARTS if name in options.part])
    print(f"\n{summary(check.outcomes)}")
    if check.stopped:
        return STOPPED[check.stopped]
    return 0 if check.passed else 1


if __name__ == "__main__":
    sys.exit(main())
