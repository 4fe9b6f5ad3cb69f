"""Ray actors that train at the same time, as cells would, and say how long their steps take."""

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
"""Pixels of a batch that a CPU measures with; a larger batch is cut: its time grows with them, its ranking does not."""

CONTEXT = 600 * 2**20
"""Bytes of a GPU that each process takes besides torch's tensors."""
SAFE = 0.85
"""Share of a GPU's memory that cells may fill: what they hold besides a step (scenes, features) is not measured."""
PATIENCE = 600.0
"""Seconds after which a process that has not answered counts as failed."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One candidate: an engine, run by `cells` processes at once."""

    engine: Engine
    cells: int
    rate: float = 0.0
    """Source images a second, all processes together, data left out."""
    memory: int = 0
    """Largest memory of one process, bytes: of the GPU where there is one, of the host otherwise."""
    room: int = 0
    """Memory that there is for all of them, bytes."""
    loss: float = 0.0
    """Training loss after some steps."""
    fault: str = ""
    """Why it is out."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is measured: everything that the answer depends on, so that it names its place in the cache too."""

    objective: str
    recipe: Recipe
    engine: Engine
    """As asked for: `auto` and 0 are free."""
    cells: int
    """Cells at the same time; 0 is free."""
    machine: Machine

    @property
    def key(self) -> str:
        """16 hex digits of all that the answer depends on. Not the length of training, nor the memory that is free."""
        pretrain = replace(self.recipe.pretrain, steps=1000, warmup=0, evaluations=1)
        machine = {"hardware": self.machine.hardware, "cores": self.machine.cores, "gpus": self.machine.gpus}
        task = asdict(replace(self, recipe=replace(self.recipe, pretrain=pretrain)))
        return digest(task | {"machine": machine, "torch": version("torch")})

    @property
    def batch(self) -> int:
        """Pairs a step that are measured with."""
        batch = self.recipe.pretrain.batch
        return batch if self.machine.gpus else max(2, min(batch, PIXELS // self.recipe.data.size**2))


Ask = Callable[[Engine, int], Measured]
"""(engine, processes) -> what they measured when they trained at once."""


@contextmanager
def processes(task: Task, count: int) -> Iterator[Ask]:
    """Processes on one machine, which train at the same time when asked to; one that died is replaced."""
    # No cores are asked of Ray, so that no count is too large for a machine; threads are set by hand.
    gpu = floor(1e4 / count) / 1e4 if task.machine.gpus else 0.0
    actor: Any = ray.remote(num_cpus=0, num_gpus=gpu)(_Trainer)
    there = actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(task.machine.id, soft=False))
    running = [there.remote(task) for _ in range(count)]

    def together(answers: Sequence[Any]) -> tuple[list[Any], str]:
        """What all processes answer, and the first fault; the place of a process with a fault is taken by another."""
        found: list[Any] = []
        faults = []
        for number, answer in enumerate(answers):
            try:
                found.append(ray.get(answer, timeout=PATIENCE))
            except RayError as error:  # whatever it is, this engine is not for this machine
                faults.append(" ".join(str(getattr(error, "cause", error)).split())[:200])
                ray.kill(running[number])
                running[number] = there.remote(task)
        return found, (faults or [""])[0]

    def ask(engine: Engine, cells: int) -> Measured:
        # All are ready before any is timed: else those that are would be timed alone.
        losses, fault = together([one.prepare.remote(engine) for one in running[:cells]])
        if not fault:
            figures, fault = together([one.train.remote() for one in running[:cells]])
        if fault:
            return Measured(engine=engine, cells=cells, fault=fault)
        rate = sum(task.batch / median(seconds) for seconds, _, _ in figures)
        memory, room = max(memory for _, memory, _ in figures), figures[0][2]
        if cells > 1 and cells * memory > room:
            fault = f"{cells} x {memory / 1e9:.1f} GB are more than the {room / 1e9:.1f} GB there are"
        return Measured(engine=engine, cells=cells, rate=rate, memory=memory, room=room, loss=losses[0], fault=fault)

    try:
        yield ask
    finally:
        for one in running:
            ray.kill(one)


class _Trainer:
    """A process that trains on random views."""

    def __init__(self, task: Task) -> None:
        import torch  # here, because the driver does without it

        self._task, self._device = task, torch.device("cuda" if task.machine.gpus else "cpu")
        torch.backends.cudnn.benchmark = True
        self._step: Any = None
        self._without = _peak_memory()

    def prepare(self, engine: Engine) -> float:
        """Make a step with this engine, and the loss after three of them."""
        import torch

        from trainables.profiling.bare_step import bare_step

        self._step = None
        torch.set_num_threads(engine.threads)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        self._step = bare_step(self._task.objective, self._task.recipe, engine, self._device, batch=self._task.batch)
        return [float(self._step()) for _ in range(3)][-1]

    def train(self) -> tuple[list[float], int, int]:
        """Seconds of steps, for a second or more; bytes that such a process takes, and that there are."""
        import torch

        from trainables.profiling.bare_step import seconds_of

        seconds = seconds_of(self._step, self._device, least=3, budget=1.0)
        if self._device.type == "cuda":
            total = torch.cuda.get_device_properties(self._device).total_memory
            return seconds, torch.cuda.max_memory_reserved() + CONTEXT, int(SAFE * total)
        # What torch itself needs does not grow with the batch, the rest does.
        grown = _peak_memory() - self._without
        taken = self._without + grown * self._task.recipe.pretrain.batch // self._task.batch
        return seconds, taken, self._task.machine.memory


def _peak_memory() -> int:
    """Largest memory of this process so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # macOS counts bytes, Linux KiB
