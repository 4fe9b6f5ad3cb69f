"""Common parts of the benchmarks: timing with its spread, tables, description of the machine, JSON."""

import argparse
import json
import os
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

import torch

from datasets.allocation import usable_cores
from datasets.seeding import stream
from datasets.vts.config import VtsSettings
from datasets.vts.dataset import Vts
from datasets.vts.textures import TextureBank
from sweep.cluster.provenance import processor
from trainables.device import prepare_device
from trainables.engine import Engine
from trainables.profiling.bare_step import seconds_of
from trainables.recipe import Recipe


@dataclass(frozen=True)
class Timing:
    """The seconds of repeated calls."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median."""
        return median(self.seconds)

    @property
    def spread(self) -> float:
        """Slowest minus fastest, relative to the median."""
        return (max(self.seconds) - min(self.seconds)) / self.median

    def rate(self, count: int) -> str:
        """The rate per second, with the spread."""
        return f"{count / self.median:.1f} ±{50 * self.spread:.0f}%"


@dataclass
class Table:
    """A table with a title; in JSON, numbers remain numbers."""

    title: str
    columns: Sequence[str]
    rows: list[list[object]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, *row: object) -> None:
        """Append a row."""
        self.rows.append(list(row))

    def show(self) -> None:
        """Print it."""
        cells = [list(self.columns), *([_text(value) for value in row] for row in self.rows)]
        widths = [max(len(row[k]) for row in cells) for k in range(len(self.columns))]
        print(f"\n{self.title}")
        for number, row in enumerate(cells):
            rest = [text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True)]
            print("  " + "  ".join([row[0].ljust(widths[0]), *rest]))
            if number == 0:
                print("  " + "-" * (sum(widths) + 2 * len(widths) - 2))
        for note in self.notes:
            print(f"  {note}")


def _text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


BLOCK = 20
"""Calls between two waits for a GPU, which would otherwise idle between calls, unlike in a sweep."""
WARM_UP = 1.5
"""Seconds of warm-up on a GPU: its clock rises, cuDNN chooses its algorithms, and memory is allocated."""


def time_it(
    work: Callable[[], object], device: torch.device, *, warm: int = 1, least: int = 5, budget: float = 1.0
) -> Timing:
    """Time repeated calls, after `warm` calls that are not counted; on a GPU in blocks, after a longer warm-up."""
    if warm:
        warm_up(work, device, warm)
    return Timing(tuple(seconds_of(work, device, least=least, budget=budget, block=block_on(device))))


def in_turn(
    works: Sequence[Callable[[], object]], device: torch.device, *, rounds: int = 5, block: int = 0
) -> list[Timing]:
    """Time several calls in turn, in several rounds, so that a slower machine affects all of them.

    `block` is the number of calls between two waits for a GPU; 0: as usual.
    """
    for work in works:
        warm_up(work, device, 1)
    block = block or block_on(device)
    taken = [[seconds_of(work, device, least=1, budget=0.0, block=block)[0] for work in works] for _ in range(rounds)]
    return [Timing(tuple(column)) for column in zip(*taken, strict=True)]


def warm_up(work: Callable[[], object], device: torch.device, least: int) -> None:
    """Call `work` at least so often, and on a GPU for some seconds."""
    seconds_of(work, device, least=least, budget=WARM_UP if device.type == "cuda" else 0.0)


def block_on(device: torch.device) -> int:
    """Calls of a block: one on a CPU, where nothing is queued."""
    return BLOCK if device.type == "cuda" else 1


def ratio(slow: Timing, fast: Timing) -> float:
    """The ratio of the seconds of `slow` to those of `fast`: the median over rounds of `in_turn`."""
    return median(a / b for a, b in zip(slow.seconds, fast.seconds, strict=True))


def cores() -> int:
    """The number of cores that this process may use."""
    return usable_cores()


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def peak_memory() -> float:
    """GB of GPU memory that torch has reserved in this process at most; 0 without a GPU."""
    return torch.cuda.max_memory_reserved() / 1e9 if torch.cuda.is_available() else 0.0


def best_engine(precision: str = "bf16") -> Engine:
    """The engine of the benchmarks: all cores, one process."""
    return Engine(precision=precision, layout="channels_last", compile="no", threads=cores())  # type: ignore[arg-type]


def vts(recipe: Recipe) -> VtsSettings:
    """The settings of the timed scenes."""
    assert isinstance(recipe.data, VtsSettings), "benchmarks run on VTS"
    return recipe.data


def scenes(recipe: Recipe, bank: TextureBank) -> Vts:
    """The scenes of seed 0."""
    return Vts(vts(recipe), bank, partial(stream, 0), device())


def header() -> dict[str, str]:
    """The description of the machine, and versions."""
    names = ("torch", "torchvision", "timm", "ray", "numpy", "lightly")
    facts = {
        "processor": processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "cores": str(cores()),
        "threads": str(torch.get_num_threads()),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "python": platform.python_version(),
    }
    for name in names:
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            facts[name] = "not installed"
    return facts


def main(module: str, run: Callable[[], list[Table]]) -> None:
    """The command line of a benchmark: run it, print its tables, and write them as JSON with `--json`."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=run.__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the tables as JSON")
    given = parser.parse_args()
    prepare_device(best_engine())  # as in the workers of a sweep
    facts = header()
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    tables = run()
    if given.json:
        given.json.write_text(json.dumps({"machine": facts, "tables": [asdict(table) for table in tables]}, indent=1))
