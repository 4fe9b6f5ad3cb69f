"""Laws of undersampling and of drawn validation sets, and the paper's own counts."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from datasets.errors import InputError
from datasets.tiles.splits import quotas, stratified, stratified_by_owner, undersample
from datasets.xbd.source import draw_splits

rates = st.integers(0, 1000).map(lambda k: k / 1000)
counts = st.integers(1, 50_000)


# --- undersampling


@pytest.mark.parametrize(
    ("rho", "expected"),
    [
        (0, (20_446, 0)),
        (0.1, (20_446, 2_272)),
        (0.2, (20_446, 5_112)),
        (0.25, (15_672, 5_224)),
        (0.5, (5_224, 5_224)),
        (0.75, (1_741, 5_224)),
        (1, (0, 5_224)),
    ],
)
def test_undersampling_gives_the_papers_numbers(rho, expected) -> None:
    assert undersample(20_446, 5_224, rho) == expected


def test_the_decimal_number_counts_and_halves_go_up() -> None:
    assert Fraction(0.6) < Fraction(3, 5)  # so in binary 1 * .6 / .4 is below one and a half
    assert undersample(1, 10, 0.6) == (1, 2)
    assert undersample(3, 10, np.float64(0.6)) == (3, 5)  # 4.5


@settings(deadline=None)  # two cores may be busy
@given(counts, counts, rates)
def test_an_undersampled_set_is_as_large_and_as_near_to_rho_as_can_be(n_clean: int, n_noisy: int, rho: float) -> None:
    clean, noisy = undersample(n_clean, n_noisy, rho)
    assert 0 <= clean <= n_clean
    assert 0 <= noisy <= n_noisy
    assert clean == n_clean or noisy == n_noisy  # one side is complete
    share = Decimal(str(rho))
    # The other side solves noisy (1 - rho) = clean rho to within half a pair; at the turning point either may be it.
    gap = abs(noisy * (1 - share) - clean * share)
    other = [weight for weight, left in ((share, clean < n_clean), (1 - share, noisy < n_noisy)) if left]
    assert gap <= max(other or (share, 1 - share)) / 2


@settings(deadline=None)  # two cores may be busy
@given(counts, counts, rates, rates)
def test_more_noise_never_means_fewer_noisy_or_more_clean_pairs(n_clean: int, n_noisy: int, one: float, two: float):
    low, high = sorted((one, two))
    before, after = undersample(n_clean, n_noisy, low), undersample(n_clean, n_noisy, high)
    assert before[0] >= after[0]
    assert before[1] <= after[1]


@pytest.mark.parametrize("rho", [-0.1, 1.01, math.nan, math.inf])
def test_a_rate_that_is_no_share_is_refused(rho) -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        undersample(5, 5, rho)


def test_a_kind_of_pair_that_is_asked_for_must_be_there() -> None:
    with pytest.raises(InputError, match=r"rho = 0\.1 needs noisy pairs"):
        undersample(5, 0, 0.1)
    with pytest.raises(InputError, match=r"rho = 0\.9 needs clean pairs"):
        undersample(0, 5, 0.9)
    assert undersample(5, 0, 0) == (5, 0)
    assert undersample(0, 5, 1) == (0, 5)


# --- validation sets


def draw_groups(sizes: dict[str, int]) -> np.ndarray:
    return np.repeat(np.array(list(sizes), str), list(sizes.values()))


sizes_of_groups = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 40), min_size=1)


@settings(deadline=None)  # two cores may be busy
@given(sizes_of_groups, st.integers(0, 100), st.integers(0, 2**32))
def test_a_stratified_choice_has_the_exact_total_and_each_group_its_part(sizes, percent: int, seed: int) -> None:
    groups = np.random.default_rng(seed).permutation(draw_groups(sizes))
    chosen = stratified(groups, percent / 100, np.random.default_rng(seed))
    total = -(-percent * len(groups) // 100)
    assert chosen.sum() == total
    for name, size in sizes.items():
        part = Fraction(total * size, len(groups))
        assert math.floor(part) <= chosen[groups == name].sum() <= math.ceil(part)
    assert np.array_equal(chosen, stratified(groups, percent / 100, np.random.default_rng(seed)))


def test_the_choice_within_a_group_is_uniform() -> None:
    groups = draw_groups({"a": 4, "b": 6})
    drawn = np.array([stratified(groups, 0.5, np.random.default_rng(seed)) for seed in range(2000)])
    # Each of ten items is chosen with probability .5; .055 are five standard deviations of 2,000 draws.
    assert np.abs(drawn.mean(axis=0) - 0.5).max() < 0.056


def test_remainders_go_to_the_largest_and_ties_to_the_first_name() -> None:
    assert quotas({"b": 1, "a": 1, "c": 1}, 2) == {"b": 1, "a": 1, "c": 0}
    assert quotas({"a": 10, "b": 6, "c": 4}, 7) == {"a": 4, "b": 2, "c": 1}  # 3.5, 2.1, 1.4
    assert stratified(np.array([], str), 0.3, np.random.default_rng(0)).tolist() == []


@settings(deadline=None)  # two cores may be busy
@given(sizes_of_groups, st.integers(0, 2**32))
def test_a_grouped_choice_splits_no_image(sizes, seed: int) -> None:
    images = [f"{group}{number}" for group, size in sizes.items() for number in range(size)]
    assume(len(images) > 1)
    tiles = np.random.default_rng(seed).permutation(np.repeat(images, 4)).tolist()
    chosen = stratified_by_owner(tiles, [tile[0] for tile in tiles], 0.3, np.random.default_rng(seed))
    validating = {tile for tile, here in zip(tiles, chosen, strict=True) if here}
    assert len(validating) == -(-3 * len(images) // 10)
    assert chosen.sum() == 4 * len(validating)


# --- xBD's counts, without its images


@pytest.fixture(scope="module")
def tiles() -> pd.DataFrame:
    """The tiles of as many pairs as xBD has, of 19 disasters whose sizes are made up."""
    generator = np.random.default_rng(7)
    sizes = generator.multinomial(2_799 + 6_369, generator.dirichlet(np.full(19, 2.0)))
    pairs = [(f"d{disaster:02}", number, "") for disaster, size in enumerate(sizes.tolist()) for number in range(size)]
    pairs += [(f"d{number % 19:02}", number, "test") for number in range(933)]
    rows = [(f"{group}_{split}_{number:08}", group, split) for group, number, split in pairs for _ in range(4)]
    return pd.DataFrame(rows, columns=["pair", "group", "split"])


def test_official_counts_follow_from_the_pairs(tiles: pd.DataFrame) -> None:
    split = draw_splits(tiles, split_by="tile", seed=0)
    assert np.bincount(split).tolist() == [25_670, 11_002, 3_732]
    assert ((split == 2) == (tiles["split"] == "test")).all()


def test_the_split_follows_from_its_own_seed_alone(tiles: pd.DataFrame) -> None:
    first, again, other = (draw_splits(tiles, split_by="tile", seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.bincount(other).tolist() == [25_670, 11_002, 3_732]


def test_a_split_by_image_leaves_no_image_on_both_sides(tiles: pd.DataFrame) -> None:
    split = draw_splits(tiles, split_by="image", seed=0)
    assert pd.Series(split).groupby(tiles["pair"].to_numpy()).nunique().max() == 1
    assert np.bincount(split)[1] == 4 * math.ceil(0.3 * 9_168)
    by_tile = pd.Series(draw_splits(tiles, split_by="tile", seed=0))
    assert by_tile.groupby(tiles["pair"].to_numpy()).nunique().max() == 2  # the paper's way does leave some
