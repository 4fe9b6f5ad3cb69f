"""A Ray Tune searcher that hands out an explicit list of cells, each once."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from trainables.cell import Cell


class GridSearcher(Searcher):
    """Hands out exactly the given cells, in their order, then says that it is finished.

    Use it with `num_samples=-1`: with Ray's default of 1 a searcher runs one cell and says nothing.
    A suggestion is `{"cell": {...}}`, the cell's coordinates.
    """

    def __init__(
        self,
        cells: Sequence[Cell],
        *,
        closed: Callable[[], bool] = lambda: False,
        beside: Callable[[Cell], Mapping[str, Any]] | None = None,
    ) -> None:
        """`closed` tells whether no further cell is to be handed out; `beside` what is suggested beside a cell."""
        super().__init__()
        self._closed = closed
        self._waiting = [{"cell": asdict(cell), **(beside(cell) if beside else {})} for cell in cells]

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune writes its searcher down for a restore that is never asked for, and threads cannot be."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The next cell, or `Searcher.FINISHED`."""
        if self._closed() or not self._waiting:
            return Searcher.FINISHED
        return self._waiting.pop(0)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Nothing to learn: what a cell gave does not change which cells are run."""

    def save(self, checkpoint_path: str) -> None:
        """Write the cells not yet handed out."""
        Path(checkpoint_path).write_text(json.dumps(self._waiting))

    def restore(self, checkpoint_path: str) -> None:
        """Take up the cells that `save` wrote."""
        self._waiting = json.loads(Path(checkpoint_path).read_text())
