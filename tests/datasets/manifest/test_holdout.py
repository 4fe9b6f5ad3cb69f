"""Pairs are drawn for validation and test by a seed, whole groups at a time."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from datasets.errors import InputError
from datasets.manifest.config import ManifestSettings
from datasets.manifest.holdout import HoldOut, hold_out


@given(st.integers(3, 200), st.integers(0, 5), st.floats(0.05, 0.4), st.floats(0.05, 0.4))
def test_without_groups_the_numbers_are_exact(number: int, seed: int, val: float, test: float) -> None:
    val, test = round(val, 2), round(test, 2)
    assume(sum(int(share * number + 0.5) for share in (val, test)) < number)  # one pair is left to train on
    found = hold_out([""] * number, HoldOut(val, test, seed))
    for split, share in (("val", val), ("test", test)):
        assert abs(found.count(split) - max(1, share * number)) <= 0.5 + 1e-9
    assert found.count("train") >= 1
    assert found == hold_out([""] * number, HoldOut(val, test, seed))


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=60), st.integers(0, 5))
def test_groups_stay_together_and_every_split_gets_one(groups: list[str], seed: int) -> None:
    if len(set(groups)) < 3:
        with pytest.raises(InputError, match="divided among train, val and test: pairs of one group stay together"):
            hold_out(groups, HoldOut(0.2, 0.2, seed))
        return
    found = hold_out(groups, HoldOut(0.2, 0.2, seed))
    assert set(found) == {"train", "val", "test"}
    assert len(set(zip(groups, found, strict=True))) == len(set(groups))


@given(st.lists(st.booleans(), min_size=3, max_size=40), st.integers(0, 5))
def test_validation_has_a_clean_pair_if_there_is_one(noisy: list[bool], seed: int) -> None:
    found = hold_out([""] * len(noisy), HoldOut(0.2, 0.2, seed), noisy)
    clean = [not bad for split, bad in zip(found, noisy, strict=True) if split == "val"]
    assert any(clean) == (not all(noisy))


def test_another_seed_draws_others_and_a_share_of_nothing_draws_none() -> None:
    draws = [hold_out([""] * 50, HoldOut(0.3, 0.3, seed)) for seed in range(3)]
    assert len(set(map(tuple, draws))) == 3
    assert "test" not in hold_out([""] * 50, HoldOut(0.3, 0.0, 0))


@pytest.mark.parametrize("shares", [(0.2,), (0.5, 0.5), (0.2, 0.2, 0.2)])
def test_shares_that_leave_nothing_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"--data\.holdout .*: give two shares, of val and test"):
        ManifestSettings(holdout=shares)
