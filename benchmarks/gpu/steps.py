"""Our step with data against the bare step, in turn and in blocks: eager, recorded, compiled, and as CUDA graphs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import isfinite
from typing import Any, Literal

from benchmarks.gpu.recipes import ENGINE, MOCO_VIEWS, PAPER, SMALL, XBD, XBD_HOST, cell_of, job_of, tiles_of
from benchmarks.gpu.report import Report, Setting
from benchmarks.speed.common import BLOCK, cores, device, in_turn, peak_memory, ratio
from benchmarks.speed.pretrain import flops
from datasets.registry import open_data
from trainables.device import free_memory, prepare_device
from trainables.engine import Engine
from trainables.profiling.bare_step import bare_step, synchronise
from trainables.profiling.whole_step import whole_step

Case = tuple[str, str]
EAGER: Sequence[Case] = (
    *((SMALL, loss) for loss in ("moco", "cross_image")),
    *((PAPER, loss) for loss in ("moco", "cross_image")),
    (MOCO_VIEWS, "moco"),
    (XBD, "moco"),
    (XBD_HOST, "moco"),
)
RECORDED: Sequence[Case] = ((SMALL, "moco"), (SMALL, "cross_image"), (PAPER, "moco"), (XBD, "moco"))
COMPILED: Sequence[Case] = ((PAPER, "moco"), (SMALL, "moco"), (PAPER, "cross_image"), (XBD, "moco"))
GRAPHS: Sequence[Case] = ((SMALL, "moco"), (SMALL, "cross_image"), (PAPER, "moco"))
LARGE_BLOCK = 5
"""Steps between two waits for steps of xBD, which take some tenths of a second."""


def eager(setting: Setting, report: Report) -> None:
    """Without compilation."""
    compare(EAGER, "no", setting, report)


def recorded(setting: Setting, report: Report) -> None:
    """With our whole step as one CUDA graph; the bare step is not recorded."""
    compare(RECORDED, "graph", setting, report)


def compiled(setting: Setting, report: Report) -> None:
    """With the encoder compiled."""
    compare(COMPILED, "default", setting, report)


def graphs(setting: Setting, report: Report) -> None:
    """With the encoder in CUDA graphs."""
    compare(GRAPHS, "reduce-overhead", setting, report)


def compare(
    cases: Sequence[Case], mode: Literal["no", "graph", "default", "reduce-overhead"], setting: Setting, report: Report
) -> None:
    """Compare both steps in each case."""
    engine = replace(ENGINE, compile=mode)
    prepare_device(engine)
    if engine.compiles:
        from torch._inductor import config  # here, because it takes seconds

        config.compile_threads = cores()  # a cell compiles with its own threads, which takes minutes
    for name, loss in cases:
        case = f"{name}, {loss}"
        with report.case(case), tiles_of(name):
            figures = measure(name, loss, engine, setting)
            report.check(case, isfinite(figures["loss"]), **figures)
        free_memory(device())


def measure(name: str, loss: str, engine: Engine, setting: Setting) -> dict[str, Any]:
    """Compare both steps in one case.

    Returns:
        `ours_ms`, `bare_ms`: median time of a step.
        `of_bare`: bare / ours, 1 if data and augmentation take no time.
        `images_s`, `tflops`: of our step, which sees the first images of pairs.
        `ours_host_ms`, `bare_host_ms`: time of the host to queue a step; launches bound a step that takes no longer.
        `first_s`: time of our first step, with compilation.
        `gbytes`: peak of GPU memory of our step.
        `loss`: after the last of our steps.
    """
    job = job_of(name, setting, engine)
    batch = job.recipe.pretrain.batch
    begun = time.perf_counter()
    ours = whole_step(cell_of(job.recipe, loss), job, open_data(job.recipe.data, job.source, 0, device()))
    ours()
    synchronise(device())
    first = time.perf_counter() - begun
    for _ in range(3):  # a step is recorded after two others
        ours()
    memory = peak_memory()
    bare = bare_step(loss, job.recipe, engine, device())
    block = 1 if setting.tiny else LARGE_BLOCK if name.startswith(XBD) else BLOCK
    times = in_turn([bare, ours], device(), rounds=2 if setting.tiny else 3, block=block)
    return {
        "ours_ms": 1e3 * times[1].median,
        "bare_ms": 1e3 * times[0].median,
        "of_bare": ratio(times[0], times[1]),
        "images_s": batch / times[1].median,
        "tflops": flops(loss, job.recipe) / times[1].median / 1e12,
        "ours_host_ms": 1e3 * queueing(ours, block),
        "bare_host_ms": 1e3 * queueing(bare, block),
        "first_s": first,
        "gbytes": memory,
        "loss": float(ours()),
    }


def queueing(step: Callable[[], object], count: int) -> float:
    """Seconds of the host for a call, without waiting for the GPU at the end."""
    synchronise(device())
    begun = time.perf_counter()
    for _ in range(count):
        step()
    taken = time.perf_counter() - begun
    synchronise(device())
    return taken / count
