"""Several cells on one card: processes that train at the same time, as Ray's workers do."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import mean
from threading import BrokenBarrierError
from typing import Any

from benchmarks.gpu.recipes import ENGINE, SMALL, cell_of, job_of
from benchmarks.gpu.report import Report, Setting
from benchmarks.speed.common import block_on, device, peak_memory, warm_up
from datasets.registry import open_data
from trainables.device import prepare_device
from trainables.profiling.bare_step import seconds_of
from trainables.profiling.whole_step import whole_step

COUNTS = (1, 2, 4)
"""Cells at the same time."""
SECONDS = 3.0
"""Seconds of training."""
READY = 120.0
"""Seconds within which all processes must be ready."""


def run(setting: Setting, report: Report) -> None:
    """Train in 1, 2 and 4 processes."""
    alone = 0.0
    for count in COUNTS[:2] if setting.tiny else COUNTS:
        case = f"{count} at a time"
        with report.case(case):
            found = together(setting, count)
            rate = sum(images for images, _ in found)
            alone = alone or rate
            report.row(case, images_s=rate, times=rate / alone, gbytes=sum(memory for _, memory in found))


def together(setting: Setting, count: int) -> list[tuple[float, float]]:
    """Images per second and GB of GPU memory of each process."""
    context = get_context("spawn")  # a process that uses a GPU cannot be forked
    with context.Manager() as manager, ProcessPoolExecutor(count, context) as processes:
        ready: Any = manager.Barrier(count)
        # None can take the work of two, because each waits for all others.
        running = [processes.submit(train, setting, ready) for _ in range(count)]
        errors = [error for one in running if (error := one.exception())]
        # Where one cannot get ready, the others say that the barrier is broken.
        for error in sorted(errors, key=lambda error: isinstance(error, BrokenBarrierError)):
            raise error
        return [one.result() for one in running]


def train(setting: Setting, ready: Any) -> tuple[float, float]:
    """Train for some seconds once all processes have passed the barrier `ready`.

    Returns:
        Images per second; GB of GPU memory.
    """
    try:
        prepare_device(ENGINE)
        job = job_of(SMALL, setting)
        step = whole_step(cell_of(job.recipe, "moco"), job, open_data(job.recipe.data, job.source, 0, device()))
        warm_up(step, device(), 3)
    except Exception:
        ready.abort()
        raise
    ready.wait(READY)
    budget = 0.2 if setting.tiny else SECONDS
    seconds = seconds_of(step, device(), least=1, budget=budget, block=block_on(device()))
    return job.recipe.pretrain.batch / mean(seconds), peak_memory()
