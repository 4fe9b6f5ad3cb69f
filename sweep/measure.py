"""Ray actors that train at the same time, as cells would, and say how long their steps take."""

import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from math import floor
from statistics import median
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.machine import Machine, host_memory
from trainables.cell import digest
from trainables.engine import Engine
from trainables.recipe import Recipe

PIXELS = 2**20
"""Pixels of a batch that a CPU measures with; a larger batch is cut: its time grows with them, its ranking does not."""

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
    """Memory there is for all of them, bytes."""
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
        """16 hex digits. How long training goes on is left out."""
        pretrain = replace(self.recipe.pretrain, steps=1000, warmup=0, evaluations=1)
        return digest(asdict(replace(self, recipe=replace(self.recipe, pretrain=pretrain))))

    @property
    def batch(self) -> int:
        """Pairs a step that are measured with."""
        batch = self.recipe.pretrain.batch
        return batch if self.machine.device == "cuda" else max(2, min(batch, PIXELS // self.recipe.vts.size**2))


Ask = Callable[[Engine, int], Measured]
"""(engine, processes) -> what they measured when they trained at once."""


@contextmanager
def processes(task: Task, count: int) -> Iterator[Ask]:
    """Processes on one machine, which train at the same time when asked to; one that died is replaced."""
    # No cores are asked of Ray, so that no count is too large for a machine; threads are set by hand.
    gpu = floor(1e4 / count) / 1e4 if task.machine.device == "cuda" else 0.0
    actor: Any = ray.remote(num_cpus=0, num_gpus=gpu)(_Trainer)
    first = actor.remote(task)
    node = ray.get(first.node.remote(), timeout=PATIENCE)
    beside = actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))
    running = [first, *(beside.remote(task) for _ in range(count - 1))]

    def ask(engine: Engine, cells: int) -> Measured:
        answers = []
        for number, answer in enumerate([one.train.remote(engine) for one in running[:cells]]):
            try:
                answers.append(ray.get(answer, timeout=PATIENCE))
            except RayError as error:  # whatever it is, this engine is not for this machine
                answers.append({"fault": " ".join(str(getattr(error, "cause", error)).split())[:200]})
                ray.kill(running[number])
                running[number] = beside.remote(task)
        return _together(engine, answers, task.batch)

    try:
        yield ask
    finally:
        for one in running:
            ray.kill(one)


def _together(engine: Engine, answers: Sequence[dict], batch: int) -> Measured:
    """Add up the rates of processes that trained at once."""
    faults = [answer["fault"] for answer in answers if "fault" in answer]
    if faults:
        return Measured(engine=engine, cells=len(answers), fault=faults[0])
    return Measured(
        engine=engine,
        cells=len(answers),
        rate=sum(batch / median(answer["seconds"]) for answer in answers),
        memory=max(answer["memory"] for answer in answers),
        room=answers[0]["room"],
        loss=answers[0]["loss"],
    )


class _Trainer:
    """A process that trains on random views."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def node(self) -> str:
        """Ray's name of the node it runs on."""
        return ray.get_runtime_context().get_node_id()

    def train(self, engine: Engine) -> dict:
        """Steps with one engine: seconds of each, memory, and the loss after the first three."""
        import torch  # here, because the driver does without it

        from trainables.timing import bare_step, seconds_of

        task, device = self.task, torch.device(self.task.machine.device)
        torch.set_num_threads(engine.threads)
        torch.backends.cudnn.benchmark = True
        step = bare_step(task.objective, task.recipe, engine, device, batch=task.batch)
        losses = [float(step()) for _ in range(3)]
        seconds = seconds_of(step, device, least=3, budget=1.0)
        if device.type == "cuda":
            memory, room = torch.cuda.max_memory_reserved(), torch.cuda.get_device_properties(device).total_memory
        else:
            # macOS counts bytes, Linux KiB. A batch that was cut needs less; what a process needs in any case is small.
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            memory, room = memory * task.recipe.pretrain.batch // task.batch, host_memory()
        return {"seconds": seconds, "loss": losses[-1], "memory": memory, "room": room}
