"""Pairs are drawn for validation and test by a seed, whole groups at a time."""

from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from datasets.errors import InputError
from datasets.manifest.config import ManifestSettings
from datasets.manifest.holdout import HoldOut, hold_out, hold_out_rows
from datasets.manifest.table import Row


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


def test_rows_that_share_an_image_stay_together() -> None:
    """Also by way of others, and with the groups of all of them."""
    chain = [Row(number=n, cells={"split": "", "image": f"{n}.png", "partner": f"{n + 1}.png"}) for n in range(3)]
    alone = [Row(number=n, cells={"split": "", "image": f"{n}.png", "partner": f"{n}b.png"}) for n in range(10, 17)]
    tied = Row(number=9, cells={"split": "", "image": "10.png", "partner": "c.png", "group": "west"})
    west = Row(number=8, cells={"split": "", "image": "d.png", "partner": "e.png", "group": "west"})
    for seed in range(20):
        rows = hold_out_rows(Path("x.csv"), [*chain, *alone, tied, west], HoldOut(0.2, 0.3, seed))
        splits = [row.cells["split"] for row in rows]
        assert len(set(splits[:3])) == 1
        assert splits[3] == splits[10] == splits[11]
        assert {*splits} == {"train", "val", "test"}


def test_an_image_is_known_by_its_file(tmp_path: Path) -> None:
    """Not by how it is written; and cells of Parquet files in several folders may name different files alike."""
    rows = [
        Row(number=n, cells={"split": "", "image": f"{'./' * (n % 2)}{n // 2}.png", "partner": f"p{n}.png"})
        for n in range(6)
    ]
    splits = [row.cells["split"] for row in hold_out_rows(tmp_path / "x.csv", rows, HoldOut(0.3, 0.3, 0))]
    assert splits[::2] == splits[1::2]
    assert {*splits} == {"train", "val", "test"}
    cells = {"split": "", "image": "before.tif", "partner": "after.tif"}
    pictures = [{role: tmp_path / str(n) / cells[role] for role in ("image", "partner")} for n in range(6)]
    rows = [Row(number=n, cells=cells, pictures=own) for n, own in enumerate(pictures)]
    assert len({row.cells["split"] for row in hold_out_rows(tmp_path / "x", rows, HoldOut(0.2, 0.2, 0))}) == 3


def test_pairs_that_all_share_images_cannot_be_divided() -> None:
    chain = [Row(number=n, cells={"split": "", "image": f"{n}.png", "partner": f"{n + 1}.png"}) for n in range(6)]
    with pytest.raises(
        InputError, match=r"1 group cannot be divided .* pairs that share an image; add groups or pairs"
    ):
        hold_out_rows(Path("x.csv"), chain, HoldOut(0.2, 0.2, 0))


def test_noisy_pairs_are_known_as_pandas_writes_them() -> None:
    rows = [
        Row(number=n, cells={"split": "", "image": f"{n}.png", "partner": f"{n}b.png", "noisy": "1.0" if n else "0.0"})
        for n in range(6)
    ]
    for seed in range(10):
        assert hold_out_rows(Path("x.csv"), rows, HoldOut(0.2, 0.2, seed))[0].cells["split"] == "val"


def test_a_draw_from_nothing_says_so() -> None:
    rows = [Row(number=1, cells={"split": "test", "image": "a", "partner": "b"})]
    with pytest.raises(InputError, match="draws from the pairs of split train, or without a split: there are none"):
        hold_out_rows(Path("x.csv"), rows, HoldOut(0.2, 0.2, 0))


@pytest.mark.parametrize("shares", [(0.2,), (0.5, 0.5), (0.2, 0.2, 0.2)])
def test_shares_that_leave_nothing_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match=r"--data\.holdout .*: give two shares, of val and test"):
        ManifestSettings(holdout=shares)
