"""Whole cells: on a GPU as on a CPU, and twice with each engine, in the thread of a sweep and in new threads.

Ray Tune calls a worker in a new thread for each cell. A sweep therefore runs cells in one thread of the worker, which
keeps cuDNN's plans and CUDA graphs. The cells in new threads show what that saves; their errors are no failures.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import torch

from benchmarks.gpu.recipes import ENGINE, SMALL, cell_of, job_of, recipe_of, source_of
from benchmarks.gpu.report import Report, Setting
from benchmarks.speed.common import device
from datasets.errors import describe_error
from sweep.tune.compute import compute
from trainables.cell_job import CellJob
from trainables.device import prepare_device
from trainables.engine import PLAIN, Engine
from trainables.run_cell import run_cell

SHOWN = ("seconds", "pretrain_seconds", "probe_seconds", "images_per_second", "pretrain_val_loss", "test_f1_macro")
TOLERANCE = 0.01
"""Relative difference of validation losses after some steps in IEEE arithmetic: rounding, enlarged by training."""

Call = Callable[..., dict[str, float]]


def run(setting: Setting, report: Report) -> None:
    """Run all of them."""
    with report.case("a GPU as a CPU"):
        as_on_cpu(setting, report)
    job = job_of(SMALL, setting)
    if not setting.tiny:
        pretrain = replace(job.recipe.pretrain, steps=60, warmup=0, evaluations=2)
        probe = replace(job.recipe.probe, steps=40, evaluations=2)
        job = replace(job, recipe=replace(job.recipe, pretrain=pretrain, probe=probe))
    # CUDA graphs last: what they leave in a thread may disturb others.
    engines = (
        ("eager", ENGINE),
        ("recorded", replace(ENGINE, compile="graph")),
        ("CUDA graphs", replace(ENGINE, compile="reduce-overhead")),
    )
    for title, engine in engines:
        if engine.compile != "no" and device().type != "cuda":
            report.skip(title, "no GPU")
            continue
        for turn in ("first", "second"):
            with report.case(f"{title}, in the thread of a sweep, {turn}"):
                report.row(f"{title}, in the thread of a sweep, {turn}", **cell(job, engine, compute))
        for turn in ("first", "second"):
            case = f"{title}, in a new thread, {turn}"
            try:
                report.row(case, **cell(job, engine, in_new_thread))
            except Exception as error:
                report.row(case, note=describe_error(error))


def as_on_cpu(setting: Setting, report: Report) -> None:
    """Compare the validation loss of a small cell on both devices."""
    recipe = recipe_of("vts-smoke", tiny=False)
    job = CellJob(recipe=recipe, source=source_of(recipe, setting))
    losses = [cell(job, PLAIN, compute, where)["pretrain_val_loss"] for where in (torch.device("cpu"), device())]
    difference = abs(losses[1] / losses[0] - 1)
    if device().type != "cuda":
        report.skip("a GPU as a CPU", "no GPU")
    else:
        report.check("a GPU as a CPU", difference < TOLERANCE, relative_difference=difference)


def cell(job: CellJob, engine: Engine, call: Call, where: torch.device | None = None) -> dict[str, float]:
    """Run a cell of MoCo by `call`, and return the metrics that are shown."""

    def whole() -> dict[str, float]:
        prepare_device(engine)
        silent: Any = lambda *point: None  # noqa: E731
        return run_cell(cell_of(job.recipe, "moco"), replace(job, engine=engine), where or device(), report=silent)

    found = call(whole)
    return {name: float(found[name]) for name in SHOWN}


def in_new_thread(work: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Call it in a thread that ends with it."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()
