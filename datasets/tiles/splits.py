"""Validation sets of an exact share, stratified by group, and undersampling to a noisy-pairs rate."""

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction

import numpy as np
from jaxtyping import Bool, Shaped

from datasets.errors import InputError


def as_fraction(number: float) -> Fraction:
    """The decimal number as written: .3 becomes 3/10, not the nearest binary fraction."""
    return Fraction(str(float(number)))


def undersample(n_clean: int, n_noisy: int, rho: float) -> tuple[int, int]:
    """How many clean and noisy pairs make the largest set with a share rho of noisy ones (paper, IV-A).

    All pairs of the scarcer kind are kept, and as many of the other as rho demands, rounded half up:
    xBD's 20,446 and 5,224 training tiles give 20,446 + 2,272 at rho .1 and 15,672 + 5,224 at .25.

    Args:
        n_clean: clean pairs there are.
        n_noisy: noisy pairs there are.
        rho: noisy-pairs rate from 0 to 1, taken as the decimal number that was written.

    Returns:
        (clean, noisy), never more than there are.

    Raises:
        InputError: rho is no share, or asks for a kind of pair that there is none of.
    """
    if not 0 <= rho <= 1:  # so written, NaN is refused too
        raise InputError(f"rho = {rho:g}: the noisy-pairs rate must be from 0 to 1")
    if rho > 0 and n_noisy < 1:
        raise InputError(f"rho = {rho:g} needs noisy pairs and there are none in the training set: use rho 0 alone")
    if rho < 1 and n_clean < 1:
        raise InputError(f"rho = {rho:g} needs clean pairs and there are none in the training set: use rho 1 alone")
    share = as_fraction(rho)
    if n_clean * share <= n_noisy * (1 - share):
        return n_clean, _half_up(n_clean * share / (1 - share)) if share < 1 else n_noisy
    return _half_up(n_noisy * (1 - share) / share), n_noisy


def _half_up(number: Fraction) -> int:
    return math.floor(number + Fraction(1, 2))


def stratified(
    groups: Shaped[np.ndarray, " n"], share: float, generator: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """Choose ceil(share * n) of n items at random, from each group as near to its part as whole numbers allow.

    The remainder goes to the groups with the largest fractions, ties by name. The result depends only on the
    generator and on the order of the items.

    Args:
        groups: the name of each item's group.
        share: from 0 to 1, taken as the decimal number that was written.
        generator: gives one permutation a group, in the order of the names.
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
    """Share `wanted` out among groups of these counts: largest remainders (Hamilton), ties by name."""
    total = sum(counts.values())
    parts = {name: divmod(wanted * count, total) for name, count in counts.items()}
    left = wanted - sum(floor for floor, _ in parts.values())
    favoured = sorted(parts, key=lambda name: (-parts[name][1], name))[:left]
    return {name: floor + (name in favoured) for name, (floor, _) in parts.items()}


def stratified_by_owner(
    owners: Sequence[str], groups: Sequence[str], share: float, generator: np.random.Generator
) -> Bool[np.ndarray, " n"]:
    """Choose ceil(share * owners) owners (images), stratified by group, with all of their items (tiles).

    Args:
        owners: the owner of each of n items; owners are ordered by their first item.
        groups: the group of each item; the items of one owner share it.
        share: as for `stratified`.
        generator: likewise.
    """
    group_of = dict(zip(owners, groups, strict=True))
    names = np.array(list(group_of), str)
    chosen = set(names[stratified(np.array(list(group_of.values()), str), share, generator)].tolist())
    return np.array([owner in chosen for owner in owners], bool)
