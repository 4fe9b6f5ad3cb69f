"""From images to views: augmented pairs, some of them noisy; and labelled downstream images, flipped and rotated."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor

from datasets.augment import static, transforms
from datasets.augment.config import Augment
from datasets.dataset import Dataset, Draws, PairBatch, PairPool, TransferPool
from datasets.errors import InputError
from datasets.seeding import batch_indices, stream
from datasets.transfer import Transfer, send, together
from datasets.types import IGNORED, TURNS
from trainables.cell import Cell
from trainables.engine import Engine
from trainables.recipe import Recipe


@dataclass(frozen=True, kw_only=True, eq=False)
class Views:
    """Augmented positive pairs. Labels, if any, are warped like their image."""

    first: Float[Tensor, "n c h w"]
    second: Float[Tensor, "n c h w"]
    first_labels: Integer[Tensor, "n ..."] | None
    second_labels: Integer[Tensor, "n ..."] | None
    drawn: Tensor | None = None
    """What `Objective.draw` has drawn for the loss; None: nothing, or the loss draws itself."""
    maps: Float[Tensor, "2 n 2 3"] | None = None
    """From positions in the first and in the second view to those in their images: see `transforms.Parameters`; None:
    the views are the images."""


def training_pool(data: Dataset, cell: Cell) -> PairPool:
    """The pairs for pretraining a cell. The random choices of a pool depend only on the seed."""
    return data.pool(cell.rho, cell.nu, cell.pairing, stream(cell.seed, "undersampling"))


class Augmenter(NamedTuple):
    """How drawn changes are made on the device of the images."""

    plan: Callable[[Augment, transforms.Parameters], list[Tensor | None]]
    """From what was drawn to the numbers that `change` needs on the device."""
    change: Callable[..., tuple[Tensor, Tensor | None]]
    """(images, labels, radius of the blur, *numbers) -> images, labels."""


CHOSEN = Augmenter(lambda recipe, drawn: transforms.plan(drawn), transforms.augmented)
"""Changes only the images that were drawn: the least work for separate operations."""


STATIC = Augmenter(static.plan, static.augmented)
"""Changes all images, and keeps what was drawn: every step asks the same of the device."""


def augmenter(engine: Engine, device: torch.device) -> Augmenter:
    """How an engine augments. On a GPU, a compiler makes all changes of all images in a few passes over the pixels."""
    if device.type != "cuda" or engine.compile == "no":
        return CHOSEN
    if not engine.compiles:
        return STATIC
    return STATIC._replace(change=torch.compile(STATIC.change, dynamic=False))


def training_views(
    pool: PairPool, cell: Cell, recipe: Recipe, step: int, *, labelled: bool = True
) -> tuple[Views, Bool[Tensor, " n"]]:
    """See `training_transfer`, which is sent."""
    transfer, noisy = training_transfer(pool, cell, recipe, step, labelled=labelled)
    return transfer.sent(), noisy


def training_transfer(
    pool: PairPool, cell: Cell, recipe: Recipe, step: int, *, labelled: bool = True, how: Augmenter = CHOSEN
) -> tuple[Transfer[Views], Bool[Tensor, " n"]]:
    """The views of one training step, with labels if requested, and which of its pairs are noisy.

    All random numbers derive from (seed, purpose, step), so cells of one seed differ only in how rho, nu and pairing
    use the same numbers.
    """
    batch = recipe.pretrain.batch
    index = batch_indices(cell.seed, "pretraining order", step, count=len(pool), batch=batch)
    noisy, swap = torch.rand(2, batch, generator=stream(cell.seed, "pairing", step))
    partner = torch.rand(batch, generator=stream(cell.seed, "partner", step))
    draws = Draws(noisy=noisy, swap=swap, partner=partner)
    if isinstance(pool, TransferPool):
        pairs, chosen = pool.transfer(index, draws, labelled=labelled)
    else:
        loaded, chosen = pool.batch(index, draws, labelled=labelled)
        pairs = Transfer(loaded.first.device, [], lambda: loaded)
    return _augmented(pairs, batch, recipe, stream(cell.seed, "augmentation", step), how), chosen


def validation_views(data: Dataset, cell: Cell, recipe: Recipe, *, labelled: bool = True) -> Iterator[Views]:
    """All validation pairs in batches, without noise, and with the same augmentation in each evaluation and cell."""
    generator = stream(cell.seed, "validation augmentation")
    for index in parts(data.validation_pairs(), recipe.pretrain.batch):
        pairs = data.validation(index, labelled=labelled)
        yield _augmented(Transfer(data.device, [], lambda: pairs), len(index), recipe, generator).sent()  # noqa: B023


def downstream_views(data: Dataset, cell: Cell, recipe: Recipe, step: int) -> Views:
    """Labelled downstream images of one training step, flipped and rotated.

    Both images are the same, unless the data have pairs for the probe's target.
    """
    index = batch_indices(cell.seed, "pretraining order", step, count=data.count("train"), batch=recipe.pretrain.batch)
    images, labels = data.downstream("train", index)
    which = torch.randint(TURNS[recipe.data.task], (len(index),), generator=stream(cell.seed, "augmentation", step))
    (which,) = send(data.device, which)
    return _labelled(dihedral(images, which), dihedral(labels, which))


def downstream_validation(data: Dataset, recipe: Recipe) -> Iterator[Views]:
    """All downstream validation images in batches, without augmentation."""
    for index in parts(data.count("val"), recipe.pretrain.batch):
        yield _labelled(*data.downstream("val", index))


def _labelled(images: Tensor, labels: Tensor) -> Views:
    first, second = images.unbind(1) if images.ndim == 5 else (images, images)
    return Views(first=first, second=second, first_labels=labels, second_labels=labels)


def parts(count: int, batch: int) -> tuple[Int[Tensor, " part"], ...]:
    """0 .. count-1 in parts of about `batch`, each with at least two images unless count is 1."""
    return torch.arange(count).tensor_split(max(1, count // batch))


def _augmented(
    pairs: Transfer[PairBatch], count: int, recipe: Recipe, generator: torch.Generator, how: Augmenter = CHOSEN
) -> Transfer[Views]:
    """Augment both images of each pair independently."""
    drawn = [transforms.draw(recipe.augment, count, recipe.data.size, generator) for _ in range(2)]
    radius = drawn[0].radius
    numbers = [Transfer(pairs.device, how.plan(recipe.augment, one), lambda *sent: sent) for one in drawn]

    def make(made: list[Any]) -> Views:
        loaded, plan, other_plan = made
        first, first_labels = how.change(loaded.first, loaded.first_labels, radius, *plan)
        second, second_labels = how.change(loaded.second, loaded.second_labels, radius, *other_plan)
        maps = torch.stack([plan[0], other_plan[0]])
        return Views(first=first, second=second, first_labels=first_labels, second_labels=second_labels, maps=maps)

    return together(pairs, *numbers).then(make)


_TURNS: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda images: images.flip(-1),
    lambda images: images.flip(-2),
    lambda images: images.transpose(-1, -2),
)


def turned(images: Tensor, view: int) -> Tensor:
    """All square images in one of the 8 flips and 90-degree rotations; view 0 is the image itself.

    Bit 0 flips the columns, bit 1 flips the rows, bit 2 swaps rows and columns. Classes of whole images, (n,), do not
    change.
    """
    if images.ndim == 1:
        return images
    for bit, turn in enumerate(_TURNS):
        images = turn(images) if view >> bit & 1 else images
    return images


def dihedral(images: Tensor, which: Int[Tensor, " n"]) -> Tensor:
    """Each image in its own view; `turned` defines their numbers."""
    if images.ndim == 1:
        return images
    shape = (-1,) + (1,) * (images.ndim - 1)
    for bit, turn in enumerate(_TURNS):
        images = torch.where((which >> bit & 1).bool().view(shape), turn(images), images)
    return images


def class_weights(data: Dataset, labelled: Int[Tensor, " n"] | None = None) -> Float[Tensor, " classes"]:
    """Inverse frequency of each class in the downstream training images, or in these of them (paper, V-A).

    A class that does not occur has weight 0: it cannot be learned, and must not dominate a validation loss.
    """
    counts = (data.class_counts() if labelled is None else counts_among(data, labelled)).double()
    return torch.where(counts > 0, counts.sum() / counts, 0).float().to(data.device)


def counts_among(data: Dataset, labelled: Int[Tensor, " n"]) -> Int[Tensor, " classes"]:
    """Pixels (or images) of each class in some downstream training images."""
    counts = torch.zeros(len(data.classes), dtype=torch.long, device=data.device)
    for part in labelled.split(256):
        labels = data.downstream("train", part)[1].flatten().long()
        counts += torch.bincount(labels[labels != IGNORED], minlength=len(data.classes))
    return counts


def labelled_images(data: Dataset, share: float, seed: int) -> Int[Tensor, " n"]:
    """The training images that a probe sees: a share, drawn from the seed, that contains those of smaller shares."""
    order = torch.arange(data.count("train"))
    if share < 1:
        order = torch.randperm(len(order), generator=stream(seed, "labelled images"))[: round(share * len(order))]
    return order.sort().values


def check_share(data: Dataset, share: float, seed: int) -> None:
    """Check that a share of the training images shows all classes that the others show.

    Raises:
        InputError: it leaves a class without a pixel, or has fewer than two images.
    """
    labelled, most = labelled_images(data, share, seed), data.count("train")
    hint = f"use a larger share than {share:g}"
    if len(labelled) < 2:
        raise InputError(f"probe.labels {share:g}: {len(labelled)} of {most} training images, of seed {seed}; {hint}")
    some = counts_among(data, labelled)
    if (some == 0).any():  # counting all takes longer
        lost = (data.class_counts() > 0) & (some == 0)
        if lost.any():
            names = ", ".join(name for name, gone in zip(data.classes, lost.tolist(), strict=True) if gone)
            raise InputError(
                f"probe.labels {share:g}: the {len(labelled)} of {most} training images of seed {seed} show no pixel "
                f"of {names}; {hint}"
            )
