"""A Ray Tune searcher that suggests each cell of a list once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ray.tune.search import Searcher

from trainables.cell import Cell


class GridSearcher(Searcher):
    """Suggests the given cells in their order, then `Searcher.FINISHED`.

    Use it with `num_samples=-1`: with Ray's default of 1 only one cell runs, without a message.
    A suggestion is `{"cell": coordinates, "rate": learning rate or None}`.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        *,
        closed: Callable[[], bool] = lambda: False,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        """`closed` tells whether to suggest no further cell; `rates` maps keys to learning rates."""
        super().__init__()
        self._closed = closed
        self._waiting = [{"cell": asdict(cell), "rate": (rates or {}).get(cell.key)} for cell in cells]

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune pickles its searcher, which holds threads. It is never restored: records tell what is missing."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The next cell, or `Searcher.FINISHED`."""
        if self._closed() or not self._waiting:
            return Searcher.FINISHED
        return self._waiting.pop(0)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Ray requires this method. Results do not change which cells run."""
