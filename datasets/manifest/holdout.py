"""Draws pairs of a list for validation and test: whole groups, by a seed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.errors import InputError
from datasets.tiles.splits import as_fraction

if TYPE_CHECKING:
    from datasets.manifest.table import Row  # imports pyarrow, which settings must not


@dataclass(frozen=True)
class HoldOut:
    """What is drawn from the training pairs."""

    val: float
    """Share of these pairs, from 0 to 1."""
    test: float
    seed: int


def hold_out(groups: Sequence[str], wanted: HoldOut, noisy: Sequence[bool] = ()) -> list[str]:
    """The split of each pair: `train`, `val` or `test`.

    Groups are drawn in a random order. One that would make a split larger than its share is passed over, but each
    split with a share gets at least the smallest group. So the numbers are exact if no pair has a group. Pretraining is
    validated on clean pairs, so the first group of val has one, if such a group is small enough.

    Args:
        groups: the group of each pair; a pair with an empty one is a group of its own.
        wanted: the shares, as the decimal numbers that were written, and the seed.
        noisy: which pairs are noisy, where that is known; empty: none.

    Raises:
        InputError: there are fewer groups than splits.
    """
    names = [group or f"\0{place}" for place, group in enumerate(groups)]
    sizes: dict[str, int] = {}
    for name in names:
        sizes[name] = sizes.get(name, 0) + 1
    shares = {split: share for split, share in (("val", wanted.val), ("test", wanted.test)) if share}
    if len(sizes) <= len(shares):
        kind = "group" if any(groups) else "pair"
        why = (
            "pairs of one group stay together, and so do pairs that share an image; add groups or pairs"
            if any(groups)
            else "add pairs"
        )
        few = f"{len(sizes)} {kind}{'s' * (len(sizes) != 1)}"
        raise InputError(f"{few} cannot be divided among train, {' and '.join(shares)}: {why}")
    order = list(sizes)
    left = [order[place] for place in np.random.default_rng(wanted.seed).permutation(len(order)).tolist()]
    with_clean = {name for name, bad in zip(names, noisy, strict=True) if not bad} if noisy else set(names)
    chosen: dict[str, str] = {}
    for number, (split, share) in enumerate(shares.items()):
        target = int(as_fraction(share) * len(names) + as_fraction(0.5))
        if split == "val" and (first := next((one for one in left if one in with_clean and sizes[one] <= target), "")):
            left = [first, *(name for name in left if name != first)]
        count = 0
        for name in left[: number - len(shares)]:  # later splits and train need a group each
            if count + sizes[name] <= target:
                chosen[name] = split
                count += sizes[name]
        if not count:
            chosen[min(left, key=lambda name: (split == "val" and name not in with_clean, sizes[name]))] = split
        left = [name for name in left if name not in chosen]
    return [chosen.get(name, "train") for name in names]


def _joined(folder: Path, rows: "Sequence[Row]") -> list[str]:
    """A group for each row, or none: rows of one group, or that share an image, are of one."""
    from scipy.cluster.hierarchy import DisjointSet  # slow to import, as what follows

    from datasets.images.read import identity

    sets = DisjointSet()
    for place, row in enumerate(rows):
        sets.add(place)
        tied = [("group", group)] if (group := row.cells.get("group")) else []
        for role in ("image", "partner"):
            if cell := row.cells.get(role):
                tied.append(("image", identity(row.pictures.get(role) or folder / cell)))
        for one in tied:
            sets.add(one)
            sets.merge(place, one)
    owners = [sets[place] for place in range(len(rows))]
    counts = Counter(owners)
    return [
        str(one) if counts[one] > 1 or row.cells.get("group") else "" for one, row in zip(owners, rows, strict=True)
    ]


def hold_out_rows(path: Path, rows: "Sequence[Row]", wanted: HoldOut | None) -> "Sequence[Row]":
    """The rows with drawn splits: of those of split train, or without one. Rows that share an image are a group.

    Raises:
        InputError: no row has a split, and none is to be drawn; or the groups are too few.
    """
    if wanted is None:
        if not any(row.cells.get("split") or row.fault for row in rows):
            raise InputError(
                f"{path}: no row has a split: add a column `split` (train, val or test), name Parquet files by it "
                "(train-0.parquet), or draw it with --data.holdout 0.2 0.2"
            )
        return rows
    from datasets.manifest.table import TRUTH, truth_word  # imports pyarrow, which settings must not

    places = [place for place, row in enumerate(rows) if not row.fault and row.cells["split"] in ("", "train")]
    if not places:
        raise InputError(
            f"{path}: --data.holdout draws from the pairs of split train, or without a split: there are none"
        )
    try:
        cells = [rows[place].cells for place in places]
        noisy = [bool(TRUTH.get(truth_word(one.get("noisy", "")))) for one in cells]
        drawn = hold_out(_joined(path.parent, [rows[place] for place in places]), wanted, noisy)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    split = dict(zip(places, drawn, strict=True))
    return [
        replace(row, cells={**row.cells, "split": split[place]}) if place in split else row
        for place, row in enumerate(rows)
    ]
