"""What all cells of a sweep have in common. No torch here: the driver makes it and sends it to its workers."""

from dataclasses import dataclass
from pathlib import Path

from datasets.source import Source
from trainables.engine import PLAIN, Engine
from trainables.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class CellJob:
    """Everything that `run_cell` needs besides the coordinates of a cell."""

    recipe: Recipe
    source: Source
    """The data, loaded by the settings in the recipe."""
    engine: Engine = PLAIN
    """How cells are executed, without `auto` settings. The caller sets the number of threads."""
    imagenet: Path | None = None
    """File with weights for the baseline `imagenet`."""
