"""Ray actors that train at the same time, as cells do, and time their steps."""

import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from math import floor
from statistics import median
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.cluster.machine import Machine
from trainables.cell import digest
from trainables.engine import Engine
from trainables.recipe import Recipe

PIXELS = 2**20
"""The most pixels of a batch on a CPU. Larger batches are cut, which does not change the ranking of engines."""

CUDA_CONTEXT = 600 * 2**20
"""Bytes of GPU memory that each process needs in addition to torch's tensors."""
USABLE_GPU_MEMORY = 0.85
"""Share of a GPU's memory that steps may fill. Cells also hold scenes and features, which are not measured."""
NO_ROOM = "not enough memory"
"""The fault of a candidate that does not fit begins with this."""
TIMEOUT = 600.0
"""Seconds within which a process must answer."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One candidate, an engine with `cells` processes at the same time, and its measurement."""

    engine: Engine
    cells: int
    rate: float = 0.0
    """Source images per second, all processes together, without loading data."""
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

    objective: str
    recipe: Recipe
    engine: Engine
    """The requested engine; values `auto` and 0 are open."""
    cells: int
    """Cells at the same time; 0: open."""
    machine: Machine

    @property
    def key(self) -> str:
        """16 hex digits of everything that the choice depends on. Length of training and free memory do not matter."""
        pretrain = replace(self.recipe.pretrain, steps=1000, warmup=0, evaluations=1)
        machine = {"hardware": self.machine.hardware, "cores": self.machine.cores, "gpus": self.machine.gpus}
        task = asdict(replace(self, recipe=replace(self.recipe, pretrain=pretrain)))
        return digest(task | {"machine": machine, "torch": version("torch")})

    @property
    def batch(self) -> int:
        """Pairs per step in the measurement."""
        batch = self.recipe.pretrain.batch
        return batch if self.machine.gpus else max(2, min(batch, PIXELS // self.recipe.data.size**2))


Measure = Callable[[Engine, int], Measurement]
"""(engine, number of processes) -> the measurement while they train at the same time."""


@contextmanager
def benchmark_processes(task: BenchmarkTask, count: int) -> Iterator[Measure]:
    """Start processes on one machine that train at the same time on request. A process that dies is replaced."""
    # The processes request no cores from Ray, so that any number of them fits; each sets its threads.
    gpu = floor(1e4 / count) / 1e4 if task.machine.gpus else 0.0
    actor: Any = ray.remote(num_cpus=0, num_gpus=gpu)(_Trainer)
    placed = actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(task.machine.id, soft=False))
    running = [placed.remote(task) for _ in range(count)]

    def collect(references: Sequence[Any]) -> tuple[list[Any], str]:
        """The results of all processes, and the first error. A process with an error is replaced."""
        results: list[Any] = []
        faults = []
        for number, reference in enumerate(references):
            try:
                results.append(ray.get(reference, timeout=TIMEOUT))
            except RayError as error:  # any error: this engine does not run on this machine
                faults.append(" ".join(str(getattr(error, "cause", error)).split())[:200])
                ray.kill(running[number])
                running[number] = placed.remote(task)
        return results, (faults or [""])[0]

    def measure(engine: Engine, cells: int) -> Measurement:
        # All processes are ready before any is timed. Otherwise the first ones would have the machine to themselves.
        losses, fault = collect([one.prepare.remote(engine) for one in running[:cells]])
        if not fault:
            figures, fault = collect([one.train.remote() for one in running[:cells]])
        if fault:
            return Measurement(engine=engine, cells=cells, fault=fault)
        rate = sum(task.batch / median(seconds) for seconds, _, _ in figures)
        memory, room = max(memory for _, memory, _ in figures), figures[0][2]
        if cells > 1 and cells * memory > room:
            fault = f"{cells} x {memory / 1e9:.1f} GB are more than the usable {room / 1e9:.1f} GB"
        return Measurement(engine=engine, cells=cells, rate=rate, memory=memory, room=room, loss=losses[0], fault=fault)

    try:
        yield measure
    finally:
        for one in running:
            ray.kill(one)


class _Trainer:
    """Ray actor that trains on random views."""

    def __init__(self, task: BenchmarkTask) -> None:
        import torch  # here, because the driver does not import torch

        self._task, self._device = task, torch.device("cuda" if task.machine.gpus else "cpu")
        self._step: Any = None
        self._baseline = _peak_memory()

    def prepare(self, engine: Engine) -> float:
        """Prepare a training step with this engine; returns the loss after three steps.

        Raises:
            MemoryError: it does not fit.
        """
        import torch

        from trainables.device import out_of_memory, prepare_device
        from trainables.profiling.bare_step import bare_step

        self._step = None
        prepare_device(engine, needs_gpu=self._task.machine.gpus > 0)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            step = bare_step(self._task.objective, self._task.recipe, engine, self._device, batch=self._task.batch)
            losses = [float(step()) for _ in range(3)]
        except Exception as error:
            if out_of_memory(error):
                raise MemoryError(f"{NO_ROOM}: {error}") from error
            raise
        self._step = step
        return losses[-1]

    def train(self) -> tuple[list[float], int, int]:
        """Train for a second or more.

        Returns:
            Seconds of each step; bytes of memory that the process uses; bytes that all processes may use.
        """
        import torch

        from trainables.profiling.bare_step import seconds_of

        seconds = seconds_of(self._step, self._device, least=3, budget=1.0)
        if self._device.type == "cuda":
            total = torch.cuda.get_device_properties(self._device).total_memory
            return seconds, torch.cuda.max_memory_reserved() + CUDA_CONTEXT, int(USABLE_GPU_MEMORY * total)
        # The memory of torch itself does not grow with the batch; the rest does.
        grown = _peak_memory() - self._baseline
        taken = self._baseline + grown * self._task.recipe.pretrain.batch // self._task.batch
        return seconds, taken, self._task.machine.memory


def _peak_memory() -> int:
    """Peak memory of this process, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, Linux KiB
