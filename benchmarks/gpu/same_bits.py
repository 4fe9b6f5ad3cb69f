"""The same bits again, and after an interruption: whole cells with the deterministic engine."""

import os
from dataclasses import replace
from hashlib import blake2b
from itertools import count
from pathlib import Path

from safetensors.torch import load_file

from benchmarks.gpu.recipes import ENGINE, SMALL, cell_of, job_of
from benchmarks.gpu.report import Report, Setting
from benchmarks.speed.common import device
from sweep.cluster.environment import portable_variables
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.checkpoints import Checkpoints, StoppedError, newest_first
from trainables.device import prepare_device
from trainables.registry import LOSSES
from trainables.run_cell import run_cell

TIMES = ("seconds", "pretrain_seconds", "probe_seconds", "images_per_second")
"""Metrics in which two runs of one cell differ."""
STOP = 3
"""The cell is stopped after this step."""

Result = dict[str, float | str]
"""Metrics without times, and a digest of the encoder's weights."""


def run(setting: Setting, report: Report) -> None:
    """Run a cell of each loss twice, and once with an interruption. All three must be equal."""
    engine = replace(ENGINE, deterministic=True)
    os.environ.update(portable_variables(engine))  # torch reads them when it first uses the GPU
    prepare_device(engine)
    job = shortened(job_of(SMALL, setting, engine))
    folder = Path(setting.folder) / "same bits"
    folder.mkdir()
    for loss in (*LOSSES, "supervised"):
        with report.case(loss):
            cell = cell_of(job.recipe, loss)
            first = result(cell, job, folder)
            for name, second in (
                ("again", result(cell, job, folder)),
                ("stopped and resumed", resumed(cell, job, folder)),
            ):
                differing = differences(first, second)
                report.check(f"{loss}, {name}", not differing, differing=differing)


def shortened(job: CellJob) -> CellJob:
    """The job with cells that take seconds, and that have no evaluation before the step at which one is stopped."""
    recipe = job.recipe
    pretrain = replace(recipe.pretrain, steps=min(12, recipe.pretrain.steps), warmup=0, evaluations=1)
    probe = replace(recipe.probe, steps=min(12, recipe.probe.steps), evaluations=2)
    return replace(job, recipe=replace(recipe, pretrain=pretrain, probe=probe))


def result(cell: Cell, job: CellJob, folder: Path, checkpoints: Checkpoints | None = None) -> Result:
    """Run a cell, from its checkpoint if there is one.

    Raises:
        StoppedError: the checkpoints stop it.
    """
    file = folder / "encoder.safetensors"
    metrics = run_cell(cell, job, device(), report=lambda *point: None, checkpoints=checkpoints, export_to=file)
    return {name: value for name, value in metrics.items() if name not in TIMES} | {"encoder": _digest(file)}


def resumed(cell: Cell, job: CellJob, folder: Path) -> Result:
    """Stop a cell in pretraining, and resume it.

    Raises:
        RuntimeError: it was not stopped, or its checkpoint is not used.
    """
    place, calls, said = folder / cell.key, count(1), list[str]()
    try:
        result(cell, job, folder, Checkpoints(place, "same", heartbeat=lambda: next(calls) == STOP))
    except StoppedError:
        written = [path.name for path in newest_first(place)]
    else:
        raise RuntimeError(f"the cell was not stopped after step {STOP}")
    found = result(cell, job, folder, Checkpoints(place, "same", notify=said.append))
    if written != [f"pretrain-{STOP}.ckpt"] or said:
        raise RuntimeError(f"the checkpoint of step {STOP} was not used: {[*written, *said]}")
    return found


def differences(first: Result, second: Result) -> list[str]:
    """The names of values that differ. NaN equals NaN."""
    return sorted(name for name in first if repr(first[name]) != repr(second[name]))


def _digest(file: Path) -> str:
    """A digest of the tensors in a file, whose header may name them in any order."""
    found = blake2b(digest_size=8)
    for name, tensor in sorted(load_file(file).items()):
        found.update(name.encode() + tensor.numpy().tobytes())
    return found.hexdigest()
