"""The overhead of a sweep: time to the first step, busy slots, overhead per cell, memory per worker."""

import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path

import pandas as pd

from analysis.records.io import read_records
from benchmarks.speed.common import Table, cores, main

STEPS = ("--pretrain.steps", "40", "--pretrain.warmup", "20", "--probe.steps", "60")
"""A small part of a `vts-quick` cell, to shorten the benchmark. The overhead is the same, so slots look more idle."""


def run() -> list[Table]:
    """Commands of `vts-quick` with shortened cells, from the losses of one seed at rho 0 to all cells."""
    table = Table(
        "vts-quick with shortened cells: overhead",
        (
            "cells",
            "wall, s",
            "own, s",
            "to first cell, s",
            "busy",
            "busy between",
            "overhead per cell, s",
            "MB per worker",
        ),
        notes=[
            "own: seconds of the cells; busy: own / (wall x slots); busy between: from the first start to the last end",
            "overhead per cell: mean idle seconds between two cells in a slot",
            "MB per worker: largest private memory of a worker (USS on Linux)",
        ],
    )
    with tempfile.TemporaryDirectory() as folder:
        command(Path(folder) / "warm", "--rho", "0", "--losses", "random")  # the engine is measured here
        for words in (("--rho", "0"), ("--rho", "0", "1", "--nu", "1"), ()):
            table.add(*command(Path(folder) / str(len(words)), *words))
    table.show()
    return [table]


def command(out: Path, *words: str) -> list[object]:
    """Run the command, and return its row of the table."""
    begun = time.time()
    process = subprocess.Popen(
        [sys.executable, "-m", "sweep.run", "vts-quick", "--out", str(out), *STEPS, *words],
        stdout=subprocess.DEVNULL,
    )
    largest: list[float] = [0.0]
    watch = threading.Thread(target=_watch, args=(process, largest), daemon=True)
    watch.start()
    if process.wait():
        raise SystemExit(f"the sweep in {out} ended with exit code {process.returncode}")
    wall = time.time() - begun
    watch.join()
    records = read_records(out)
    start = records.started.map(lambda text: datetime.fromisoformat(text).timestamp())
    end = start + records.seconds
    slots = min(len(records), cores() // int(records.threads[0]))
    own = float(records.seconds.sum())
    between = own / (slots * float(end.max() - start.min()))
    return [
        len(records),
        wall,
        own,
        float(start.min()) - begun,
        own / (wall * slots),
        between,
        gaps(start, end),
        largest[0],
    ]


def gaps(start: pd.Series, end: pd.Series) -> float:
    """Mean seconds from the end of a cell to the start of the next in the same slot; 0 if no slot had two."""
    found: list[float] = []
    free: list[float] = []
    for begin, finish in sorted(zip(start, end, strict=True)):
        ready = [time for time in free if time <= begin]
        if ready:
            free.remove(max(ready))
            found.append(begin - max(ready))
        free.append(finish)
    return sum(found) / len(found) if found else 0.0


def _watch(process: subprocess.Popen, largest: list[float]) -> None:
    """Measure the private memory of workers twice per second, without memory shared through Ray's store."""
    import psutil

    while process.poll() is None:
        try:
            for child in psutil.Process(process.pid).children(recursive=True):
                if "ImplicitFunc" in " ".join(child.cmdline()):
                    largest[0] = max(largest[0], child.memory_full_info().uss / 2**20)
        except psutil.Error:
            pass
        time.sleep(0.5)


if __name__ == "__main__":
    main("benchmarks.speed.sweep", run)
