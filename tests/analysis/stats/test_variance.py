import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.errors import RecordsError
from analysis.stats.variance import components, pairing_gain, reml_complete, reml_incomplete

NAN = math.nan


def tidy(matrix):
    seed, cell = np.indices(np.shape(matrix))
    return pd.DataFrame({"cell": cell.ravel(), "seed": seed.ravel(), "value": np.ravel(matrix)})


def crossed(rng, seeds, cells, *, of_cells=0.3, of_seeds=0.2, rest=0.1):
    """Seeds x cells with a mean of 0 and these standard deviations."""
    parts = rng.normal(0, of_cells, (1, cells)), rng.normal(0, of_seeds, (seeds, 1))
    return parts[0] + parts[1] + rng.normal(0, rest, (seeds, cells))


def mean_squares(matrix):
    """The mean squares of cells, seeds and rest, by slow loops over the two-way table."""
    seeds, cells = matrix.shape
    mean = matrix.mean()
    by_cell = [matrix[:, c].mean() for c in range(cells)]
    by_seed = [matrix[s].mean() for s in range(seeds)]
    rest = sum((matrix[s, c] - by_cell[c] - by_seed[s] + mean) ** 2 for s in range(seeds) for c in range(cells))
    return (
        seeds * sum((x - mean) ** 2 for x in by_cell) / (cells - 1),
        cells * sum((x - mean) ** 2 for x in by_seed) / (seeds - 1),
        rest / ((cells - 1) * (seeds - 1)),
    )


def test_complete_grid_gives_the_estimators_of_the_analysis_of_variance():
    matrix = crossed(np.random.default_rng(0), 4, 6) + 0.5
    of_cells, of_seeds, rest = mean_squares(matrix)
    found = components(tidy(matrix))
    assert found.between_cells**2 == pytest.approx((of_cells - rest) / 4)
    assert found.between_seeds**2 == pytest.approx((of_seeds - rest) / 6)
    assert found.residual**2 == pytest.approx(rest)
    # The mean's variance and Satterthwaite's degrees of freedom, in mean squares.
    squared = (of_cells + of_seeds - rest) / 24
    freedom = (24 * squared) ** 2 / (of_cells**2 / 5 + of_seeds**2 / 3 + rest**2 / 15)
    assert (found.mean, found.error, found.freedom) == pytest.approx((matrix.mean(), math.sqrt(squared), freedom))
    ends = stats.t.interval(0.95, freedom, matrix.mean(), math.sqrt(squared))
    assert (found.low, found.high) == pytest.approx(ends)


def test_a_mean_square_below_the_rests_is_pooled_with_it():
    matrix = np.array([[0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0], [0.4, 0.6, 0.4, 0.6]])
    of_cells, of_seeds, rest = mean_squares(matrix)
    assert max(of_cells, of_seeds) < rest
    found = components(tidy(matrix))
    assert (found.between_cells, found.between_seeds) == (0, 0)
    assert found.residual == pytest.approx(matrix.std(ddof=1))
    assert found.error == pytest.approx(matrix.std(ddof=1) / math.sqrt(12))


@pytest.mark.parametrize("spreads", [(0.3, 0.2, 0.1), (0, 0.2, 0.1), (0.3, 0, 0.1), (0, 0, 1), (1, 1, 0.002)])
def test_likelihood_of_a_complete_grid_has_its_maximum_where_the_closed_form_says(spreads):
    rng = np.random.default_rng(1)
    names = ("of_cells", "of_seeds", "rest")
    for shape in ((3, 4), (5, 12), (2, 3)):
        matrix = crossed(rng, *shape, **dict(zip(names, spreads, strict=True)))
        assert reml_incomplete(matrix) == pytest.approx(reml_complete(matrix), rel=2e-3, abs=1e-6)


def deviance(matrix, of_cells, of_seeds, rest):
    """-2 log restricted likelihood, from the dense covariance matrix."""
    seed, cell = np.nonzero(~np.isnan(matrix))
    y = matrix[seed, cell]
    covariance = of_cells * np.equal.outer(cell, cell) + of_seeds * np.equal.outer(seed, seed) + rest * np.eye(len(y))
    inverse = np.linalg.inv(covariance)
    ones = inverse.sum()
    mean = inverse.sum(axis=0) @ y / ones
    square = (y - mean) @ inverse @ (y - mean)
    return np.linalg.slogdet(covariance)[1] + math.log(ones) + square, mean, 1 / math.sqrt(ones)


@pytest.mark.parametrize("spreads", [(0.3, 0.2, 0.1), (0.0, 0.0, 0.2)])
def test_incomplete_grid_has_the_greatest_restricted_likelihood(spreads):
    rng = np.random.default_rng(2)
    matrix = crossed(rng, 4, 8, **dict(zip(("of_cells", "of_seeds", "rest"), spreads, strict=True)))
    matrix[rng.random(matrix.shape) < 0.3] = NAN
    found = components(tidy(matrix))
    variances = np.square([found.between_cells, found.between_seeds, found.residual])
    best, mean, error = deviance(matrix, *variances)
    assert (found.mean, found.error) == pytest.approx((mean, error), rel=1e-5)
    for step in np.vstack([np.eye(3), -np.eye(3), rng.normal(size=(40, 3))]):
        for size in (1e-4, 1e-3, 1e-2):
            near = np.maximum(variances + size * step, [0, 0, 1e-6])
            assert deviance(matrix, *near)[0] >= best - 1e-6


def test_parts_of_known_truth_are_found():
    rng = np.random.default_rng(3)
    found = [components(tidy(crossed(rng, 10, 20))) for _ in range(60)]
    for name, truth in (("between_cells", 0.3), ("between_seeds", 0.2), ("residual", 0.1)):
        variances = [getattr(one, name) ** 2 for one in found]
        assert np.mean(variances) == pytest.approx(truth**2, abs=4 * np.std(variances) / math.sqrt(60))


@pytest.mark.parametrize("lost", [0.0, 0.25])
def test_interval_covers_the_mean_of_all_such_cells_and_seeds(lost):
    rng = np.random.default_rng(4)
    runs, wrong = (500, 0) if not lost else (60, 0)
    for _ in range(runs):
        matrix = crossed(rng, 5, 8)
        matrix[rng.random(matrix.shape) < lost] = NAN
        found = components(tidy(matrix))
        wrong += not found.low <= 0 <= found.high
    assert wrong / runs <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / runs)


def test_a_grid_that_does_not_determine_the_parts_has_none():
    # One seed; one cell; too few cells share seeds.
    for matrix in ([[0.1, 0.2, 0.3]], [[0.1], [0.3]], [[0.1, NAN], [NAN, 0.3]]):
        found = components(tidy(matrix))
        assert found.mean == pytest.approx(0.2)
        assert all(math.isnan(x) for x in (found.low, found.between_cells, found.between_seeds, found.residual))
    assert math.isnan(components(tidy([[NAN]])).mean)


def test_no_spread_and_no_rest_are_no_trouble():
    found = components(tidy(np.full((3, 4), 0.1)))
    assert (found.between_cells, found.between_seeds, found.residual, found.low) == (0, 0, 0, found.high)
    sums = np.add.outer([0.0, 0.1, 0.3], [0.0, 0.2, 0.5, 0.6])
    assert components(tidy(sums)).residual == pytest.approx(0, abs=1e-12)
    sums[0, 0] = NAN
    found = components(tidy(sums))
    assert found.residual == pytest.approx(0, abs=1e-3)
    assert found.between_seeds == pytest.approx(np.std([0.0, 0.1, 0.3], ddof=1), rel=0.05)


@pytest.fixture
def sweep(row, frame):
    """Records of one loss: cells x seeds of noisy scores, and of exposure scores."""

    def make(noisy, exposure):
        rows = []
        for pairing, scores in (("noisy", noisy), ("exposure", exposure)):
            for (seed, cell), f1 in np.ndenumerate(scores):
                rho = (1 + cell) / np.shape(scores)[1]
                status = {"status": "failed"} if math.isnan(f1) else {}
                rows.append(row("moco", rho, 0.5, pairing, seed, None if math.isnan(f1) else f1, **status))
        return frame(rows)

    return make


def test_pairing_gain_is_that_of_the_covariances(sweep):
    rng = np.random.default_rng(5)
    shared = rng.normal(size=(6, 4))
    noisy, exposure = shared + 0.3 * rng.normal(size=(6, 4)), shared + 0.4 * rng.normal(size=(6, 4))
    gain = pairing_gain(sweep(noisy, exposure)).loc[0]
    cells = [np.cov(noisy[:, c], exposure[:, c]) for c in range(4)]
    for prefix, covariance in (
        ("", np.mean(cells, axis=0)),
        ("grid_", np.cov(noisy.mean(axis=1), exposure.mean(axis=1))),
    ):
        apart = np.trace(covariance)
        paired = apart - 2 * covariance[0, 1]
        assert gain[f"{prefix}paired"] == pytest.approx(math.sqrt(paired))
        assert gain[f"{prefix}unpaired"] == pytest.approx(math.sqrt(apart))
        assert gain[f"{prefix}width_ratio"] == pytest.approx(math.sqrt(paired / apart))
        assert gain[f"{prefix}worth"] == pytest.approx(apart / paired)
        both = covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1])
        assert gain[f"{prefix}correlation"] == pytest.approx(both)
    assert gain["grid_paired"] == pytest.approx((noisy - exposure).mean(axis=1).std(ddof=1))
    assert gain["seeds"] == 6


def test_pairing_is_worth_nothing_between_independent_halves_and_all_between_equal_ones(sweep):
    rng = np.random.default_rng(6)
    noisy, exposure = rng.normal(size=(2, 30, 10))
    assert pairing_gain(sweep(noisy, exposure)).loc[0, "width_ratio"] == pytest.approx(1, abs=0.15)
    equal = pairing_gain(sweep(noisy, noisy)).loc[0]
    assert (equal["width_ratio"], equal["worth"], equal["correlation"]) == (0, math.inf, pytest.approx(1))
    against = pairing_gain(sweep(noisy, -noisy)).loc[0]
    assert against["correlation"] == pytest.approx(-1)
    assert against["width_ratio"] == pytest.approx(math.sqrt(2))
    assert against["worth"] == pytest.approx(0.5)


def test_pairing_gain_takes_complete_pairs_of_two_seeds(sweep):
    noisy = np.array([[0.1, 0.2, NAN], [0.3, NAN, 0.4], [0.2, 0.5, NAN]])
    gain = pairing_gain(sweep(noisy, np.array([[0.2, 0.1, 0.3], [0.1, 0.2, 0.1], [0.2, NAN, 0.1]]))).loc[0]
    assert gain["seeds"] == 3
    assert gain["paired"] == pytest.approx(np.std([-0.1, 0.2, 0.0], ddof=1))


def test_pairing_gain_is_null_with_one_seed_or_no_spread(sweep):
    for scores, seeds in ((np.array([[0.1, 0.2]]), 0), (np.full((3, 2), 0.5), 3)):
        gain = pairing_gain(sweep(scores, scores)).loc[0]
        assert gain["seeds"] == seeds
        assert gain[["correlation", "width_ratio", "worth", "grid_width_ratio", "grid_worth"]].isna().all()


def test_pairing_gain_without_pairs_is_empty_and_an_unknown_metric_is_named(row, frame):
    records = frame([row("moco", 0.0, 0.0, "none")])
    assert pairing_gain(records).empty
    assert "width_ratio" in pairing_gain(records)
    with pytest.raises(RecordsError, match="no metric 'f1'"):
        pairing_gain(records, "f1")
