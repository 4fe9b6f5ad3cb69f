"""What all cells of a sweep have in common. No torch here: the driver makes it and sends it to its workers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets.source import Source, aimed
from trainables.cell import Cell
from trainables.engine import PLAIN, Engine
from trainables.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class KeptEncoders:
    """Encoders that an earlier sweep has pretrained and kept."""

    folder: Path
    """Its folder of encoders, absolute."""
    recipe: str
    """Fingerprint of the recipe that they were pretrained with, which may have another probe."""
    columns: Mapping[str, Mapping[str, Any]]
    """Key of each cell that has one -> the columns of its record that describe the pretraining."""

    def key(self, cell: Cell) -> str:
        """The key of the earlier cell whose encoder this cell probes."""
        return replace(cell, recipe=self.recipe).key

    def path(self, cell: Cell) -> Path:
        """The file of that encoder."""
        return self.folder / f"{self.key(cell)}.safetensors"


@dataclass(frozen=True, kw_only=True)
class CellJob:
    """Everything that `run_cell` needs besides the coordinates of a cell."""

    recipe: Recipe
    source: Source
    """The data, loaded by the settings in the recipe; for the target of its probe."""
    engine: Engine = PLAIN
    """How cells are executed, without `auto` settings. The caller sets the number of threads."""
    imagenet: Path | None = None
    """File with weights for the baseline `imagenet`."""
    kept: KeptEncoders | None = None
    """Encoders that the cells probe, instead of pretraining their own."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", aimed(self.source, self.recipe.probe.target))
