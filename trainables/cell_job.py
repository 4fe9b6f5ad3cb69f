"""What all cells of a sweep have in common. No torch here: a driver makes it and hands it to its workers."""

from dataclasses import dataclass
from pathlib import Path

from datasets.source import Source
from trainables.engine import PLAIN, Engine
from trainables.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class CellJob:
    """Everything that `run_cell` needs to know of a cell but its coordinates."""

    recipe: Recipe
    source: Source
    """The data that the recipe names, loaded by its settings."""
    engine: Engine = PLAIN
    """How a cell is executed, with nothing left to be measured; its threads are for the caller to set."""
    imagenet: Path | None = None
    """File of weights for the baseline of that name."""
