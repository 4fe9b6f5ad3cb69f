import math

import pytest

from analysis.errors import RecordsError
from analysis.stats.differences import against_random, against_rho_zero, difference_by_objective, noisy_minus_exposure


@pytest.fixture
def by_hand(row, frame):
    """Two grid points of two seeds: differences .02 and .04 (mean .03), then .05 and a missing half."""
    return frame(
        [
            row("moco", 0.5, 0.25, "noisy", 0, 0.62),
            row("moco", 0.5, 0.25, "exposure", 0, 0.60),
            row("moco", 0.5, 0.25, "noisy", 1, 0.68),
            row("moco", 0.5, 0.25, "exposure", 1, 0.64),
            row("moco", 1.0, 0.25, "noisy", 0, 0.70),
            row("moco", 1.0, 0.25, "exposure", 0, 0.65),
            row("moco", 1.0, 0.25, "noisy", 1, 0.90),
            row("moco", 1.0, 0.25, "exposure", 1, status="failed"),
            row("moco", 0.0, 0.0, "none", 0, 0.50),
            row("moco", 0.0, 0.0, "none", 1, 0.51),
            row("random", 0.0, 0.0, "none", 0, 0.40),
        ]
    )


def test_noisy_minus_exposure_by_hand(by_hand):
    table = noisy_minus_exposure(by_hand)
    assert list(table.columns) == [
        *("dataset", "objective", "rho", "nu", "seed"),
        *("noisy", "exposure", "difference"),
    ]
    assert table["difference"][:3].tolist() == pytest.approx([0.02, 0.04, 0.05])
    # The incomplete pair is still listed.
    assert len(table) == 4
    assert table["noisy"][3] == 0.90
    assert math.isnan(table["exposure"][3])
    assert math.isnan(table["difference"][3])


def test_difference_by_objective_by_hand(by_hand):
    (row,) = difference_by_objective(noisy_minus_exposure(by_hand)).to_dict("records")
    assert row["mean"] == pytest.approx((0.03 + 0.05) / 2)
    assert row["std"] == pytest.approx(0.02 / math.sqrt(2))  # of .03 and .05, ddof 1
    counts = {name: row[name] for name in ("n", "cells", "seeds", "missing")}
    assert counts == {"n": 3, "cells": 2, "seeds": 2, "missing": 1}


def test_one_grid_point_has_no_std(row, frame):
    records = frame([row(pairing="noisy", f1=0.6), row(pairing="exposure", f1=0.5)])
    (only,) = difference_by_objective(noisy_minus_exposure(records)).to_dict("records")
    assert only["mean"] == pytest.approx(0.1)
    assert math.isnan(only["std"])


def test_nothing_but_missing_halves_is_reported(row, frame):
    (only,) = difference_by_objective(noisy_minus_exposure(frame([row(pairing="noisy")]))).to_dict("records")
    assert math.isnan(only["mean"])
    assert (only["n"], only["cells"], only["seeds"], only["missing"]) == (0, 0, 0, 1)


def test_a_pair_that_failed_twice_is_missing(row, frame):
    failed = [row(pairing=pairing, status="failed") for pairing in ("noisy", "exposure")]
    assert difference_by_objective(noisy_minus_exposure(frame(failed)))["missing"].tolist() == [1]


def test_no_noisy_cells_give_an_empty_table(row, frame):
    differences = noisy_minus_exposure(frame([row("moco", 0.0, 0.0, "none")]))
    assert differences.empty
    assert difference_by_objective(differences).empty
    assert against_rho_zero(frame([row("moco", 0.0, 0.0, "none")])).empty


def test_swapping_the_pairings_flips_the_sign(frame, rows):
    records = frame(rows)
    swapped = records.assign(pairing=records["pairing"].replace({"noisy": "exposure", "exposure": "noisy"}))
    there = noisy_minus_exposure(records)["difference"]
    back = noisy_minus_exposure(swapped)["difference"]
    assert there.tolist() == (-back).tolist()


def test_order_of_the_records_does_not_matter(frame, rows):
    straight, reverse = noisy_minus_exposure(frame(rows)), noisy_minus_exposure(frame(rows[::-1]))
    assert straight.equals(reverse)


def test_against_rho_zero_by_hand(by_hand):
    table = against_rho_zero(by_hand).set_index(["rho", "pairing", "seed"])["difference"]
    assert len(table) == 8
    assert table[0.5, "noisy", 0] == pytest.approx(0.12)
    assert table[0.5, "exposure", 1] == pytest.approx(0.13)
    assert math.isnan(table[1.0, "exposure", 1])


def test_against_random_by_hand(by_hand):
    table = against_random(by_hand)
    assert table["objective"].tolist() == ["moco", "moco"]
    assert table["difference"][0] == pytest.approx(0.1)
    assert math.isnan(table["difference"][1])  # there is no random encoder of seed 1


def test_data_sets_are_kept_apart(row, frame):
    records = frame([row(dataset="vts", pairing="noisy"), row(dataset="xbd", pairing="exposure")])
    assert noisy_minus_exposure(records)["difference"].isna().tolist() == [True, True]


def test_other_metrics(by_hand):
    assert noisy_minus_exposure(by_hand, "test_miou")["difference"].dropna().tolist() == [0, 0, 0]
    with pytest.raises(RecordsError, match=r"no metric 'f1'.*test_f1_macro"):
        noisy_minus_exposure(by_hand, "f1")


def test_several_recipes_are_not_compared(row, frame):
    records = frame([row(pairing="noisy", recipe="aa"), row(pairing="exposure", recipe="bb")])
    for statistic in (noisy_minus_exposure, against_rho_zero, against_random):
        with pytest.raises(RecordsError, match=r"2 recipes \(aa, bb\)"):
            statistic(records)


def test_several_sets_of_data_are_not_compared(row, frame):
    for other in ("bb", None):
        records = frame([row(pairing="noisy", data="aa"), row(pairing="exposure", data=other)])
        with pytest.raises(RecordsError, match=r"2 sets of data \(aa, (bb|not recorded)\)"):
            noisy_minus_exposure(records)


def test_the_same_cell_twice_is_refused(row, frame):
    with pytest.raises(RecordsError, match="two keys"):
        noisy_minus_exposure(frame([row(), row(key="f" * 16)]))
