"""Times steps of pretraining with one engine, in a process as cells run in. This module does not import Ray."""

import gc
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
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

    @property
    def key(self) -> str:
        """16 hex digits of all that the choice depends on: not the length of training, the weights or free memory."""
        pretrain = replace(self.recipe.pretrain, steps=1000, warmup=0, evaluations=1)
        encoder = replace(self.recipe.encoder, weights=NO_WEIGHTS)
        return digest(
            {
                "timed": "whole steps",
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


def joined(
    task: BenchmarkTask, engine: Engine, losses: Sequence[float], figures: Sequence[tuple[list[float], int, int]]
) -> Measurement:
    """The measurement of processes that trained at the same time, from what `prepare` and `train` of each returned."""
    cells = len(figures)
    rate = sum(task.batch / median(seconds) for seconds, _, _ in figures)
    memory, room = max(memory for _, memory, _ in figures), figures[0][2]
    fault = ""
    if cells > 1 and cells * memory > room:
        fault = f"{cells} x {memory / 1e9:.1f} GB are more than the usable {room / 1e9:.1f} GB"
    return Measurement(engine=engine, cells=cells, rate=rate, memory=memory, room=room, loss=losses[0], fault=fault)


class Trainer:
    """Trains as a cell does, in the thread in which a worker runs cells."""

    def __init__(self, task: BenchmarkTask) -> None:
        """Open the data."""
        self._task = task
        self._recipe = replace(task.recipe, pretrain=replace(task.recipe.pretrain, batch=task.batch))
        self._step: Any = None
        compute(self._open)

    def prepare(self, engine: Engine) -> float:
        """Prepare a training step with this engine; returns the loss after three steps.

        Raises:
            MemoryError: it does not fit.
        """
        return compute(self._prepare, engine)

    def train(self) -> tuple[list[float], int, int]:
        """Train for a second or more.

        Returns:
            Seconds of each step; bytes of memory that the process uses; bytes that all processes may use.
        """
        return compute(self._train)

    def release(self) -> None:
        """Free the memory of the engine that was measured last."""
        compute(self._release)

    def _open(self) -> None:
        import torch  # here, because the driver does not import torch

        from datasets.registry import open_data

        self._device = torch.device("cuda" if self._task.machine.gpus else "cpu")
        self._data = open_data(self._recipe.data, self._task.source, self._task.cell.seed, self._device)
        self._baseline = _peak_memory()

    def _prepare(self, engine: Engine) -> float:
        from trainables.device import out_of_memory, prepare_device
        from trainables.profiling.whole_step import whole_step

        self._release()
        prepare_device(engine, needs_gpu=self._task.machine.gpus > 0)
        job = CellJob(recipe=self._recipe, source=self._task.source, engine=engine)
        try:
            step = whole_step(self._task.cell, job, self._data)
            losses = [float(step()) for _ in range(3)]
        except Exception as error:
            if out_of_memory(error):
                raise MemoryError(f"{NO_ROOM}: {error}") from error
            raise
        self._step = step
        return losses[-1]

    def _release(self) -> None:
        """Free the last step: its compiled functions hold tensors, and CUDA graphs have memory pools of their own."""
        import torch

        self._step = None
        if "torch._dynamo" in sys.modules:  # otherwise nothing was compiled, and the import takes seconds
            torch.compiler.reset()
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def _train(self) -> tuple[list[float], int, int]:
        import torch

        from trainables.profiling.bare_step import seconds_of

        # A cell does not wait for its GPU after each step, so neither does this: the next step is queued meanwhile.
        block = 10 if self._device.type == "cuda" else 1
        seconds = seconds_of(self._step, self._device, least=3, budget=1.0, block=block)
        if self._device.type == "cuda":
            total = torch.cuda.get_device_properties(self._device).total_memory
            return seconds, torch.cuda.max_memory_reserved() + CUDA_CONTEXT, int(USABLE_GPU_MEMORY * total)
        # The memory of torch and of the data does not grow with the batch; the rest does.
        grown = _peak_memory() - self._baseline
        taken = self._baseline + grown * self._task.recipe.pretrain.batch // self._task.batch
        return seconds, taken, self._task.machine.memory


def _peak_memory() -> int:
    """Peak memory of this process, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, Linux KiB
