"""Waits of the host for the GPU within a step, by line of ours. There should be none: the GPU would idle after each."""

import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from unittest.mock import patch

import torch

from benchmarks.gpu.recipes import ENGINE, SMALL, XBD, XBD_HOST, cell_of, job_of, tiles_of
from benchmarks.gpu.report import Report, Setting, line_of_ours
from benchmarks.speed.common import device
from datasets.registry import open_data
from sweep.config.sweep import LOSSES
from trainables.device import prepare_device
from trainables.profiling.whole_step import whole_step

RECORDED = replace(ENGINE, compile="graph")
CASES = (
    *((SMALL, loss, ENGINE) for loss in (*LOSSES, "supervised")),
    *((XBD, loss, ENGINE) for loss in ("moco", "cross_image")),
    (XBD_HOST, "moco", ENGINE),
    *((name, "moco", RECORDED) for name in (SMALL, XBD)),
)
SAID = "synchronizing"
"""A part of torch's warning. Another one says that its mode is a prototype."""


def run(setting: Setting, report: Report) -> None:
    """Look at the fifth step of each case, when what happens once is over."""
    for name, loss, engine in CASES:
        prepare_device(engine)
        case = f"{name}, {loss}{', recorded' * (engine is RECORDED)}"
        with report.case(case), tiles_of(name):
            job = job_of(name, setting, engine)
            step = whole_step(cell_of(job.recipe, loss), job, open_data(job.recipe.data, job.source, 0, device()))
            for _ in range(4):
                step()
            if device().type != "cuda":
                report.skip(case, "no GPU")
                continue
            waits = waits_of(step)
            report.check(case, not waits, waits=dict(waits))


def waits_of(work: Callable[[], object]) -> Counter[str]:
    """How often a call waits for the GPU, by the innermost line of ours."""
    found = Counter[str]()

    def note(message: Warning | str, *_: object, **__: object) -> None:
        if SAID in str(message):
            found[line_of_ours(traceback.extract_stack()[:-1])] += 1  # without this line

    with warnings.catch_warnings(), patch.object(warnings, "showwarning", note):
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return found
