"""From pairs to views: which pairs of a step are noisy, and how each image of them is augmented."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from datasets.augment import transforms
from datasets.dataset import Dataset, Draws, PairBatch, PairPool
from datasets.seeding import batch_indices, stream
from datasets.types import TURNS
from trainables.cell import Cell
from trainables.downstream import dihedral
from trainables.recipe import Recipe


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """Augmented positive pairs, each with the labels warped as its image was, where labels are wanted."""

    first: Float[Tensor, "n c h w"]
    second: Float[Tensor, "n c h w"]
    first_labels: Integer[Tensor, "n ..."] | None
    second_labels: Integer[Tensor, "n ..."] | None


def training_pool(data: Dataset, cell: Cell) -> PairPool:
    """The pairs that a cell is pretrained on. What a pool draws at random depends on the seed alone."""
    return data.pool(cell.rho, cell.nu, cell.pairing, stream(cell.seed, "undersampling"))


def training_views(
    pool: PairPool, cell: Cell, recipe: Recipe, step: int, *, labelled: bool = True
) -> tuple[Views, Bool[Tensor, " n"]]:
    """The views of one training step, with labels if wanted, and which of its pairs were noisy.

    All draws come from (seed, purpose, step): cells of one seed differ in what rho, nu and pairing make of the same
    draws, and in nothing else.
    """
    batch = recipe.pretrain.batch
    index = batch_indices(cell.seed, "pretraining order", step, count=len(pool), batch=batch)
    noisy, swap = torch.rand(2, batch, generator=stream(cell.seed, "pairing", step))
    partner = torch.rand(batch, generator=stream(cell.seed, "partner", step))
    loaded, chosen = pool.batch(index, Draws(noisy=noisy, swap=swap, partner=partner), labelled=labelled)
    return _augmented(loaded, recipe, stream(cell.seed, "augmentation", step)), chosen


def validation_views(data: Dataset, cell: Cell, recipe: Recipe, *, labelled: bool = True) -> Iterator[Views]:
    """All validation pairs in batches: free of noise, and augmented alike at each evaluation and in each cell."""
    generator = stream(cell.seed, "validation augmentation")
    for index in parts(data.validation_pairs(), recipe.pretrain.batch):
        yield _augmented(data.validation(index, labelled=labelled), recipe, generator)


def downstream_views(data: Dataset, cell: Cell, recipe: Recipe, step: int) -> Views:
    """Labelled downstream images of one training step, flipped and turned; both sides are the same."""
    index = batch_indices(cell.seed, "pretraining order", step, count=data.count("train"), batch=recipe.pretrain.batch)
    images, labels = data.downstream("train", index)
    which = torch.randint(TURNS[recipe.data.task], (len(index),), generator=stream(cell.seed, "augmentation", step))
    which = which.to(data.device, non_blocking=True)
    return _labelled(dihedral(images, which), dihedral(labels, which))


def downstream_validation(data: Dataset, recipe: Recipe) -> Iterator[Views]:
    """All downstream validation images in batches, as they are."""
    for index in parts(data.count("val"), recipe.pretrain.batch):
        yield _labelled(*data.downstream("val", index))


def _labelled(images: Tensor, labels: Tensor) -> Views:
    return Views(first=images, second=images, first_labels=labels, second_labels=labels)


def parts(count: int, batch: int) -> tuple[Int[Tensor, " part"], ...]:
    """0 .. count-1 in parts of about `batch`, none of them a single image unless count is 1."""
    return torch.arange(count).tensor_split(max(1, count // batch))


def _augmented(loaded: PairBatch, recipe: Recipe, generator: torch.Generator) -> Views:
    """Augment both images of each pair, each with parameters of its own."""
    count, size = len(loaded.first), loaded.first.shape[-1]
    first, first_labels = transforms.apply(
        loaded.first, loaded.first_labels, transforms.draw(recipe.augment, count, size, generator)
    )
    second, second_labels = transforms.apply(
        loaded.second, loaded.second_labels, transforms.draw(recipe.augment, count, size, generator)
    )
    return Views(first=first, second=second, first_labels=first_labels, second_labels=second_labels)
