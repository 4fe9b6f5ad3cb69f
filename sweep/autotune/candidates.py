"""Which engines and numbers of cells at a time are tried on a machine, the most promising first."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

from sweep.autotune.measurement import BenchmarkTask
from trainables.engine import PLAIN, Engine, Layout, Precision
from trainables.recipe import KNOWN

MOST_CELLS = 16
"""The most cells at the same time that are tried on a CPU."""


def splits(task: BenchmarkTask) -> list[tuple[int, int]]:
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
    found = {max(1, min(cores // each, most)): each for each in options if each <= max(1, cores)}
    return sorted(found.items(), reverse=True)


def likely_best(task: BenchmarkTask, threads: int) -> Engine:
    """The engine that the GPU or the processor is known to do well. Values that the task requires stay."""
    precision: Precision = "bf16" if task.machine.gpus or task.machine.bf16 else "fp32"
    return replace(task.engine.filled(replace(PLAIN, precision=precision)), threads=threads)


def eager(task: BenchmarkTask, threads: int) -> Iterator[Engine]:
    """The engines to try, the likely best first, then the plainer first. They are compiled only if the task says so."""
    requested = task.engine
    precisions: tuple[Precision, ...] = ("fp32", "bf16") if requested.precision == "auto" else (requested.precision,)
    layouts: tuple[Layout, ...] = ("channels_last", "contiguous") if requested.layout == "auto" else (requested.layout,)
    first = likely_best(task, threads)
    yield first
    for layout, precision in product(layouts, precisions):
        engine = replace(first, precision=precision, layout=layout)
        if engine != first:
            yield engine


def recomputing(task: BenchmarkTask, threads: int) -> Iterator[Engine]:
    """The engines to try where no other fits."""
    if task.recipe.encoder.name in KNOWN and task.engine.compile in ("auto", "no"):
        for engine in eager(task, threads):
            yield replace(engine, recompute=True)
