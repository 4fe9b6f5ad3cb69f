"""The step of pretraining as in a cell: pairs, rendering, augmentation, and everything in `bare_step`."""

from collections.abc import Callable
from itertools import count

from torch import Tensor

from datasets.dataset import Dataset
from datasets.seeding import stream
from trainables.batches import Batches
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.pretrain import cell_objective
from trainables.recorded import stepper
from trainables.run_cell import first_encoder
from trainables.training import Training


def whole_step(cell: Cell, job: CellJob, data: Dataset) -> Callable[[], Tensor]:
    """A function that does the next step of a cell's pretraining, and returns its loss, on the device of the data.

    Args:
        cell: the coordinates, of a loss.
        job: recipe and engine. The caller sets the number of threads.
        data: opened, for the cell's seed.
    """
    objective = cell_objective(first_encoder(cell, job).to(data.device), data, cell, job.recipe)
    training, load = Training(objective, job.recipe.pretrain, data.device), Batches(objective, data, cell, job.recipe)
    advance, steps = stepper(training, load), count(1)

    def step() -> Tensor:
        number = next(steps)
        return advance(load(number - 1), stream(cell.seed, "other image", number))

    return step
