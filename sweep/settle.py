"""What a command leaves to the machine, settled: by what the folder began with, by measuring, or by default."""

from collections.abc import Sequence
from dataclasses import fields, replace

from datasets.errors import InputError
from sweep.calibrate import choose
from sweep.config import Sweep
from sweep.machine import Machine
from sweep.measure import Task
from trainables.cell import BASELINES, Cell
from trainables.engine import Engine

SHARE = 0.25
"""Share of a GPU that a cell takes where nothing is measured."""


def settle(sweep: Sweep, before: Sweep | None, missing: Sequence[Cell], machine: Machine) -> tuple[Sweep, str]:
    """The sweep with nothing left open about how its missing cells are executed, and where that comes from.

    What is given wins, then what the folder's earlier commands ran with (its cells are to be compared with each other),
    then what is measured on the machine.

    Raises:
        InputError: a cell is to have more cores than there are.
    """
    if before:
        sweep = replace(
            sweep,
            engine=_filled(sweep.engine, before.engine),
            gpu_share=sweep.gpu_share or before.gpu_share,
            cell_memory=sweep.cell_memory or before.cell_memory,
        )
    if sweep.engine.threads > machine.cores:
        raise InputError(
            f"--threads {sweep.engine.threads}: a cell cannot have more than the {machine.cores} cores here"
        )
    gpu = machine.device == "cuda"
    losses = [cell.objective for cell in missing if cell.objective not in BASELINES]
    settled = sweep.engine.settled and (sweep.gpu_share or not gpu)
    if not losses or settled or sweep.engine.deterministic:
        sweep = replace(sweep, engine=sweep.engine.plain(), gpu_share=sweep.gpu_share or SHARE)
        return sweep, f"{sweep.engine} ({'as before' if before else 'as given'})"
    task = Task(objective=losses[0], recipe=sweep.recipe, engine=sweep.engine, cells=sweep.workers, machine=machine)
    images = len(losses) * sweep.recipe.pretrain.steps * sweep.recipe.pretrain.batch
    choice = choose(task, images)
    share, memory = SHARE, 0.0
    if gpu:
        share = max(1 / choice.best.cells, min(1.0, choice.best.memory / choice.best.room))
    else:
        memory = round(choice.best.memory / 1e9, 2)
    sweep = replace(
        sweep,
        engine=choice.best.engine,
        gpu_share=sweep.gpu_share or share,
        cell_memory=sweep.cell_memory or memory,
    )
    return sweep, str(choice)


def _filled(engine: Engine, before: Engine) -> Engine:
    """`engine` with what it leaves open taken from `before`."""
    free = [field.name for field in fields(Engine) if getattr(engine, field.name) in ("auto", 0)]
    return replace(engine, **{name: getattr(before, name) for name in free if name != "deterministic"})
