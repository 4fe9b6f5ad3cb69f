"""Means over assignments of texture categories to roles, against values computed by hand and by simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.records.studies import with_interactions
from analysis.stats.assignments import ROLES, mean_over_assignments, over_assignments, too_few
from analysis.stats.intervals import mean_of_matrix
from tests.helpers.varied import STEPS, at, sweep

LAYOUT = np.array([[0.01, 0.05, 0.03, 0.02], [0.02, 0.09, 0.05, 0.03], [-0.01, 0.02, 0.04, 0.00]])
"""Effects of three assignments on four seeds."""


def tidy(matrix):
    assignment, seed = np.indices(np.shape(matrix))
    return pd.DataFrame({"assignment": assignment.ravel(), "seed": seed.ravel(), "value": np.ravel(matrix)}).dropna()


def by_roles(effects, **changes):
    """Records of {categories: effects by seed}: two grid points, half a point below and above the effect."""
    return [
        at(
            "within_image",
            {ROLES: roles, **changes},
            rho,
            0.5 * (rho > 0),
            "noisy" if rho else "none",
            seed,
            0.5 + 0.03 * seed + (effect + 0.01 * (rho - 0.75) if rho else 0),
            data=roles,
        )
        for roles, of_seeds in effects.items()
        for seed, effect in enumerate(of_seeds)
        for rho in (0.0, 0.5, 1.0)
    ]


def means(rows):
    study = next(study for study in with_interactions(pd.DataFrame(rows)) if study.varied)
    return over_assignments(study)


THREE = dict(zip(("a,b,c", "a,c,b", "b,c,a"), LAYOUT.tolist(), strict=True))


def test_the_interval_is_that_of_two_mean_squares_and_the_fewer_degrees_of_freedom():
    assignments, seeds = LAYOUT.shape
    squares = seeds * LAYOUT.mean(axis=1).var(ddof=1), assignments * LAYOUT.mean(axis=0).var(ddof=1)
    error = math.sqrt(sum(squares) / LAYOUT.size)
    found = mean_over_assignments(tidy(LAYOUT))
    assert (found.estimate, found.error, found.freedom) == pytest.approx((LAYOUT.mean(), error, 2))
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 2, LAYOUT.mean(), error))
    assert (found.cells, found.seeds, found.values) == (3, 4, 12)
    turned = mean_over_assignments(tidy(LAYOUT.T))
    assert (turned.low, turned.high) == pytest.approx((found.low, found.high))  # the two factors are alike


def test_records_give_the_means_over_their_grid():
    (row,) = means(by_roles(THREE)).to_dict("records")
    expected = mean_over_assignments(tidy(LAYOUT))
    assert (row["quantity"], row["objective"]) == ("noisy minus rho 0", "within_image")
    assert [row[name] for name in ("estimate", "low", "high")] == pytest.approx(
        [expected.estimate, expected.low, expected.high]
    )
    assert (row["assignments"], row["seeds"], row["values"], row["left_out"], row["differences"]) == (3, 4, 12, 0, 24)


def test_swapped_classes_and_another_irrelevant_noise_are_the_same_assignment():
    swapped = {"b,a,c": [x + 0.02 for x in LAYOUT[0]], "a,b,c,d": [x - 0.02 for x in LAYOUT[0]]}
    (row,) = means(by_roles(THREE | swapped)).to_dict("records")
    (plain,) = means(by_roles(THREE)).to_dict("records")
    for name in ("estimate", "low", "high", "assignments", "values"):
        assert row[name] == pytest.approx(plain[name]), name


def test_an_assignment_and_a_seed_without_a_cell_are_left_out_and_counted():
    rows = by_roles(THREE)
    rows.remove(next(row for row in rows if (row[ROLES], row["seed"], row["rho"]) == ("a,c,b", 1, 1.0)))
    (row,) = means(rows).to_dict("records")
    holed = np.where(np.arange(12).reshape(3, 4) == 5, np.nan, LAYOUT)
    assert (row["values"], row["left_out"]) == (11, 1)
    assert row["estimate"] == pytest.approx(np.nanmean(holed, axis=1).mean())
    assert row["low"] < row["estimate"] < row["high"]


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        (LAYOUT[:, :1], "no interval: one seed"),
        (LAYOUT[:1], "no interval: no seed has two assignments"),
        ([[0.1, 0.2, np.nan, np.nan], [np.nan, np.nan, 0.1, 0.3]], "no interval: no seed has two assignments"),
        (np.full((2, 2), np.nan), "no value"),
    ],
)
def test_without_two_of_each_there_is_no_interval_and_a_reason(layout, reason):
    found = mean_over_assignments(tidy(layout))
    assert all(map(math.isnan, (found.low, found.high, found.error)))
    assert found.method == reason


def test_equal_effects_have_an_interval_without_width():
    found = mean_over_assignments(tidy(np.full((3, 2), 0.02)))
    assert (found.low, found.high) == pytest.approx((0.02, 0.02))


def test_each_value_of_another_setting_has_its_own_mean():
    rows = [
        {**row, "recipe": f"{row['recipe']}{steps}"}
        for steps, gain in ((2.0, 0.0), (8.0, 0.1))
        for row in by_roles({roles: [x + gain for x in line] for roles, line in THREE.items()}, **{STEPS: steps})
    ]
    table = means(rows)
    assert table[STEPS].tolist() == [2, 8]
    assert table["estimate"].tolist() == pytest.approx([LAYOUT.mean(), LAYOUT.mean() + 0.1])


def test_values_on_collapsed_cells_are_counted():
    rows = [{**row, "collapsed": (row["seed"], row["rho"]) == (0, 0.0)} for row in by_roles(THREE)]
    assert means(rows)[["collapsed", "differences"]].to_numpy().tolist() == [[6, 24]]


def test_without_roles_there_is_nothing():
    assert means(sweep()).empty
    assert too_few(means(sweep())) == ""


def test_few_assignments_are_said():
    assert too_few(means(by_roles(THREE))).startswith("3 assignments are few")
    assert too_few(means(by_roles(THREE | {"a,b,d": [0.1, 0.2, 0.1, 0.0]}))) == ""


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3, 8), (12, 8)])
@pytest.mark.parametrize("spreads", [(0, 1), (1, 1), (3, 0)])
def test_the_interval_covers_the_mean_of_all_assignments_and_seeds(shape, spreads):
    """`spreads`: standard deviations between assignments and between seeds; that of the rest is 1."""
    rng, runs = np.random.default_rng(0), 200
    wrong = np.zeros(2)
    for _ in range(runs):
        layout = spreads[0] * rng.normal(size=(shape[0], 1)) + spreads[1] * rng.normal(size=(1, shape[1]))
        layout = layout + rng.normal(size=shape)
        for which, found in enumerate((mean_over_assignments(tidy(layout)), mean_of_matrix(layout.T, bootstrap=False))):
            wrong[which] += not found.low <= 0 <= found.high
    assert wrong[0] / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)
    assert spreads[0] < 3 or wrong[1] / runs > 0.3  # the interval over seeds takes the assignments as fixed
