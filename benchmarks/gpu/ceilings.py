"""What the machine can do at most: matrix products, memory, copies to the GPU, and the cost of a launch."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from benchmarks.gpu.recipes import ENGINE
from benchmarks.gpu.report import Report, Setting
from benchmarks.speed.common import device, header, time_it
from benchmarks.speed.pretrain import matrix_rate, matrix_size
from trainables.device import prepare_device
from trainables.engine import Precision
from trainables.profiling.bare_step import synchronise

PRECISIONS: Sequence[tuple[Precision, torch.dtype]] = (
    ("bf16", torch.bfloat16),
    ("tf32", torch.float32),
    ("fp32", torch.float32),
)
COPIED = 2**30
"""Bytes of the arrays that are copied, many times more than caches hold."""
LAUNCHES = 2000
"""Launches that are timed together."""


def machine(setting: Setting, report: Report) -> None:
    """Describe the machine."""
    facts: dict[str, object] = {**header()}
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        facts |= {
            "gpus": torch.cuda.device_count(),
            "gpu gbytes": gpu.total_memory / 1e9,
            "compute capability": f"{gpu.major}.{gpu.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    report.row("machine", **facts)


def run(setting: Setting, report: Report) -> None:
    """Measure all of it."""
    prepare_device(ENGINE)
    where = device()
    size = 256 if setting.tiny else matrix_size(where)
    for precision, dtype in PRECISIONS:
        with report.case(f"matrix product, {precision}"):
            if precision == "tf32" and where.type != "cuda":
                report.skip(f"matrix product, {precision}", "no GPU")
                continue
            prepare_device(replace(ENGINE, precision=precision))
            report.row(f"matrix product, {precision}", rows=size, tflops=matrix_rate(dtype, size) / 1e12)
    count = 2**16 if setting.tiny else COPIED
    with report.case("copy within memory"):
        source = torch.zeros(count, dtype=torch.uint8, device=where)
        target = torch.empty_like(source)
        # Each byte is read and written.
        report.row("copy within memory", gbytes_s=2 * _rate(lambda: target.copy_(source), count))
    for pinned in (True, False):
        name = f"copy to the GPU from {'pinned' if pinned else 'pageable'} memory"
        with report.case(name):
            if where.type != "cuda":
                report.skip(name, "no GPU")
                continue
            host = torch.zeros(count // 4, dtype=torch.uint8, pin_memory=pinned)
            place = torch.empty_like(host, device=where)
            report.row(name, gbytes_s=_rate(lambda a=place, b=host: a.copy_(b, non_blocking=True), count // 4))  # type: ignore[misc]
    with report.case("launch"):
        report.row("launch", host_us=1e6 * launch_seconds(where))


def launch_seconds(where: torch.device) -> float:
    """Seconds of the host for an operation on one number, without waiting for its result."""
    number = torch.zeros(1, device=where)
    synchronise(where)
    begun = time.perf_counter()
    for _ in range(LAUNCHES):
        number.add_(1)
    taken = time.perf_counter() - begun
    synchronise(where)
    return taken / LAUNCHES


def _rate(copy: Callable[[], object], count: int) -> float:
    """GB a second."""
    return count / 1e9 / time_it(copy, device(), budget=0.2).median
