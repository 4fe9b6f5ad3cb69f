"""Times steps of pretraining with one engine, in a process as cells run in. This module does not import Ray."""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from datasets.errors import describe_error
from datasets.source import Source
from sweep.cluster.machine import Machine
from sweep.tune.compute import compute
from trainables.cell import Cell, digest
from trainables.cell_job import CellJob
from trainables.engine import Engine
from trainables.recipe import Recipe
from trainables.weights_file import NO_WEIGHTS

PIXELS = 2**20
"""The most pixels of a batch on a CPU. Larger batches are cut, which does not change the ranking of engines."""
CUDA_CONTEXT = 600 * 2**20
"""Bytes of GPU memory that each process needs in addition to torch's tensors."""
USABLE_GPU_MEMORY = 0.85
"""Share of a GPU's memory that steps may fill. The probe of a cell also holds features, which are not measured."""
MOST_DELAYED, MOST_SPREAD = 0.1, 0.2
"""A measurement with more is disturbed: see `Measurement`."""
NO_ROOM = "not enough memory"
"""The fault of a candidate that does not fit begins with this."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One candidate, an engine with `cells` processes at the same time, and its measurement."""

    engine: Engine
    cells: int
    rate: float = 0.0
    """Source images per second, all processes together."""
    memory: int = 0
    """Peak memory of one process, bytes: GPU memory, or host memory without a GPU."""
    room: int = 0
    """Memory that all processes together may use, bytes."""
    loss: float = 0.0
    """Training loss after some steps."""
    fault: str = ""
    """Why it cannot be chosen; empty if it can."""
    delayed: float = 0.0
    """Share of the time in which threads waited for a core that another program had."""
    spread: float = 0.0
    """How much longer the median step took than the fastest, as a share of the fastest."""

    @property
    def disturbance(self) -> str:
        """Why its rate may be wrong; empty without a reason."""
        if self.delayed > MOST_DELAYED:
            return f"other programs had its cores for {100 * self.delayed:.0f} % of the time"
        if self.spread > MOST_SPREAD:
            return f"most of its steps took {100 * self.spread:.0f} % longer than the fastest"
        return ""


@dataclass(frozen=True, kw_only=True)
class BenchmarkTask:
    """Everything that the choice depends on. Its `key` names the choice in the cache."""

    cell: Cell
    """The cell whose steps are timed."""
    recipe: Recipe
    source: Source
    """The data of the recipe."""
    engine: Engine
    """The requested engine; values `auto` and 0 are open."""
    cells: int
    """Cells at the same time; 0: open."""
    machine: Machine
    again: bool = False
    """Whether to measure although a choice is remembered."""

    @property
    def key(self) -> str:
        """16 hex digits of all that the choice depends on: not the length of training, the weights or free memory."""
        pretrain = replace(self.recipe.pretrain, steps=1000, warmup=0, evaluations=1)
        encoder = replace(self.recipe.encoder, weights=NO_WEIGHTS)
        return digest(
            {
                "timed": "whole steps, in CPU time",
                "objective": self.cell.objective,
                "recipe": asdict(replace(self.recipe, pretrain=pretrain, encoder=encoder)),
                "engine": asdict(self.engine),
                "cells": self.cells,
                "machine": {
                    "hardware": self.machine.hardware,
                    "cores": self.machine.cores,
                    "gpus": self.machine.gpus,
                },
                "torch": version("torch"),
            }
        )

    @property
    def batch(self) -> int:
        """Pairs per step in the measurement."""
        batch = self.recipe.pretrain.batch
        return batch if self.machine.gpus else max(2, min(batch, PIXELS // self.recipe.data.size**2))


Measure = Callable[[Engine, int], Measurement]
"""(engine, number of processes) -> the measurement while they train at the same time."""
Processes = Callable[[BenchmarkTask, int], AbstractContextManager[Measure]]
"""(task, the most processes at the same time) -> a context in which candidates are measured."""


class NotMeasuredError(Exception):
    """Processes for measurements could not be started, or were lost."""


@contextmanager
def in_this_process(task: BenchmarkTask, count: int) -> Iterator[Measure]:
    """Measure in this process, which can run one cell at a time."""
    trainer: Trainer | None = None
    with suppress(Exception):  # its start is not measured; an error comes again with the first candidate
        trainer = Trainer(task)

    def measure(engine: Engine, cells: int) -> Measurement:
        nonlocal trainer
        try:
            trainer = trainer or Trainer(task)
            loss = trainer.prepare(engine)
            return joined(task, engine, [loss], [trainer.train()])
        except Exception as error:  # any error: this engine does not run on this machine
            return Measurement(engine=engine, cells=cells, fault=describe_error(error)[:200])

    try:
        yield measure
    finally:
        if trainer:
            trainer.release()


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one process has measured while it trained."""

    seconds: list[float]
    """Of each step."""
    memory: int
    """Bytes that the process uses."""
    room: int
    """Bytes that all processes may use."""
    delayed: float
    """See `Measurement`."""


def joined(task: BenchmarkTask, engine: Engine, losses: Sequence[float], figures: Sequence[Figures]) -> Measurement:
    """The measurement of processes that trained at the same time, from what `prepare` and `train` of each returned."""
    cells = len(figures)
    memory, room = max(one.memory for one in figures), figures[0].room
    fault = ""
    if cells > 1 and cells * memory > room:
        fault = f"{cells} x {memory / 1e9:.1f} GB are more than the usable {room / 1e9:.1f} GB"
    return Measurement(
        engine=engine,
        cells=cells,
        rate=sum(task.batch / median(one.seconds) for one in figures),
        memory=memory,
        room=room,
        loss=losses[0],
        fault=fault,
        delayed=max(one.delayed for one in figures),
        spread=max(median(one.seconds) / min(one.seconds) - 1 for one in figures),
    )


class Trainer:
    """Trains as a cell does, in the thread in which a worker runs cells."""

    def __init__(self, task: BenchmarkTask) -> None:
        """Open the data."""
        self._task = task
        self._recipe = replace(task.recipe, pretrain=replace(task.recipe.pretrain, batch=task.batch))
        self._step: Any = None
        self._threads = 1
        compute(self._open)

    def prepare(self, engine: Engine) -> float:
        """Prepare a training step with this engine; returns the loss after some steps.

        Raises:
            MemoryError: it does not fit.
        """
        return compute(self._prepare, engine)

    def train(self) -> Figures:
        """Train for a second or more."""
        return compute(self._train)

    def release(self) -> None:
        """Free the memory of the engine that was measured last."""
        compute(self._release)

    def _open(self) -> None:
        import torch  # here, because the driver does not import torch

        from datasets.registry import open_data
        from datasets.source import aimed

        self._device = torch.device("cuda" if self._task.machine.gpus else "cpu")
        source = aimed(self._task.source, self._recipe.probe.target)
        self._data = open_data(self._recipe.data, source, self._task.cell.seed, self._device)
        self._baseline = _peak_memory()

    def _prepare(self, engine: Engine) -> float:
        from trainables.device import out_of_memory, prepare_device
        from trainables.profiling.whole_step import whole_step

        self._release()
        prepare_device(engine, needs_gpu=self._task.machine.gpus > 0)
        job = CellJob(recipe=self._recipe, source=self._task.source, engine=engine)
        try:
            step = whole_step(self._task.cell, job, self._data)
            # On a GPU, the last two repeat a recorded step, if it was recorded, with other batches.
            losses = [float(step()) for _ in range(5 if self._device.type == "cuda" else 3)]
        except Exception as error:
            if out_of_memory(error):
                raise MemoryError(f"{NO_ROOM}: {error}") from error
            raise
        self._step, self._threads = step, engine.threads
        return losses[-1]

    def _release(self) -> None:
        """Free the last step."""
        from trainables.device import free_memory

        self._step = None
        free_memory(self._device)

    def _train(self) -> Figures:
        import torch

        from trainables.profiling.bare_step import seconds_of

        on_gpu = self._device.type == "cuda"
        # A cell does not wait for its GPU after each step, so neither does this: the next step is queued meanwhile.
        block = 10 if on_gpu else 1
        # One thread that computes all the time takes as much CPU time whatever else runs. Several wait for each other.
        clock = time.perf_counter if on_gpu or self._threads > 1 else time.process_time
        began, waited = time.perf_counter(), waited_for_cores()
        seconds = seconds_of(self._step, self._device, least=3, budget=1.0, block=block, clock=clock)
        # At most 1, although a process has a few threads besides those that compute.
        delayed = min(1.0, (waited_for_cores() - waited) / ((time.perf_counter() - began) * self._threads))
        if on_gpu:
            total = torch.cuda.get_device_properties(self._device).total_memory
            memory, room = torch.cuda.max_memory_reserved() + CUDA_CONTEXT, int(USABLE_GPU_MEMORY * total)
        else:  # the memory of torch and of the data does not grow with the batch; the rest does
            grown = _peak_memory() - self._baseline
            memory = self._baseline + grown * self._task.recipe.pretrain.batch // self._task.batch
            room = self._task.machine.memory
        return Figures(seconds=seconds, memory=memory, room=room, delayed=delayed)


def waited_for_cores(process: Path = Path("/proc/self")) -> float:
    """Seconds that the threads of this process have waited for a core, added up; 0 where the system does not tell."""
    nanoseconds = 0
    for thread in process.glob("task/*/schedstat"):
        with suppress(OSError, IndexError, ValueError):  # the thread has ended
            nanoseconds += int(thread.read_text().split()[1])
    return nanoseconds / 1e9


def _peak_memory() -> int:
    """Peak memory of this process, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, Linux KiB
