"""Ray actors that train at the same time, as cells do, and time their steps."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import floor
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.autotune.measurement import BenchmarkTask, Measure, Measurement, NotMeasuredError, Trainer, joined
from trainables.engine import Engine

TIMEOUT = 600.0
"""Seconds within which a process must answer."""


@contextmanager
def benchmark_processes(task: BenchmarkTask, count: int) -> Iterator[Measure]:
    """Start processes on one machine that train at the same time on request. A process that dies is replaced.

    Raises:
        NotMeasuredError: Ray cannot start them.
    """
    # The processes request no cores from Ray, so that any number of them fits; each sets its threads.
    gpu = floor(1e4 / count) / 1e4 if task.machine.gpus else 0.0
    actor: Any = ray.remote(num_cpus=0, num_gpus=gpu)(Trainer)
    placed = actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(task.machine.id, soft=False))
    running: list[Any] = []
    shared = ray.put(task)  # the data once for all of them

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
                running[number] = placed.remote(shared)
        return results, (faults or [""])[0]

    def measure(engine: Engine, cells: int) -> Measurement:
        # All processes are ready before any is timed. Otherwise the first ones would have the machine to themselves.
        losses, fault = collect([one.prepare.remote(engine) for one in running[:cells]])
        if not fault:
            figures, fault = collect([one.train.remote() for one in running[:cells]])
        if fault:
            return Measurement(engine=engine, cells=cells, fault=fault)
        return joined(task, engine, losses, figures)

    try:
        running += [placed.remote(shared) for _ in range(count)]
        # Their start is not measured. What is wrong with one is found out when it is used.
        ray.wait([one.__ray_ready__.remote() for one in running], num_returns=count, timeout=TIMEOUT)
        yield measure
    except RayError as error:
        raise NotMeasuredError(" ".join(str(error).split())) from error
    finally:
        for one in running:
            ray.kill(one)
