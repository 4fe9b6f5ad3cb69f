"""What a command leaves to the machine, settled by measuring or by default."""

from collections.abc import Sequence
from dataclasses import replace

from datasets.errors import InputError
from sweep.calibrate import choose
from sweep.config import Sweep
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
    gpu = machine.device == "cuda"
    settled = sweep.engine.settled and (sweep.gpu_share or not gpu)
    if settled or sweep.engine.deterministic:
        sweep = replace(sweep, engine=sweep.engine.filled(PLAIN), gpu_share=sweep.gpu_share or SHARE)
        return sweep, str(sweep.engine)
    losses = [cell.objective for cell in missing if cell.objective not in BASELINES]
    # Baselines alone are measured too: losses may follow in the same folder.
    loss = losses[0] if losses else OBJECTIVES[0]
    task = Task(objective=loss, recipe=sweep.recipe, engine=sweep.engine, cells=sweep.workers, machine=machine)
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
