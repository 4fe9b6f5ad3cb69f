"""A Ray Tune searcher that suggests an explicit list of cells, each once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ray.tune.search import Searcher

from trainables.cell import Cell


class GridSearcher(Searcher):
    """Suggests exactly the given cells, in their order, then says that it is finished.

    Use it with `num_samples=-1`: with Ray's default of 1 a searcher runs one cell and says nothing.
    A suggestion is `{"cell": {...}}`, the cell's coordinates, with its learning rate where `rates` has one.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        *,
        closed: Callable[[], bool] = lambda: False,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        """`closed` tells whether no further cell is to be suggested; `rates` maps keys to learning rates."""
        super().__init__()
        self._closed = closed
        self._waiting = [{"cell": asdict(cell), "rate": (rates or {}).get(cell.key)} for cell in cells]

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher for a restore that is never asked for, and threads cannot be pickled."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The next cell, or `Searcher.FINISHED`."""
        if self._closed() or not self._waiting:
            return Searcher.FINISHED
        return self._waiting.pop(0)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Nothing to learn: what a cell gave does not change which cells are run."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: records tell what is missing."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""
