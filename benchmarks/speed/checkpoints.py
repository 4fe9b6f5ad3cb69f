"""Checkpoints: how long they stop a step, and which share of the time that is with one every 60 s."""

import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.common import Table, Timing, best_engine, device, main, time_it
from benchmarks.speed.pretrain import settings
from datasets.seeding import seeded, stream
from sweep.presets import preset
from trainables.checkpoints import Checkpoints, newest_first
from trainables.engine import Engine
from trainables.models.encoders import make_encoder
from trainables.objectives.base import make_objective
from trainables.pretrain import Training
from trainables.recipe import Recipe
from trainables.views import Views

EVERY = 60.0
"""Seconds between two checkpoints, the default of a sweep."""


def run() -> list[Table]:
    """Checkpoints of MoCo, the largest ones: a `vts-quick` cell, and ResNet-18 at batch 64, 128 px."""
    table = Table(
        f"A checkpoint every {EVERY:g} s: a step stops while it is copied; then a thread writes it",
        (
            *("cell", "MB", "step, ms", "stopped, ms", "written in, s", "CPU, s"),
            *("step meanwhile, ms", "% stopped", "% with no core free"),
        ),
    )
    quick = preset("vts-quick").recipe
    before = torch.get_num_threads()
    for name, recipe, threads in (
        ("vts-quick, 1 thread", quick, 1),
        ("ResNet-18, all cores", settings(128, 64), before),
    ):
        torch.set_num_threads(threads)
        table.add(name, *measure(recipe, replace(best_engine(), threads=threads)))
    torch.set_num_threads(before)
    table.notes.append("CPU: time for copying, hashing and writing a checkpoint; it slows training if no core is free")
    table.show()
    return [table]


def measure(recipe: Recipe, engine: Engine, *, rounds: int = 7) -> tuple[float, ...]:
    """The columns of the table after the name."""
    step, state = training(recipe, engine)
    plain = time_it(step, device(), warm=2, least=5, budget=3.0).median
    stopped, written, cpu = list[float](), list[float](), list[float]()
    meanwhile: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder) / "cell", "benchmark", every=0.0)
        for number in range(rounds):
            begun, begun_cpu = time.perf_counter(), time.process_time()
            checkpoints.after_step("pretrain", number, state)
            stopped.append(time.perf_counter() - begun)
            checkpoints.close()
            written.append(time.perf_counter() - begun)
            cpu.append(time.process_time() - begun_cpu)
            checkpoints.after_step("pretrain", rounds + number, state)
            while checkpoints.writing:
                meanwhile += time_it(step, device(), warm=0, least=1, budget=0.0).seconds
            checkpoints.close()
        size = newest_first(Path(folder) / "cell")[0].stat().st_size / 1e6
    middle = [Timing(tuple(each)).median for each in (stopped, written, cpu, meanwhile)]
    return (
        *(size, 1e3 * plain, 1e3 * middle[0], middle[1], middle[2], 1e3 * middle[3]),
        *(100 * middle[0] / EVERY, 100 * middle[2] / EVERY),
    )


def training(recipe: Recipe, engine: Engine) -> tuple[Callable[[], object], Callable[[], dict[str, Any]]]:
    """A step of pretraining on random views, and the content of its checkpoint, with the best weights so far."""
    draws, shape = (
        stream(0, "benchmark"),
        (recipe.pretrain.batch, recipe.data.bands, recipe.data.size, recipe.data.size),
    )
    with seeded(0, "benchmark"):
        encoder = make_encoder(recipe.encoder, engine)
        trained = Training(make_objective("moco", encoder, recipe, draws), recipe.pretrain, device())
    images = torch.rand(2, *shape, generator=draws).to(device())
    views = Views(first=images[0], second=images[1], first_labels=None, second_labels=None)
    best = deepcopy(encoder.state_dict())
    return lambda: trained.step(views, draws), lambda: {"training": trained.state_dict(), "best_weights": best}


if __name__ == "__main__":
    main("benchmarks.speed.checkpoints", run)
