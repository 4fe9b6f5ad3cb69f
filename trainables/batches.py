"""The batches of a cell's pretraining: all that a step sends to its device, and which pairs are noisy."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool
from torch import Tensor

from datasets.dataset import Dataset
from datasets.seeding import stream
from datasets.transfer import Packed, Parcel, together
from trainables.cell import Cell
from trainables.objectives.base import Objective
from trainables.recipe import Recipe
from trainables.views import Views, augmenter, downstream_views, training_parcel, training_pool


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """The views of a step, ready to be sent."""

    packed: Packed[Views]
    noisy: Bool[Tensor, " n"]
    """Which pairs are noisy; on the CPU."""

    def views(self) -> Views:
        """Send the batch, and let the device make its views."""
        return self.packed.delivered()


class Batches:
    """A function from a step, from 0 on, to its batch; the same however often and in whatever order it is called.

    If the images themselves must be read and sent to a GPU, a thread packs the next batch during each step.
    """

    def __init__(self, objective: Objective, data: Dataset, cell: Cell, recipe: Recipe) -> None:
        """Read nothing yet."""
        self._objective, self._cell, self._recipe = objective, cell, recipe
        self._parcel = _parcels(objective, data, cell, recipe)
        self._thread: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[Batch]] | None = None

    def __call__(self, step: int) -> Batch:
        """The batch of a step.

        Raises:
            Exception: it cannot be read, in this thread or ahead in the other.
        """
        known = self._next if self._next and self._next[0] == step else None
        batch = known[1].result() if known else self._pack(step)
        if batch.packed.ahead:
            self._thread = self._thread or ThreadPoolExecutor(1, "batches")
            self._next = step + 1, self._thread.submit(self._pack, step + 1)
        return batch

    def close(self) -> None:
        """Drop the batch that is packed ahead, and end the thread."""
        if self._thread:
            self._thread.shutdown(cancel_futures=True)
            self._thread = self._next = None

    def _pack(self, step: int) -> Batch:
        parcel, noisy = self._parcel(step)
        return Batch(packed=parcel.packed(), noisy=noisy)


def _parcels(
    objective: Objective, data: Dataset, cell: Cell, recipe: Recipe
) -> Callable[[int], tuple[Parcel[Views], Bool[Tensor, " n"]]]:
    """A function from a step to the parcel of its views, and which of its pairs are noisy."""
    batch = recipe.pretrain.batch
    if objective.sees == "downstream":
        none = torch.zeros(batch, dtype=torch.bool)

        def downstream(step: int) -> tuple[Parcel[Views], Bool[Tensor, " n"]]:
            return Parcel(data.device, [], lambda: downstream_views(data, cell, recipe, step)), none

        return downstream

    pool, labelled = training_pool(data, cell), objective.sees == "labelled pairs"
    how = augmenter(objective.encoder.engine, data.device)

    def pairs(step: int) -> tuple[Parcel[Views], Bool[Tensor, " n"]]:
        views, noisy = training_parcel(pool, cell, recipe, step, labelled=labelled, how=how)
        drawn = objective.draw(batch, stream(cell.seed, "other image", step + 1))
        if drawn is None:
            return views, noisy
        parcel = together(views, Parcel(data.device, [drawn], lambda sent: sent))
        return parcel.then(lambda made: replace(made[0], drawn=made[1])), noisy

    return pairs
