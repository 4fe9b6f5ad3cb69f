"""What a command leaves to the machine, settled by measuring or by default."""

from collections.abc import Sequence
from dataclasses import replace
from math import floor

from datasets.errors import InputError
from sweep.calibrate import choose
from sweep.config import Sweep
from sweep.grid import COST
from sweep.machine import Machine
from sweep.measure import Task
from trainables.cell import BASELINES, OBJECTIVES, Cell
from trainables.engine import PLAIN

SHARE = 0.25
"""Share of a GPU that a cell takes where nothing is measured."""


def settle(sweep: Sweep, missing: Sequence[Cell], machine: Machine) -> tuple[Sweep, str]:
    """The sweep with nothing left open about how its missing cells are executed, and that in words.

    What is given, or was in the folder, stays; the rest is measured on the machine.

    Raises:
        InputError: a cell is to have more cores than there are.
    """
    if sweep.engine.threads > machine.cores:
        raise InputError(
            f"--threads {sweep.engine.threads}: a cell cannot have more than the {machine.cores} cores here"
        )
    if (sweep.engine.settled and (sweep.gpu_share or not machine.gpus)) or sweep.engine.deterministic:
        sweep = replace(sweep, engine=sweep.engine.filled(PLAIN), gpu_share=sweep.gpu_share or SHARE)
        return sweep, str(sweep.engine)
    losses = [cell.objective for cell in missing if cell.objective not in BASELINES]
    images = len(losses) * sweep.recipe.pretrain.steps * sweep.recipe.pretrain.batch
    choice = choose(_task(sweep, losses, machine), images)
    best = choice.best
    share, memory = SHARE, round(best.memory / 1e9, 2)
    if machine.gpus:  # rounded down as Ray counts, so that all fit
        share, memory = floor(1e4 / best.cells) / 1e4, 0.0
    sweep = replace(
        sweep,
        engine=best.engine,
        gpu_share=sweep.gpu_share or share,
        cell_memory=sweep.cell_memory or memory,
    )
    return sweep, str(choice)


def _task(sweep: Sweep, losses: Sequence[str], machine: Machine) -> Task:
    """What is to be measured: the loss that takes most, and no more cells at a time than were asked for."""
    # Baselines alone are measured too: losses may follow in the same folder.
    loss = max(losses or OBJECTIVES, key=lambda name: COST[name])
    cells = -(-sweep.workers // max(1, machine.gpus))
    if machine.gpus and sweep.gpu_share:
        cells = min(cells or int(1 / sweep.gpu_share), int(1 / sweep.gpu_share))
    return Task(objective=loss, recipe=sweep.recipe, engine=sweep.engine, cells=cells, machine=machine)
