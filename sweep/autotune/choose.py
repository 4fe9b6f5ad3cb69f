"""Chooses the fastest engine and number of cells at a time for a machine: measured once, then cached.

Candidates train as a cell does, with its data and augmentation. As many processes train at the same time as cells would
run, because they share cores, caches and GPU.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from math import floor

from pydantic import TypeAdapter, ValidationError

from datasets.errors import InputError
from datasets.files import cache_read, cache_write
from datasets.source import Settings, Source
from sweep.autotune.comparison import Choice, compare_candidates, compiling_pays, time_limit
from sweep.autotune.measurement import NO_ROOM, BenchmarkTask, Processes
from sweep.cluster.machine import Machine, check_threads
from sweep.config.sweep import LOSSES, Sweep
from trainables.cell import Cell
from trainables.engine import NO_GPU, PLAIN
from trainables.objective_names import objective_info
from trainables.registry import BASELINES, losses_for

log = logging.getLogger(__name__)

DEFAULT_GPU_SHARE = 0.25
"""Share of a GPU per cell if nothing is measured."""
KEPT = "this choice is kept for later sweeps; --measure-again makes it anew"


def choose_engine(
    sweep: Sweep, missing: Sequence[Cell], machine: Machine, sources: Mapping[Settings, Source], processes: Processes
) -> tuple[Sweep, str]:
    """Choose the engine settings that the sweep leaves open, with measurements on the machine.

    Settings from the command line or from the folder stay.

    Args:
        sweep: the sweep.
        missing: the cells to run.
        machine: the machine that cells go to first.
        sources: settings of the data -> the data.
        processes: where candidates are measured.

    Returns:
        The sweep with its engine, share of a GPU and memory of a cell filled in; the choice as text.

    Raises:
        InputError: a cell would have more threads than the machine has cores, or needs a GPU that it does not have.
    """
    check_threads(sweep.engine.threads, machine.cores, machine.name)
    if sweep.engine.precision == "tf32" and not machine.gpus:
        raise InputError(f"--precision tf32: {machine.name} has no GPU, and only GPUs have this arithmetic; use fp32")
    if sweep.engine.compile == "graph" and not machine.gpus:
        raise InputError(f"--engine.compile graph: {machine.name} has no GPU, and only GPUs record steps; use no")
    if (sweep.engine.settled and (sweep.gpu_share or not machine.gpus)) or sweep.engine.deterministic:
        sweep = replace(sweep, engine=sweep.engine.filled(PLAIN), gpu_share=sweep.gpu_share or DEFAULT_GPU_SHARE)
        return sweep, str(sweep.engine)
    trained = [cell for cell in missing if cell.objective not in BASELINES]
    recipes = sweep.recipes
    stages = [recipes.get(cell.recipe, sweep.recipe).pretrain for cell in trained]
    images = sum(stage.steps * stage.batch for stage in stages)
    choice = cached_choice(_task(sweep, trained, machine, sources), images, processes)
    best = choice.best
    _check_measured(choice, machine)
    share, memory = DEFAULT_GPU_SHARE, round(best.memory / 1e9, 2)
    if machine.gpus:  # rounded down to Ray's precision, so that all fit
        share, memory = floor(1e4 / best.cells) / 1e4, 0.0
    sweep = replace(
        sweep,
        engine=best.engine,
        gpu_share=sweep.gpu_share or share,
        cell_memory=sweep.cell_memory or memory,
        measure_again=False,
    )
    return sweep, str(choice)


def _check_measured(choice: Choice, machine: Machine) -> None:
    """Refuse what no engine can run on a GPU that is too small or cannot be used. The cells report any other failure.

    Raises:
        InputError: no candidate fits, or torch cannot use the GPU.
    """
    faults = [one.fault for one in choice.tried]
    if faults and all(fault.startswith(NO_GPU) for fault in faults):
        raise InputError(f"{machine.name}: {faults[-1]}; python -m sweep.doctor checks its GPUs")
    if machine.gpus and faults and all(fault.startswith(NO_ROOM) for fault in faults):
        raise InputError(
            f"a step of these cells fits with no engine on {machine.name} ({machine.accelerator}), not even with "
            f"--engine.recompute: {faults[-1]}; use fewer pairs (--pretrain.batch), smaller images (--size) or a "
            "larger GPU"
        )


def _task(sweep: Sweep, trained: Sequence[Cell], machine: Machine, sources: Mapping[Settings, Source]) -> BenchmarkTask:
    """The measurement: a cell of the slowest loss, with at most the requested number of cells at a time."""
    # A loss is measured even if only baselines are missing, because losses may follow in the same folder.
    usable = losses_for(sweep.recipe.data.task)
    cell = max(
        trained or [Cell(dataset=sweep.dataset, objective=name) for name in LOSSES if name in usable],
        key=lambda cell: objective_info(cell.objective).cost,
    )
    recipes = sweep.recipes
    recipe = recipes.get(cell.recipe, sweep.recipe if sweep.recipe.data in sources else next(iter(recipes.values())))
    cells = -(-sweep.workers // max(1, machine.gpus))
    if machine.gpus and sweep.gpu_share:
        cells = min(cells or int(1 / sweep.gpu_share), int(1 / sweep.gpu_share))
    return BenchmarkTask(
        cell=cell,
        recipe=recipe,
        source=sources[recipe.data],
        engine=sweep.engine,
        cells=cells,
        machine=machine,
        again=sweep.measure_again,
    )


def cached_choice(task: BenchmarkTask, images: int, processes: Processes) -> Choice:
    """The choice for this task, from the user's cache or by a new measurement.

    Args:
        task: the settings to choose, and the machine.
        images: source images that the whole sweep trains on. They decide how long measuring may take, and whether
            compiling saves time.
        processes: where candidates are measured.
    """
    name = f"engine-{task.key}.json"
    known = None if task.again else _read_choice(name)
    if known and _suffices(known, task, images):
        return known
    print("measuring which engine is fastest on this machine, for a minute at most ...", flush=True)
    choice = compare_candidates(task, images, processes)
    for one in choice.tried:
        log.info("engine %s, %d at a time: %.1f images/s %s", one.engine, one.cells, one.rate, one.fault)
    if not choice.best.rate:  # every candidate has failed
        return choice
    fault = choice.doubt or cache_write(name, json.dumps(asdict(choice)).encode())
    remedy = "the next new folder measures again, and so does --measure-again"
    print(f"this choice is not kept for later sweeps: {fault}; {remedy}" if fault else KEPT, flush=True)
    return choice


def _suffices(known: Choice, task: BenchmarkTask, images: int) -> bool:
    """Whether a sweep that trains on so many images would measure no further candidates."""
    longer = task.engine.compile == "auto" and not known.compiling and compiling_pays(task, images, known.best)
    return not longer and known.seconds >= time_limit(images, known.plain.rate)


def _read_choice(name: str) -> Choice | None:
    """A choice from the cache; None if there is none of this version."""
    try:
        return TypeAdapter(Choice).validate_json(cache_read(name) or b"")
    except ValidationError:
        return None
