"""From pairs to views: which pairs of a step are noisy, and how each image of them is augmented."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from datasets import augment, pairs
from datasets.seeding import batch_indices, stream
from datasets.vts import PairBatch, Vts
from trainables.cell import Cell
from trainables.recipe import Recipe


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """Augmented positive pairs, each with the noise-free labels warped as its image was, where labels are wanted."""

    first: Float[Tensor, "n 3 h w"]
    second: Float[Tensor, "n 3 h w"]
    first_labels: Integer[Tensor, "n h w"] | None
    second_labels: Integer[Tensor, "n h w"] | None


def training_views(
    data: Vts, cell: Cell, recipe: Recipe, step: int, *, labelled: bool = True
) -> tuple[Views, Bool[Tensor, " n"]]:
    """The views of one training step, with labels if wanted, and which of its pairs were noisy.

    All draws come from (seed, purpose, step): cells of one seed differ in what rho, nu and pairing make of the same
    draws, and in nothing else.
    """
    batch = recipe.pretrain.batch
    index = batch_indices(cell.seed, "pretraining order", step, count=data.count("train"), batch=batch)
    draws = torch.rand(2, batch, generator=stream(cell.seed, "pairing", step))
    noisy = pairs.choose_noisy(draws[0], cell.rho)
    sides = pairs.swap(*pairs.shown(noisy, cell.pairing), draws[1])
    loaded = data.pairs("train", index, *sides, cell.nu, labelled=labelled)
    return _augmented(loaded, recipe, stream(cell.seed, "augmentation", step)), noisy


def validation_views(data: Vts, cell: Cell, recipe: Recipe, *, labelled: bool = True) -> Iterator[Views]:
    """All validation pairs in batches: free of noise, and augmented alike at each evaluation and in each cell."""
    generator = stream(cell.seed, "validation augmentation")
    for index in parts(data.count("val"), recipe.pretrain.batch):
        clean = torch.zeros(len(index), dtype=torch.bool)
        yield _augmented(data.pairs("val", index, clean, clean, 0.0, labelled=labelled), recipe, generator)


def parts(count: int, batch: int) -> tuple[Int[Tensor, " part"], ...]:
    """0 .. count-1 in parts of about `batch`, none of them a single image unless count is 1."""
    return torch.arange(count).tensor_split(max(1, count // batch))


def _augmented(loaded: PairBatch, recipe: Recipe, generator: torch.Generator) -> Views:
    """Augment both images of each pair, each with parameters of its own."""
    count, size = len(loaded.first), loaded.first.shape[-1]
    first, first_labels = augment.apply(
        loaded.first, loaded.first_labels, augment.draw(recipe.augment, count, size, generator)
    )
    second, second_labels = augment.apply(
        loaded.second, loaded.second_labels, augment.draw(recipe.augment, count, size, generator)
    )
    return Views(first=first, second=second, first_labels=first_labels, second_labels=second_labels)
