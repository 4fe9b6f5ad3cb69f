"""A Ray Tune searcher that suggests each cell of a queue once."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ray.tune.search import Searcher

from sweep.tune.admission import CellQueue


class GridSearcher(Searcher):
    """Suggests the cells of a queue, then `Searcher.FINISHED`.

    Use it with `num_samples=-1`: with Ray's default of 1 only one cell runs, without a message.
    A suggestion is `{"cell": coordinates, "rate": learning rate or None}`.
    """

    def __init__(
        self,
        queue: CellQueue,
        *,
        closed: Callable[[], bool] = lambda: False,
        busy: Callable[[], bool] = lambda: False,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        """The searcher of a queue.

        Args:
            queue: the cells.
            closed: returns whether to suggest no further cell.
            busy: returns whether a cell runs. While it does, cells of other drivers may become free.
            rates: key -> learning rate.
        """
        super().__init__()
        self._queue, self._closed, self._busy, self._rates = queue, closed, busy, rates or {}

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune pickles its searcher, which holds threads. It is never restored: records tell what is missing."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The next cell; None if Tune must ask again later; or `Searcher.FINISHED`."""
        if self._closed():
            return Searcher.FINISHED
        if cell := self._queue.take():
            return {"cell": asdict(cell), "rate": self._rates.get(cell.key)}
        return None if self._busy() or not self._queue.is_over() else Searcher.FINISHED

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Ray requires this method. Results do not change which cells run."""
