"""The predictions of sentences: the span of seeds, and regions."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.findings.base import Region, further_seeds_for_span, seed_span


def test_span_is_the_expected_range_of_three_normal_scores():
    generator = np.random.default_rng(0)
    draws = generator.normal(0, 0.02, (20_000, 3))
    cell = np.repeat(np.arange(len(draws)), 3)
    values = pd.DataFrame({"cell": cell, "seed": np.tile([0, 1, 2], len(draws)), "value": draws.ravel()})
    assert seed_span(values).estimate == pytest.approx(np.ptp(draws, axis=1).mean(), rel=0.02)


def test_span_pools_unequal_cells_and_leaves_out_those_of_one_seed():
    values = pd.DataFrame(
        {"cell": ["a", "a", "a", "b", "b", "c"], "seed": [0, 1, 2, 0, 1, 0], "value": [1.0, 2, 3, 5, 9, 4]}
    )
    span = seed_span(values)
    assert span.estimate == pytest.approx(3 / np.sqrt(np.pi) * np.sqrt((2 + 8) / 3))
    assert (span.cells, span.left_out, span.seeds, span.values, span.freedom) == (2, 1, 3, 5, 1.5)


def test_span_of_an_unbalanced_grid_misses_its_truth_no_more_often_than_it_says():
    # Twenty cells with two seeds and one with ten, which share their errors, so the cells add little information.
    rng, outside, runs = np.random.default_rng(0), np.zeros(2), 200
    frame = pd.DataFrame({"cell": np.repeat(np.arange(21), [2] * 20 + [10]), "seed": [0, 1] * 20 + list(range(10))})
    for _ in range(runs):
        span = seed_span(frame.assign(value=rng.normal(size=10)[frame["seed"]]))
        outside += np.array([span.low, -span.high]) > np.array([1, -1]) * 3 / np.sqrt(np.pi)
    assert (outside / runs < 0.05).all()


def test_further_seeds_of_a_span_are_enough_and_one_fewer_is_not():
    values = pd.DataFrame({"cell": "a", "seed": range(3), "value": [0.0, 0.002, 0.004]})
    span = seed_span(values)
    number = further_seeds_for_span(span, threshold=0.01)
    chosen = [np.sqrt(n / stats.chi2.ppf(0.025, n)) * span.estimate for n in (2 + number, 1 + number)]
    assert chosen[0] < 0.01 <= chosen[1]


def test_regions_say_what_they_hold_and_refuse_to_hold_nothing():
    assert [str(Region(above=-0.01)), str(Region(below=0.0)), str(Region(above=-0.024, below=0.024))] == [
        "> -1",
        "< 0",
        "-2.4 to 2.4",
    ]
    for bounds in ({}, {"above": 0.1, "below": 0.1}):
        with pytest.raises(ValueError, match="contains nothing or everything"):
            Region(**bounds)
