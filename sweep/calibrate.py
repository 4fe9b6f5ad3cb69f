"""Which engine, and how many cells at a time, this machine is fastest with: measured once, then remembered.

Candidates train on random views in processes of their own, as many at once as cells would run at once, since cores,
caches and a GPU are shared. One that fails, or whose loss is not that of the plain engine, is out.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import product

from pydantic import TypeAdapter, ValidationError

from datasets.cache import keep, kept
from sweep.measure import Ask, Measured, Task, processes
from trainables.engine import PLAIN, Engine, Layout, Precision

log = logging.getLogger(__name__)

MARGIN = 1.05
"""How much faster than what stands before it a candidate must be: less lies within what repetitions differ by."""
CLOSE = 0.03
"""Largest relative difference of a candidate's loss from the plain engine's after some steps."""
COMPILING_PAYS = 3600.0
"""Seconds of pretraining, all cells together, from which on compiling is tried: it takes a minute a worker."""
MOST_CELLS = 16
"""Cells at the same time that are tried at most."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a sweep runs with, and what it was chosen from."""

    best: Measured
    plain: Measured
    compiling: bool
    """Whether compiled candidates were tried."""
    tried: tuple[Measured, ...]

    def __str__(self) -> str:
        gain = f"{self.best.rate / self.plain.rate:.2f} times the plain engine" if self.plain.rate else "alone possible"
        return f"{self.best.engine}, {self.best.cells} at a time: {self.best.rate:.0f} images/s a step, {gain}"


def choose(task: Task, images: int) -> Choice:
    """The choice for this task, remembered in the user's cache or measured now.

    Args:
        task: what is open, and on what machine.
        images: source images that the whole sweep trains on; tells whether compiling can pay.
    """
    name = f"engine-{task.key}.json"
    known = _read(name)
    if known and (known.compiling or not _pays(task, images, known.best)):
        return known
    choice = measure(task, images)
    for candidate in choice.tried:
        log.info(
            "engine %s, %d at a time: %.1f images/s %s",
            candidate.engine,
            candidate.cells,
            candidate.rate,
            candidate.fault,
        )
    keep(name, json.dumps(asdict(choice)).encode())
    return choice


def measure(task: Task, images: int) -> Choice:
    """Try the candidates, one question after the other: which engine, does compiling help, how many cells at once."""
    (cells, threads), *other_splits = _splits(task)
    most = max(cells, *(count for count, _ in other_splits), 1)
    with processes(task, most) as ask:
        fallback = replace(task.engine.filled(PLAIN), threads=threads)
        race = _Race(ask, plain=ask(replace(PLAIN, threads=threads), cells), fallback=fallback)
        for engine in _eager(task, threads):
            race.enter(engine, cells)
        compiling = task.engine.compile == "auto" and _pays(task, images, race.best)
        if compiling:
            eager = race.best.engine
            for mode in ("default", "reduce-overhead") if task.machine.device == "cuda" else ("default",):
                race.enter(replace(eager, compile=mode), cells)
        for cells, threads in other_splits:
            if cells * race.best.memory <= race.best.room:
                race.enter(replace(race.best.engine, threads=threads), cells)
    return Choice(best=race.best, plain=race.plain, compiling=compiling, tried=tuple(race.tried))


class _Race:
    """The candidates so far and the best of them."""

    def __init__(self, ask: Ask, *, plain: Measured, fallback: Engine) -> None:
        """`fallback` is what is left where every candidate fails: the sweep then says why."""
        self._ask, self.plain = ask, plain
        self.best, self.tried = Measured(engine=fallback, cells=1), [plain]

    def enter(self, engine: Engine, cells: int) -> None:
        """Measure a candidate, and check that it computes what the plain engine does."""
        if (engine, cells) == (self.plain.engine, self.plain.cells):
            found = self.plain
        else:
            found = self._ask(engine, cells)
            if not found.fault and abs(found.loss - self.plain.loss) > CLOSE * self.plain.loss > 0:
                found = replace(found, fault=f"its loss is {found.loss:.4f}, the plain engine's {self.plain.loss:.4f}")
            self.tried.append(found)
        if not found.fault and found.rate > MARGIN * self.best.rate:
            self.best = found


def _splits(task: Task) -> list[tuple[int, int]]:
    """The (cells at a time, threads a cell) that are tried: from many to one on a CPU, from one upwards on a GPU."""
    cores, gpu = task.machine.cores, task.machine.device == "cuda"
    counts = [task.cells] if task.cells else [2**k for k in range(5) if 2**k <= (8 if gpu else min(cores, MOST_CELLS))]
    if task.engine.threads and not task.cells and not gpu:
        counts = [max(1, min(cores // task.engine.threads, MOST_CELLS))]
    splits = [(count, task.engine.threads or max(1, cores // count)) for count in counts]
    return splits if gpu else splits[::-1]


def _eager(task: Task, threads: int) -> Iterator[Engine]:
    """The engines that the task leaves open, the plainest first; none compiled unless the task says so."""
    asked = task.engine
    precisions: tuple[Precision, ...] = ("fp32", "bf16") if asked.precision == "auto" else (asked.precision,)
    layouts: tuple[Layout, ...] = ("channels_last", "contiguous") if asked.layout == "auto" else (asked.layout,)
    for precision, layout in product(precisions, layouts):
        compiled = "no" if asked.compile == "auto" else asked.compile
        yield Engine(precision=precision, layout=layout, compile=compiled, threads=threads)


def _pays(task: Task, images: int, best: Measured) -> bool:
    """Whether pretraining takes long enough that compiling can be earned back."""
    return best.rate > 0 and images / best.rate > COMPILING_PAYS


def _read(name: str) -> Choice | None:
    """A choice from the cache; None where there is none, or one of another version."""
    try:
        return TypeAdapter(Choice).validate_json(kept(name) or b"")
    except ValidationError:
        return None
