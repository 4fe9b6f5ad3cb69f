"""The weights of the baseline imagenet, found and tried before anything is run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sweep.config import Sweep
from trainables.cell import Cell


@dataclass(frozen=True)
class Weights:
    """A file of weights, and 16 hex digits of its content."""

    path: Path
    fingerprint: str


def weights(sweep: Sweep, cells: Sequence[Cell]) -> Weights | None:
    """The weights that the cells need; None where none of them is the baseline imagenet.

    Raises:
        InputError: there are none, or they do not fit the recipe's encoder.
    """
    if not any(cell.objective == "imagenet" for cell in cells):
        return None
    from trainables.models.imagenet import file_digest, imagenet_encoder, weights_file

    recipe = sweep.recipe
    path = weights_file(recipe.encoder, sweep.imagenet_weights, download=sweep.download).resolve()
    imagenet_encoder(recipe.encoder, path, bands=recipe.data.bands)
    return Weights(path, file_digest(path))
