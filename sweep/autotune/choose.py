"""Which engine, and how many cells at a time, this machine is fastest with: measured once, then remembered.

Candidates train on random views in processes of their own, as many at once as cells would run at once, since cores,
caches and a GPU are shared. One that fails is out, and so is one whose loss is not that of the first: the plain engine,
where that runs.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import floor

from pydantic import TypeAdapter, ValidationError
from ray.exceptions import RayError

from datasets.errors import InputError
from datasets.files import cache_read, cache_write
from sweep.autotune.microbenchmark import Ask, Measured, Task, processes
from sweep.cluster.machine import Machine
from sweep.config.sweep import Sweep
from trainables.cell import Cell
from trainables.engine import PLAIN, Engine, Layout, Precision
from trainables.objective_names import objective_info
from trainables.registry import BASELINES, LOSSES

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
        if not self.best.rate:
            return f"{self.best.engine} (nothing else could be measured; the log says why)"
        gain = self.best.rate / self.plain.rate
        rate = f"{self.best.rate:.0f} images/s in bare steps"
        return f"{self.best.engine}, {self.best.cells} at a time: {rate}, {gain:.2f} times the plain engine"


def choose(task: Task, images: int) -> Choice:
    """The choice for this task, remembered in the user's cache or measured now.

    Args:
        task: what is open, and on what machine.
        images: source images that the whole sweep trains on; tells whether compiling can pay.
    """
    name = f"engine-{task.key}.json"
    known = _read(name)
    if known and (known.compiling or task.engine.compile != "auto" or not _pays(images, known.best)):
        return known
    choice = measure(task, images)
    for one in choice.tried:
        log.info("engine %s, %d at a time: %.1f images/s %s", one.engine, one.cells, one.rate, one.fault)
    if choice.best.rate:  # nothing is learnt from a machine that could do nothing
        cache_write(name, json.dumps(asdict(choice)).encode())
    return choice


def measure(task: Task, images: int) -> Choice:
    """Try the candidates, one question after the other: which engine, does compiling help, how many cells at once."""
    splits = _splits(task)
    fallback = Measured(engine=replace(task.engine.filled(PLAIN), threads=splits[-1][1]), cells=1)
    try:
        with processes(task, max(cells for cells, _ in splits)) as ask:
            race = _Race(ask, fallback)
            while not race.best.rate and splits:  # on a small host fewer cells may fit where many do not
                cells, threads = splits.pop(0)
                race.enter(replace(PLAIN, threads=threads), cells, allowed=False)
                for engine in _eager(task, threads):
                    race.enter(engine, cells)
            compiling = task.engine.compile == "auto" and _pays(images, race.best)
            if compiling:
                eager, cells = race.best.engine, race.best.cells
                for mode in ("default", "reduce-overhead") if task.machine.gpus else ("default",):
                    race.enter(replace(eager, compile=mode), cells)
            for cells, threads in splits:
                if cells * race.best.memory <= race.best.room:
                    race.enter(replace(race.best.engine, threads=threads), cells)
    except RayError as error:
        log.warning("nothing could be measured: %s", error)
        return Choice(best=fallback, plain=fallback, compiling=False, tried=())
    return Choice(best=race.best, plain=race.plain, compiling=compiling, tried=tuple(race.tried.values()))


class _Race:
    """The candidates so far and the best of them."""

    def __init__(self, ask: Ask, fallback: Measured) -> None:
        """`fallback` is what is left where every candidate fails: the sweep then says why."""
        self._ask, self.best, self.plain = ask, fallback, fallback
        self.tried: dict[tuple[Engine, int], Measured] = {}

    def enter(self, engine: Engine, cells: int, *, allowed: bool = True) -> None:
        """Measure a candidate, and check that it computes what the first one that could be measured does.

        Args:
            engine: how it trains.
            cells: how many at once.
            allowed: whether it may be chosen; else it is there to be compared with.
        """
        found = self.tried.get((engine, cells)) or self._ask(engine, cells)
        if not found.fault and not self.plain.rate:
            self.plain = found
        if not found.fault and abs(found.loss - self.plain.loss) > CLOSE * self.plain.loss:
            found = replace(found, fault=f"its loss is {found.loss:.4f}, the first engine's {self.plain.loss:.4f}")
        self.tried[engine, cells] = found
        if allowed and not found.fault and self._beats(found):
            self.best = found

    def _beats(self, found: Measured) -> bool:
        """Whether it is faster than the best, which is measured again first if it seems so.

        Something else may have run while the best was measured, and the choice is remembered.
        """
        best = self.best
        if best.rate and found.rate > MARGIN * best.rate:
            again = self._ask(best.engine, best.cells)
            if again.rate > best.rate:
                self.best = self.tried[best.engine, best.cells] = again
                self.plain = again if self.plain is best else self.plain
        return found.rate > MARGIN * self.best.rate


def _splits(task: Task) -> list[tuple[int, int]]:
    """The (cells at a time, threads a cell) that are tried: from many to one on a CPU, from one upwards on a GPU.

    Where there are several GPUs, one with its share of the cores stands for all.
    """
    gpus, threads = task.machine.gpus, task.engine.threads
    cores = task.machine.cores // max(1, gpus)
    most = task.cells or (8 if gpus else MOST_CELLS)
    if gpus:
        counts = [task.cells] if task.cells else [1, 2, 4, 8]
        return [(count, threads or max(1, cores // count)) for count in counts]
    options = [threads] if threads else sorted({2**k for k in range(cores.bit_length())} | {cores})
    # The most threads with which so many cells fit, for the others leave cores idle.
    splits = {max(1, min(cores // each, most)): each for each in options if each <= max(1, cores)}
    return sorted(splits.items(), reverse=True)


def _eager(task: Task, threads: int) -> Iterator[Engine]:
    """The engines that the task leaves open, the plainest first; none compiled unless the task says so."""
    asked = task.engine
    precisions: tuple[Precision, ...] = ("fp32", "bf16") if asked.precision == "auto" else (asked.precision,)
    layouts: tuple[Layout, ...] = ("channels_last", "contiguous") if asked.layout == "auto" else (asked.layout,)
    for precision, layout in product(precisions, layouts):
        compiled = "no" if asked.compile == "auto" else asked.compile
        yield Engine(precision=precision, layout=layout, compile=compiled, threads=threads)


def _pays(images: int, best: Measured) -> bool:
    """Whether pretraining takes long enough that compiling can be earned back."""
    return best.rate > 0 and images / best.rate > COMPILING_PAYS


def _read(name: str) -> Choice | None:
    """A choice from the cache; None where there is none, or one of another version."""
    try:
        return TypeAdapter(Choice).validate_json(cache_read(name) or b"")
    except ValidationError:
        return None


SHARE = 0.25
"""Share of a GPU that a cell takes where nothing is measured."""


def settle(sweep: Sweep, missing: Sequence[Cell], machine: Machine) -> tuple[Sweep, str]:
    """The sweep with nothing left open about how its missing cells are executed, and that in words.

    What is given, or was in the folder, stays; the rest is measured on the machine.

    Raises:
        InputError: a cell is to have more cores than there are.
    """
    if sweep.engine.threads > machine.cores:
        raise InputError(
            f"--threads {sweep.engine.threads}: a cell cannot have more than the {machine.cores} cores here"
        )
    if (sweep.engine.settled and (sweep.gpu_share or not machine.gpus)) or sweep.engine.deterministic:
        sweep = replace(sweep, engine=sweep.engine.filled(PLAIN), gpu_share=sweep.gpu_share or SHARE)
        return sweep, str(sweep.engine)
    losses = [cell.objective for cell in missing if cell.objective not in BASELINES]
    images = len(losses) * sweep.recipe.pretrain.steps * sweep.recipe.pretrain.batch
    choice = choose(_task(sweep, losses, machine), images)
    best = choice.best
    share, memory = SHARE, round(best.memory / 1e9, 2)
    if machine.gpus:  # rounded down as Ray counts, so that all fit
        share, memory = floor(1e4 / best.cells) / 1e4, 0.0
    sweep = replace(
        sweep,
        engine=best.engine,
        gpu_share=sweep.gpu_share or share,
        cell_memory=sweep.cell_memory or memory,
    )
    return sweep, str(choice)


def _task(sweep: Sweep, losses: Sequence[str], machine: Machine) -> Task:
    """What is to be measured: the loss that takes most, and no more cells at a time than were asked for."""
    # Baselines alone are measured too: losses may follow in the same folder.
    loss = max(losses or LOSSES, key=lambda name: objective_info(name).cost)
    cells = -(-sweep.workers // max(1, machine.gpus))
    if machine.gpus and sweep.gpu_share:
        cells = min(cells or int(1 / sweep.gpu_share), int(1 / sweep.gpu_share))
    return Task(objective=loss, recipe=sweep.recipe, engine=sweep.engine, cells=cells, machine=machine)
