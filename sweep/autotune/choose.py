"""Chooses the fastest engine and number of cells at a time for a machine: measured once, then cached.

Candidates train as a cell does, with its data and augmentation. As many processes train at the same time as cells would
run, because they share cores, caches and GPU. A candidate is dropped if it fails, or if its loss differs from that of
the first one, which is the plain engine if that runs.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import floor

from pydantic import TypeAdapter, ValidationError

from datasets.errors import InputError
from datasets.files import cache_read, cache_write
from datasets.source import Settings, Source
from sweep.autotune.measurement import NO_ROOM, BenchmarkTask, Measure, Measurement, NotMeasuredError, Processes
from sweep.cluster.machine import Machine, check_threads
from sweep.config.sweep import Sweep
from trainables.cell import Cell
from trainables.engine import NO_GPU, PLAIN, Engine, Layout, Precision
from trainables.objective_names import objective_info
from trainables.recipe import KNOWN
from trainables.registry import BASELINES, LOSSES

log = logging.getLogger(__name__)

MARGIN = 1.05
"""A candidate must be this many times faster than the best so far. Repetitions differ by less."""
MOST_LOSS_DIFFERENCE = 0.03
"""Largest relative difference of a candidate's loss from the plain engine's, after some steps."""
COMPILING_PAYS_FROM = 3600.0
"""Seconds of pretraining, all cells together, above which compiling is tried. It takes a minute in each worker."""
MOST_CELLS = 16
"""The most cells at the same time that are tried on a CPU."""
DEFAULT_GPU_SHARE = 0.25
"""Share of a GPU per cell if nothing is measured."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The chosen engine and number of cells at a time, and all measurements."""

    best: Measurement
    plain: Measurement
    compiling: bool
    """Whether compiled candidates were tried."""
    tried: tuple[Measurement, ...]

    def __str__(self) -> str:
        if not self.best.rate:
            return f"{self.best.engine} (the measurements failed; the log says why)"
        gain = self.best.rate / self.plain.rate
        rate = f"{self.best.rate:.0f} images/s"
        return f"{self.best.engine}, {self.best.cells} at a time: {rate}, {gain:.2f} times the plain engine"


def choose_engine(
    sweep: Sweep, missing: Sequence[Cell], machine: Machine, sources: Mapping[Settings, Source], processes: Processes
) -> tuple[Sweep, str]:
    """Choose the engine settings that the sweep leaves open, with measurements on the machine.

    Settings from the command line or from the folder stay.

    Args:
        sweep: the sweep.
        missing: the cells to run.
        machine: the machine that cells go to first.
        sources: settings of the data -> the data.
        processes: where candidates are measured.

    Returns:
        The sweep with its engine, share of a GPU and memory of a cell filled in; the choice as text.

    Raises:
        InputError: a cell would have more threads than the machine has cores, or needs a GPU that it does not have.
    """
    check_threads(sweep.engine.threads, machine.cores, machine.name)
    if sweep.engine.precision == "tf32" and not machine.gpus:
        raise InputError(f"--precision tf32: {machine.name} has no GPU, and only GPUs have this arithmetic; use fp32")
    if sweep.engine.compile == "graph" and not machine.gpus:
        raise InputError(f"--engine.compile graph: {machine.name} has no GPU, and only GPUs record steps; use no")
    if (sweep.engine.settled and (sweep.gpu_share or not machine.gpus)) or sweep.engine.deterministic:
        sweep = replace(sweep, engine=sweep.engine.filled(PLAIN), gpu_share=sweep.gpu_share or DEFAULT_GPU_SHARE)
        return sweep, str(sweep.engine)
    trained = [cell for cell in missing if cell.objective not in BASELINES]
    recipes = sweep.recipes
    stages = [recipes.get(cell.recipe, sweep.recipe).pretrain for cell in trained]
    images = sum(stage.steps * stage.batch for stage in stages)
    choice = cached_choice(_task(sweep, trained, machine, sources), images, processes)
    best = choice.best
    _check_measured(choice, machine)
    share, memory = DEFAULT_GPU_SHARE, round(best.memory / 1e9, 2)
    if machine.gpus:  # rounded down to Ray's precision, so that all fit
        share, memory = floor(1e4 / best.cells) / 1e4, 0.0
    sweep = replace(
        sweep,
        engine=best.engine,
        gpu_share=sweep.gpu_share or share,
        cell_memory=sweep.cell_memory or memory,
    )
    return sweep, str(choice)


def _check_measured(choice: Choice, machine: Machine) -> None:
    """Refuse what no engine can run on a GPU that is too small or cannot be used. The cells report any other failure.

    Raises:
        InputError: no candidate fits, or torch cannot use the GPU.
    """
    faults = [one.fault for one in choice.tried]
    if faults and all(fault.startswith(NO_GPU) for fault in faults):
        raise InputError(f"{machine.name}: {faults[-1]}; python -m sweep.doctor checks its GPUs")
    if machine.gpus and faults and all(fault.startswith(NO_ROOM) for fault in faults):
        raise InputError(
            f"a step of these cells fits with no engine on {machine.name} ({machine.accelerator}), not even with "
            f"--engine.recompute: {faults[-1]}; use fewer pairs (--pretrain.batch), smaller images (--size) or a "
            "larger GPU"
        )


def _task(sweep: Sweep, trained: Sequence[Cell], machine: Machine, sources: Mapping[Settings, Source]) -> BenchmarkTask:
    """The measurement: a cell of the slowest loss, with at most the requested number of cells at a time."""
    # A loss is measured even if only baselines are missing, because losses may follow in the same folder.
    cell = max(
        trained or [Cell(dataset=sweep.dataset, objective=name) for name in LOSSES],
        key=lambda cell: objective_info(cell.objective).cost,
    )
    recipes = sweep.recipes
    recipe = recipes.get(cell.recipe, sweep.recipe if sweep.recipe.data in sources else next(iter(recipes.values())))
    cells = -(-sweep.workers // max(1, machine.gpus))
    if machine.gpus and sweep.gpu_share:
        cells = min(cells or int(1 / sweep.gpu_share), int(1 / sweep.gpu_share))
    return BenchmarkTask(
        cell=cell, recipe=recipe, source=sources[recipe.data], engine=sweep.engine, cells=cells, machine=machine
    )


def cached_choice(task: BenchmarkTask, images: int, processes: Processes) -> Choice:
    """The choice for this task, from the user's cache or by a new measurement.

    Args:
        task: the settings to choose, and the machine.
        images: source images that the whole sweep trains on. They decide whether compiling saves time.
        processes: where candidates are measured.
    """
    name = f"engine-{task.key}.json"
    known = _read_choice(name)
    if known and (known.compiling or task.engine.compile != "auto" or not _compiling_pays(images, known.best)):
        return known
    print("measuring which engine is fastest on this machine; the choice is kept for later sweeps ...", flush=True)
    choice = compare_candidates(task, images, processes)
    for one in choice.tried:
        log.info("engine %s, %d at a time: %.1f images/s %s", one.engine, one.cells, one.rate, one.fault)
    if choice.best.rate:  # 0 if every candidate has failed
        cache_write(name, json.dumps(asdict(choice)).encode())
    return choice


def _read_choice(name: str) -> Choice | None:
    """A choice from the cache; None if there is none of this version."""
    try:
        return TypeAdapter(Choice).validate_json(cache_read(name) or b"")
    except ValidationError:
        return None


def compare_candidates(task: BenchmarkTask, images: int, processes: Processes) -> Choice:
    """Measure the candidates: engines, recorded steps on a GPU, compiled engines, then numbers of cells at a time."""
    splits = _splits(task)
    fallback = Measurement(engine=replace(task.engine.filled(PLAIN), threads=splits[-1][1]), cells=1)
    try:
        with processes(task, max(cells for cells, _ in splits)) as measure:
            comparison = _Comparison(measure, fallback)
            while splits and not comparison.best.rate:  # on a small host only few cells may fit
                cells, threads = splits.pop(0)
                comparison.add(replace(PLAIN, threads=threads), cells, eligible=False)
                for engine in _eager(task, threads):
                    comparison.add(engine, cells)
                if task.machine.gpus and not comparison.best.rate:  # less memory for the same result
                    for engine in _recomputing(task, threads):
                        comparison.add(engine, cells)
                    splits = splits if comparison.best.rate else []  # more cells at a time need more memory
            open_ = task.engine.compile == "auto" and not comparison.best.engine.recompute
            if open_ and task.machine.gpus and comparison.best.rate:
                comparison.add(replace(comparison.best.engine, compile="graph"), comparison.best.cells)
            compiling = open_ and _compiling_pays(images, comparison.best)
            if compiling:
                eager, cells = comparison.best.engine, comparison.best.cells
                for mode in ("default", "reduce-overhead") if task.machine.gpus else ("default",):
                    comparison.add(replace(eager, compile=mode), cells)
            for cells, threads in splits:
                if cells * comparison.best.memory <= comparison.best.room:
                    comparison.add(replace(comparison.best.engine, threads=threads), cells)
    except NotMeasuredError as error:
        log.warning("nothing could be measured: %s", error)
        return Choice(best=fallback, plain=fallback, compiling=False, tried=())
    return Choice(
        best=comparison.best, plain=comparison.plain, compiling=compiling, tried=tuple(comparison.tried.values())
    )


class _Comparison:
    """The candidates so far and the best of them."""

    def __init__(self, measure: Measure, fallback: Measurement) -> None:
        """`fallback` is the result if every candidate fails. The sweep itself then reports why."""
        self._measure, self.best, self.plain = measure, fallback, fallback
        self.tried: dict[tuple[Engine, int], Measurement] = {}

    def add(self, engine: Engine, cells: int, *, eligible: bool = True) -> None:
        """Measure a candidate, and check that it computes the same as the first candidate that could be measured.

        Args:
            engine: the engine.
            cells: number of processes at the same time.
            eligible: whether it may be chosen. Otherwise it only serves as reference.
        """
        measured = self.tried.get((engine, cells)) or self._measure(engine, cells)
        if not measured.fault and not self.plain.rate:
            self.plain = measured
        if not measured.fault and abs(measured.loss - self.plain.loss) > MOST_LOSS_DIFFERENCE * self.plain.loss:
            measured = replace(
                measured, fault=f"its loss is {measured.loss:.4f}, the first engine's {self.plain.loss:.4f}"
            )
        self.tried[engine, cells] = measured
        if eligible and not measured.fault and self._beats_best(measured):
            self.best = measured

    def _beats_best(self, measured: Measurement) -> bool:
        """Whether it is faster than the best, which is measured again before it is replaced.

        Other programs may have slowed the best one's measurement, and the choice is cached for long.
        """
        best = self.best
        if best.rate and measured.rate > MARGIN * best.rate:
            again = self._measure(best.engine, best.cells)
            if again.rate > best.rate:
                self.best = self.tried[best.engine, best.cells] = again
                self.plain = again if self.plain is best else self.plain
        return measured.rate > MARGIN * self.best.rate


def _splits(task: BenchmarkTask) -> list[tuple[int, int]]:
    """The pairs (cells at a time, threads per cell) to try: from many cells to one on a CPU, from one upwards on a GPU.

    Of several GPUs one is measured, with its share of the cores.
    """
    gpus, threads = task.machine.gpus, task.engine.threads
    cores = task.machine.cores // max(1, gpus)
    most = task.cells or (8 if gpus else MOST_CELLS)
    if gpus:
        fitting = max(1, cores // (threads or 1))  # more never run: each cell has its threads' cores to itself
        counts = sorted({min(count, fitting) for count in ([task.cells] if task.cells else [1, 2, 4, 8])})
        return [(count, threads or max(1, cores // count)) for count in counts]
    options = [threads] if threads else sorted({2**k for k in range(cores.bit_length())} | {cores})
    # For the same number of cells, the most threads: fewer would leave cores idle.
    splits = {max(1, min(cores // each, most)): each for each in options if each <= max(1, cores)}
    return sorted(splits.items(), reverse=True)


def _eager(task: BenchmarkTask, threads: int) -> Iterator[Engine]:
    """The engines to try, the plainest first. They are compiled only if the task requires it."""
    requested = task.engine
    precisions: tuple[Precision, ...] = ("fp32", "bf16") if requested.precision == "auto" else (requested.precision,)
    layouts: tuple[Layout, ...] = ("channels_last", "contiguous") if requested.layout == "auto" else (requested.layout,)
    for precision, layout in product(precisions, layouts):
        compiled = "no" if requested.compile == "auto" else requested.compile
        yield Engine(
            precision=precision, layout=layout, compile=compiled, threads=threads, recompute=requested.recompute
        )


def _recomputing(task: BenchmarkTask, threads: int) -> Iterator[Engine]:
    """The engines to try where no other fits."""
    if task.recipe.encoder.name in KNOWN and task.engine.compile in ("auto", "no"):
        for engine in _eager(task, threads):
            yield replace(engine, recompute=True)


def _compiling_pays(images: int, best: Measurement) -> bool:
    """Whether pretraining takes so long that compiling saves more time than it costs."""
    return best.rate > 0 and images / best.rate > COMPILING_PAYS_FROM
