"""The same bits again, and after an interruption: whole cells with the deterministic engine, also if recorded."""

import os
from dataclasses import replace
from hashlib import blake2b
from itertools import count
from pathlib import Path

from safetensors.torch import load_file

from benchmarks.gpu.recipes import ENGINE, SMALL, cell_of, job_of
from benchmarks.gpu.report import Report, Setting
from benchmarks.speed.common import device
from datasets.vts.config import VtsSettings
from sweep.config.sweep import LOSSES
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.checkpoints import Checkpoints, StoppedError, newest_first
from trainables.device import prepare_device
from trainables.run_cell import run_cell

TIMES = ("seconds", "pretrain_seconds", "probe_seconds", "images_per_second")
"""Metrics in which two runs of one cell differ."""
STOP = 3
"""The cell is stopped after this step."""

TOLERANCE = 0.001
"""Relative difference of the training losses of recorded and eager steps."""

Result = dict[str, float | str]
"""Metrics without times, and a digest of the encoder's weights."""


def run(setting: Setting, report: Report) -> None:
    """Run a cell of each of the paper's losses twice, and once with an interruption: all must be equal.

    Then the same with its steps recorded, which may round in another way.
    """
    engine = replace(ENGINE, deterministic=True)
    os.environ.update(engine.variables)  # torch reads them when it first uses the GPU
    prepare_device(engine)
    job = shortened(job_of(SMALL, setting, engine))
    recorded = replace(job, engine=replace(engine, compile="graph"))
    folder = Path(setting.folder) / "same bits"
    for loss in (*LOSSES, "supervised"):
        with report.case(loss):
            cell = cell_of(job.recipe, loss)
            first = compare(loss, cell, job, folder / "eager", report)
            again = compare(f"{loss}, recorded", cell, recorded, folder / "recorded", report)
            difference = abs(float(again["pretrain_loss"]) / float(first["pretrain_loss"]) - 1)
            report.check(f"{loss}, recorded as eager", difference < TOLERANCE, relative_difference=difference)


def compare(title: str, cell: Cell, job: CellJob, folder: Path, report: Report) -> Result:
    """Run a cell three times, report whether the results are equal, and return the first."""
    folder.mkdir(parents=True, exist_ok=True)
    first = result(cell, job, folder)
    for name, second in (
        ("again", result(cell, job, folder)),
        ("stopped and resumed", resumed(cell, job, folder)),
    ):
        differing = differences(first, second)
        report.check(f"{title}, {name}", not differing, differing=differing)
    return first


def shortened(job: CellJob) -> CellJob:
    """The job with cells that take a second, and that have no evaluation before the step at which one is stopped."""
    recipe, data = job.recipe, job.recipe.data
    assert isinstance(data, VtsSettings)
    few = replace(data, train=min(256, data.train), val=min(64, data.val), test=min(64, data.test))
    pretrain = replace(recipe.pretrain, steps=min(12, recipe.pretrain.steps), warmup=0, evaluations=1)
    probe = replace(recipe.probe, steps=min(12, recipe.probe.steps), evaluations=2)
    return replace(job, recipe=replace(recipe, data=few, pretrain=pretrain, probe=probe))


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
