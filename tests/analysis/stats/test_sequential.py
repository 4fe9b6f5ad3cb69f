"""The raised level for adaptive seeds, compared with simulations and with plain bounds."""

import numpy as np
import pytest

from analysis.stats.sequential import MOST, adjusted_level, interval_coverage
from benchmarks.sequential import LAWS, RATIOS, beyond, fixed, half_widths, holds, stops

RUNS = 20_000


def drawn(most, runs=RUNS, law="normal"):
    return LAWS[law](np.random.default_rng(8), (runs, most))


def slack(runs=RUNS):
    """Four standard errors of a simulated coverage of about 95 %."""
    return 4 * np.sqrt(0.95 * 0.05 / runs)


@pytest.mark.parametrize(("first", "most", "level"), [(3, 12, 0.95), (2, 6, 0.97), (5, 7, 0.9)])
def test_coverage_is_that_of_simulated_sweeps(first, most, level):
    values, ratios = drawn(most), np.array([0.3, 0.6, 1.0, 2.0])
    simulated = [holds(values, ratio, first, level)[0] for ratio in ratios]
    # With 2 or fewer degrees of freedom, bins of the sum of squares are coarse where most of its distribution is.
    np.testing.assert_allclose(interval_coverage(first, most, level, ratios), simulated, atol=slack() + 0.002)


def test_without_looking_coverage_is_the_level():
    np.testing.assert_allclose(interval_coverage(4, 4, 0.95, np.array([0.1, 1.0, 9.0])), 0.95, atol=5e-4)
    # Seeds always stop at the first decision, or never before the last.
    np.testing.assert_allclose(interval_coverage(3, 9, 0.95, np.array([1e-4, 1e4])), 0.95, atol=1e-3)


@pytest.mark.parametrize(("first", "most"), [(3, 12), (5, 8)])
def test_looking_errs_and_the_widened_level_makes_up_for_it(first, most):
    values, level = drawn(most), adjusted_level(first, most)
    plain = min(holds(values, ratio, first, 0.95)[0] for ratio in RATIOS)
    assert plain < 0.95 - 2 * slack()
    held = min(holds(values, ratio, first, level)[0] for ratio in RATIOS)
    assert 0.95 - slack() < held < 0.95 + 0.01


def test_a_claim_is_not_made_wrongly_too_often_whatever_decides_of_the_seeds():
    watched, other = drawn(12), np.random.default_rng(9).standard_normal((RUNS, 12))
    allowed = 0.025 + 4 * np.sqrt(0.025 / RUNS)
    for claimed in (watched, (watched + other) / np.sqrt(2), other):
        assert max(beyond(watched, claimed, ratio, 3, adjusted_level(3, 12)) for ratio in RATIOS) < allowed
    assert max(beyond(watched, watched, ratio, 3, 0.95) for ratio in RATIOS) > 0.04


def test_the_level_grows_with_the_number_of_looks_and_less_than_their_correction_would():
    assert adjusted_level(5, 5) == 0.95
    levels = [adjusted_level(3, most) for most in (4, 6, 9, 14)]
    assert sorted(levels) == levels
    assert levels[0] > 0.95
    assert levels[-1] < 1 - 0.05 / 12
    assert adjusted_level(6, 14) < levels[-1]
    assert 0.9 < adjusted_level(3, 9, 0.9) < levels[2]
    assert adjusted_level(3, 9) == pytest.approx(round(adjusted_level(3, 9), 4), abs=1e-12)


@pytest.mark.parametrize(("first", "most"), [(1, 5), (0, 3), (5, 4), (3, MOST + 1)])
def test_what_cannot_be_is_refused(first, most):
    with pytest.raises(ValueError, match="need 2 <= first <= most"):
        adjusted_level(first, most)


def test_the_simulation_counts_right():
    values = np.array([[0.0, 2.0, 1.0, 1.0], [0.0, 0.0, 0.0, 9.0]])
    half = half_widths(values, 2, 0.95)
    assert half[0, 0] == pytest.approx(12.7062)  # t of 1 degree, times a standard error of 1
    assert half[0, 1] == pytest.approx(4.302653 / np.sqrt(3))
    assert stops(half, 3.0, 2).tolist() == [3, 2]
    assert [fixed(ratio) for ratio in (100.0, 1.0)] == [2, 9]


@pytest.mark.slow
@pytest.mark.parametrize(("first", "most"), [(2, 8), (3, 6), (3, 12), (3, 30), (5, 20), (9, 10)])
def test_the_widened_level_holds_in_many_runs(first, most):
    values = drawn(most, 200_000)
    ratios = np.geomspace(0.1, 10, 30)
    held = [holds(values, ratio, first, adjusted_level(first, most))[0] for ratio in ratios]
    assert 0.95 - slack(200_000) < min(held) < 0.954
