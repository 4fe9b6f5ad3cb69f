"""What all cells of a sweep have in common. No torch here: the driver makes it and sends it to its workers."""

from collections.abc import Callable, Mapping
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


class SharedFeatures:
    """The features of the encoder that was probed last. Further cells that probe it need not encode the images again.

    Whoever runs cells one after the other holds one.
    """

    def __init__(self) -> None:
        """Hold no features yet."""
        self._held: tuple[str, int, Any] | None = None

    def get(self, identity: str, views: int, encode: Callable[[], Any]) -> Any:
        """The held features, if they are those; otherwise those of `encode`, which are held from now on.

        Args:
            identity: of encoder, images and arithmetic.
            views: of each training image; features of more views serve as well, because the same come first.
            encode: makes the features.
        """
        if self._held is None or self._held[0] != identity or self._held[1] < views:
            self._held = None  # first: two encoders' features may not fit into the memory
            self._held = (identity, views, encode())
        return self._held[2]


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
    features: SharedFeatures | None = None
    """Of these encoders; None: each cell encodes the images by itself."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", aimed(self.source, self.recipe.probe.target))
