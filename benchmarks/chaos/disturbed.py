"""A disturbed sweep: its process, the injected faults, and their effects."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from analysis.records.io import read_records
from sweep.signals import descendants

VARYING = ["seconds", "pretrain_seconds", "probe_seconds", "images_per_second", "started", "commit"]
"""Columns in which two records of one cell differ."""
SWEEP = ("vts-smoke", "--seeds", "0", "1", "--pretrain.steps", "400", "--workers", "2", "--no-report")
EVERY = 0.5
"""Seconds between checkpoints."""
AGENTS = 75.0
"""Seconds until Ray's idle agents notice that their node was killed (about a minute)."""


@dataclass(kw_only=True)
class Driver:
    """The running command, in its own process group."""

    process: subprocess.Popen[bytes]
    begun: float = field(default_factory=time.monotonic)

    def alive(self) -> bool:
        """Whether the process runs."""
        return self.process.poll() is None

    def workers(self) -> list[int]:
        """The processes that run cells or will run them."""
        return [pid for pid in descendants(self.process.pid) if "ray::" in command_line(pid)]

    def named(self, name: str) -> list[int]:
        """The child processes whose command line contains a name."""
        return [pid for pid in descendants(self.process.pid) if name in command_line(pid)]


@dataclass(kw_only=True)
class Tally:
    """The effects of one kind of fault."""

    injected: int = 0
    lost: list[float] = field(default_factory=list)
    """Seconds since the last checkpoint, for each running cell."""
    left_late: int = 0
    """How often the sweep did not exit in time."""


class Chaos:
    """The sweep in a folder, and the faults injected into it."""

    def __init__(self, out: Path, dice: random.Random, tallies: dict[str, Tally]) -> None:
        self.out, self.dice, self.tallies = out, dice, tallies
        self.driver: Driver | None = None
        self.again = 0
        """The number of finished cells that ran again although their record was not damaged."""
        self._below: set[int] = set()
        self._records: dict[Path, int] = {}
        self._touched: dict[Path, int] = {}

    def start(self) -> None:
        """Start the command, or start it again."""
        words = [sys.executable, "-m", "sweep.run", *SWEEP, "--out", str(self.out), "--checkpoint-every", str(EVERY)]
        with self.out.with_suffix(".log").open("ab") as log:
            self.driver = Driver(process=subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True))

    def running(self) -> Driver:
        """The running driver, started if there is none."""
        if self.driver is None or not self.driver.alive():
            self.start()
        assert self.driver is not None
        return self.driver

    def inject(self, name: str, fault: "Fault") -> bool:
        """Inject a fault; False if it was not applicable."""
        driver = self.running()
        lost = self._unsaved()
        self.count_again()
        if not fault(self, driver):
            return False
        self.tallies[name].injected += 1
        self.tallies[name].lost += lost
        return True

    def end(self) -> bool:
        """Let the sweep end undisturbed; returns whether it is complete."""
        for _ in range(6):
            driver = self.running()
            try:
                driver.process.wait(timeout=900)
            except subprocess.TimeoutExpired:
                return False
            if driver.process.returncode == 0:
                self.count_again()
                return True
        return False

    def gone(self, driver: Driver, below: Sequence[int]) -> None:
        """Wait for a stopped driver. Its child processes must be gone by the end of the round, see `outlived`."""
        driver.process.wait(timeout=60)
        self._below |= set(below)

    def outlived(self) -> int:
        """Kill the processes that outlive their driver by more than `AGENTS` seconds, and return their number."""
        deadline = time.monotonic() + AGENTS
        while any(map(exists, self._below)) and time.monotonic() < deadline:
            time.sleep(0.5)
        return sum(map(kill, filter(exists, self._below)))

    def count_again(self) -> None:
        """Update the known records, and count those written again although they were not damaged."""
        found = {path: path.stat().st_mtime_ns for path in self.out.glob("records/*/*/*.parquet")}
        spoilt = set(self._touched)
        # A damaged record remains damaged until its cell has run again.
        self._touched = {path: time for path, time in self._touched.items() if found.get(path, time) == time}
        known = self._records.items()
        self.again += sum(found.get(path, time) != time for path, time in known if path not in spoilt)
        self._records = found

    def one_of(self, paths: Sequence[Path]) -> Path | None:
        """A random one of the files."""
        return self.dice.choice(sorted(paths)) if paths else None

    def spoil(self, path: Path | None) -> bool:
        """Truncate a file or flip one of its bits."""
        try:
            data = bytearray(path.read_bytes() if path else b"")
        except FileNotFoundError:  # deleted just now
            return False
        if not path or not data:
            return False
        if self.dice.random() < 0.5:
            data = data[: self.dice.randrange(len(data))]
        else:
            data[self.dice.randrange(len(data))] ^= 1 << self.dice.randrange(8)
        path.write_bytes(data)
        if path.suffix == ".parquet":
            self._touched[path] = path.stat().st_mtime_ns
        return True

    def _unsaved(self) -> list[float]:
        now, found = time.time(), []
        for place in self.out.glob("checkpoints/*/"):
            with suppress(FileNotFoundError, ValueError):
                found.append(now - max(path.stat().st_mtime for path in place.glob("*.ckpt")))
        return [seconds for seconds in found if seconds < 10]


Fault = Callable[[Chaos, Driver], bool]
"""Injects the fault; False if it was not applicable."""


def kill(pid: int) -> bool:
    """Kill a process; False if it does not exist."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def exists(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def command_line(pid: int) -> str:
    """The command line of a process; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def when(path: Path) -> float:
    """When a file was last written; 0 if it is gone."""
    with suppress(FileNotFoundError):
        return path.stat().st_mtime
    return 0.0


def results(out: Path) -> pd.DataFrame:
    """The records of a sweep without times and commit, which may change during the test."""
    return read_records(out).drop(columns=VARYING)


def leftovers(out: Path) -> list[str]:
    """Files that should not exist at the end: drafts and checkpoints."""
    drafts = [path for path in out.rglob(".*") if path.is_file() and path.suffix in (".tmp", ".part")]
    return [str(path.relative_to(out)) for path in (*drafts, *out.glob("checkpoints"))]
