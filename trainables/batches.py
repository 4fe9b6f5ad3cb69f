"""The batches of a cell's pretraining: all that a step sends to its device, and which pairs are noisy."""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool
from torch import Tensor

from datasets.dataset import Dataset, PairPool, TransferPool
from datasets.seeding import stream
from datasets.transfer import Packed, Transfer, together
from trainables.cell import Cell
from trainables.objectives.base import Objective
from trainables.recipe import Recipe
from trainables.views import Views, augmenter, downstream_views, training_pool, training_transfer


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """The views of a step, ready to be sent."""

    packed: Packed[Views]
    noisy: Bool[Tensor, " n"]
    """Which pairs are noisy; on the CPU."""

    def views(self) -> Views:
        """Send the batch, and let the device make its views."""
        return self.packed.sent()


class Batches:
    """A function from a step, from 0 on, to its batch; the same however often and in whatever order it is called.

    If the images themselves must be read and sent to a GPU, a thread packs the next batch during each step.
    """

    def __init__(self, objective: Objective, data: Dataset, cell: Cell, recipe: Recipe) -> None:
        """Read nothing yet."""
        self._objective, self._data, self._cell, self._recipe = objective, data, cell, recipe
        self._pool = None if objective.sees == "downstream" else training_pool(data, cell)
        self._how = augmenter(objective.encoder.engine, data.device)
        self._thread: ThreadPoolExecutor | None = None
        self._next: tuple[int, Future[Batch]] | None = None

    @property
    def recordable(self) -> bool:
        """Whether every step asks the same of the device, but for the contents of its batch."""
        return isinstance(self._pool, TransferPool) and self._objective.recordable

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
        transfer, noisy = self._downstream(step) if self._pool is None else self._pairs(self._pool, step)
        return Batch(packed=transfer.packed(), noisy=noisy)

    def _downstream(self, step: int) -> tuple[Transfer[Views], Bool[Tensor, " n"]]:
        views = partial(downstream_views, self._data, self._cell, self._recipe, step)
        return Transfer(self._data.device, [], views), torch.zeros(self._recipe.pretrain.batch, dtype=torch.bool)

    def _pairs(self, pool: PairPool, step: int) -> tuple[Transfer[Views], Bool[Tensor, " n"]]:
        """Augmented pairs, and what the loss has drawn."""
        cell, labelled = self._cell, self._objective.labelled
        transfer, noisy = training_transfer(pool, cell, self._recipe, step, labelled=labelled, how=self._how)
        drawn = self._objective.draw(len(noisy), stream(cell.seed, "other image", step + 1))
        if drawn is None:
            return transfer, noisy
        both = together(transfer, Transfer(transfer.device, [drawn], lambda sent: sent))
        return both.then(lambda made: replace(made[0], drawn=made[1])), noisy
