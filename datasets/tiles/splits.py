"""Draws validation sets of an exact share, holds groups out, and undersamples to a noisy-pairs rate."""

import math
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int8, Shaped

from datasets.errors import InputError
from datasets.types import EVERY_SPLIT, SPLITS


def as_fraction(number: float) -> Fraction:
    """The decimal number as written: .3 becomes 3/10, not the nearest binary fraction."""
    return Fraction(str(float(number)))


def undersample(n_clean: int, n_noisy: int, rho: float) -> tuple[int, int]:
    """Number of clean and noisy pairs in the largest set with a share rho of noisy pairs (paper, IV-A).

    It has all pairs of the scarcer kind, and as many of the other as rho requires, rounded half up:
    xBD's 20,446 and 5,224 training tiles give 20,446 + 2,272 at rho .1 and 15,672 + 5,224 at .25.

    Args:
        n_clean: number of clean pairs.
        n_noisy: number of noisy pairs.
        rho: noisy-pairs rate from 0 to 1, used as the decimal number that was written.

    Returns:
        (clean, noisy), at most `n_clean` and `n_noisy`.

    Raises:
        InputError: rho is outside [0, 1], or needs a kind of pair that is absent.
    """
    if not 0 <= rho <= 1:  # also true for NaN
        raise InputError(f"rho = {rho:g}: the noisy-pairs rate must be from 0 to 1")
    if rho > 0 and n_noisy < 1:
        raise InputError(f"rho = {rho:g} needs noisy pairs, but the training set has none: use only rho 0")
    if rho < 1 and n_clean < 1:
        raise InputError(f"rho = {rho:g} needs clean pairs, but the training set has none: use only rho 1")
    share = as_fraction(rho)
    if n_clean * share <= n_noisy * (1 - share):
        return n_clean, _half_up(n_clean * share / (1 - share)) if share < 1 else n_noisy
    return _half_up(n_noisy * (1 - share) / share), n_noisy


def _half_up(number: Fraction) -> int:
    return math.floor(number + Fraction(1, 2))


def stratified(
    groups: Shaped[np.ndarray, " n"], share: float, generator: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """Choose ceil(share * n) of n items at random, from each group in proportion to its size.

    Numbers are rounded by largest remainder, ties by name. The result depends only on the generator and on the order
    of the items.

    Args:
        groups: the name of each item's group.
        share: from 0 to 1, used as the decimal number that was written.
        generator: draws one permutation for each group, in the order of their names.
    """
    wanted = math.ceil(as_fraction(share) * len(groups))
    names, counts = np.unique(groups, return_counts=True)
    number = quotas(dict(zip(names.tolist(), counts.tolist(), strict=True)), wanted)
    chosen = np.zeros(len(groups), bool)
    for name in names.tolist():
        members = generator.permutation(np.flatnonzero(groups == name))
        chosen[members[: number[name]]] = True
    return chosen


def quotas(counts: Mapping[str, int], wanted: int) -> dict[str, int]:
    """Divide `wanted` among groups in proportion to their counts: largest remainders (Hamilton), ties by name."""
    total = sum(counts.values())
    parts = {name: divmod(wanted * count, total) for name, count in counts.items()}
    left = wanted - sum(floor for floor, _ in parts.values())
    favoured = sorted(parts, key=lambda name: (-parts[name][1], name))[:left]
    return {name: floor + (name in favoured) for name, (floor, _) in parts.items()}


def stratified_by_owner(
    owners: Sequence[str], groups: Sequence[str], share: float, generator: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """Choose ceil(share * owners) owners (images), stratified by group, with all their items (tiles).

    Args:
        owners: the owner of each item; owners are ordered by their first item.
        groups: the group of each item; all items of an owner have the same.
        share: as for `stratified`.
        generator: as for `stratified`.
    """
    group_of = dict(zip(owners, groups, strict=True))
    names = np.array(list(group_of), str)
    chosen = set(names[stratified(np.array(list(group_of.values()), str), share, generator)].tolist())
    return np.array([owner in chosen for owner in owners], bool)


def check_groups(where: Path, groups: Collection[str], held_out: Sequence[str]) -> None:
    """Check the names of groups that are held out for the split `ood`.

    Args:
        where: the data, for messages.
        groups: all groups; an empty name is none.
        held_out: from the settings, `--data.ood`.

    Raises:
        InputError: there is no such group.
    """
    known = sorted({*groups} - {""})
    for name in held_out:
        if name not in known:
            choice = f"choose from {', '.join(known)}" if known else "no pair has a group"
            raise InputError(f"--data.ood {name}: {where} has no such group; {choice}")


def hold_out(
    where: Path, split: Int8[np.ndarray, " n"], groups: Shaped[np.ndarray, " n"], held_out: Sequence[str]
) -> Int8[np.ndarray, " n"]:
    """The splits of tiles, with all tiles of some groups in the split `ood`. The others keep their split.

    Args:
        where: the data, for messages.
        split: index of the split of each tile in `EVERY_SPLIT`.
        groups: the group of each tile.
        held_out: the groups.

    Raises:
        InputError: nothing is left of another split.
    """
    held = np.where(np.isin(groups, held_out), EVERY_SPLIT.index("ood"), split).astype(np.int8)
    for number, name in enumerate(SPLITS):
        if (split == number).any() and not (held == number).any():
            raise InputError(f"--data.ood {' '.join(held_out)}: {where} has no {name} tile without them; name fewer")
    return held
