import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.stats.intervals import (
    RANDOM_SEED,
    bca,
    further_seeds,
    further_seeds_text,
    mean_of_matrix,
    mean_over_grid,
    sign_flip_p,
)

NAN = math.nan


def tidy(matrix):
    """A matrix (seeds x cells) as a frame, in random order."""
    seed, cell = np.indices(np.shape(matrix))
    frame = pd.DataFrame({"cell": cell.ravel(), "seed": 10 + seed.ravel(), "value": np.ravel(matrix)})
    return frame.sample(frac=1, random_state=0)


def holes(rng, seeds, cells):
    """Normal values with gaps, at least two values in each cell."""
    matrix = rng.normal(size=(seeds, cells))
    for cell in range(cells):
        lost = rng.choice(seeds, size=rng.integers(0, seeds - 1), replace=False)
        matrix[lost, cell] = NAN
    return matrix


@pytest.mark.parametrize("seeds", [2, 3, 5, 9])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_complete_grid_is_the_t_interval_over_the_seeds_grid_means(seeds, level):
    matrix = np.random.default_rng(seeds).normal(0.3, 1, (seeds, 7))
    found = mean_over_grid(tidy(matrix), level=level)
    expected = stats.ttest_1samp(matrix.mean(axis=1), 0)
    ends = expected.confidence_interval(level)
    assert (found.estimate, found.low, found.high) == pytest.approx((matrix.mean(), ends.low, ends.high))
    assert (found.p, found.freedom) == pytest.approx((expected.pvalue, seeds - 1))
    assert found.error == pytest.approx(stats.sem(matrix.mean(axis=1)))
    assert (found.cells, found.seeds, found.values, found.left_out) == (7, seeds, 7 * seeds, 0)
    assert (found.method, found.level) == ("t over seeds", level)


def test_incomplete_grid_by_slow_loops():
    matrix = holes(np.random.default_rng(4), 5, 9)
    seeds, cells = matrix.shape
    numbers = [sum(not math.isnan(matrix[s, c]) for s in range(seeds)) for c in range(cells)]
    means = [sum(matrix[s, c] for s in range(seeds) if matrix[s, c] == matrix[s, c]) / numbers[c] for c in range(cells)]
    moved, weight = [0.0] * seeds, [0.0] * seeds
    for s in range(seeds):
        for c in range(cells):
            if not math.isnan(matrix[s, c]):
                n = numbers[c]
                moved[s] += math.sqrt(n / (n - 1)) * (matrix[s, c] - means[c]) / (cells * n)
                weight[s] += 1 / (cells * n)
    error = math.sqrt(sum(u * u for u in moved))
    freedom = sum(weight) ** 2 / sum(w * w for w in weight) - 1
    half = stats.t.ppf(0.975, freedom) * error
    found = mean_over_grid(tidy(matrix))
    mean = sum(means) / cells
    assert (found.estimate, found.error, found.freedom) == pytest.approx((mean, error, freedom))
    assert (found.low, found.high) == pytest.approx((mean - half, mean + half))
    assert found.values == sum(numbers)


def test_null_values_are_as_if_not_there():
    frame = tidy(holes(np.random.default_rng(5), 4, 6))
    assert mean_over_grid(frame) == mean_over_grid(frame.dropna())
    nullable = frame.assign(value=frame["value"].astype("Float64"), cell=frame["cell"].replace(0, None).astype(object))
    assert mean_over_grid(nullable) == mean_over_grid(frame)


def test_cells_of_one_seed_are_left_out_where_others_have_more():
    matrix = np.array([[0.1, 0.2, NAN, 0.9], [0.3, 0.1, NAN, NAN], [NAN, NAN, 0.8, NAN]])
    found = mean_over_grid(tidy(matrix))
    assert (found.cells, found.left_out, found.seeds, found.values) == (2, 2, 2, 4)
    assert found.estimate == pytest.approx((0.2 + 0.15) / 2)


def test_one_seed_has_a_mean_and_no_interval():
    for matrix in ([[0.1, 0.2, 0.6]], [[0.1, NAN, NAN], [NAN, 0.2, NAN], [NAN, NAN, 0.6]]):
        found = mean_over_grid(tidy(matrix))
        assert found.estimate == pytest.approx(0.3)
        assert (found.method, found.cells, found.left_out) == ("no interval: one seed", 3, 0)
        assert all(math.isnan(x) for x in (found.low, found.high, found.error, found.freedom, found.p, found.p_exact))
        assert further_seeds(found) is None
        assert further_seeds_text(found) == "one seed: run at least two more"


def test_no_value_is_said():
    for frame in (tidy([[NAN, NAN]]), tidy(np.zeros((0, 3)))):
        found = mean_over_grid(frame)
        assert (found.method, found.cells, found.seeds, found.values) == ("no value", 0, 0, 0)
        assert math.isnan(found.estimate)
        assert further_seeds_text(found, threshold=0) == "no value yet"


@pytest.mark.parametrize("seeds", [2, 3, 12])
def test_equal_seeds_give_an_interval_of_no_width(seeds):
    # .3 - .2 and .2 - .1 differ by rounding.
    matrix = np.where(np.arange(seeds)[:, None] % 2, 0.3 - 0.2, 0.2 - 0.1) + np.zeros((seeds, 4))
    found = mean_over_grid(tidy(matrix))
    assert found.low == found.high == found.estimate == pytest.approx(0.1)
    assert (found.error, found.p, found.p_exact) == (0, 0, 2.0 ** (1 - seeds))
    assert (further_seeds(found), further_seeds(found, threshold=0)) == (0, 0)
    assert further_seeds(found, threshold=found.estimate) is None
    nothing = mean_over_grid(tidy(0 * matrix))
    assert (nothing.low, nothing.high, nothing.p, nothing.p_exact) == (0, 0, 1, 1)


def test_two_values_of_a_cell_and_seed_are_refused():
    frame = pd.concat([tidy([[0.1, 0.2]]), tidy([[0.1, 0.2]])])
    with pytest.raises(ValueError, match="2 values of seed 10"):
        mean_over_grid(frame)
    with pytest.raises(ValueError, match="between 0 and 1"):
        mean_over_grid(tidy([[0.1]]), level=95)


def expanded(seeds):
    """The level whose normal quantile is sqrt(n / (n - 1)) times that of t at 95%."""
    return 2 * stats.norm.cdf(math.sqrt(seeds / (seeds - 1)) * stats.t.ppf(0.975, seeds - 1)) - 1


def scipys(data, statistic, level):
    rng = np.random.default_rng(RANDOM_SEED)
    found = stats.bootstrap((data,), statistic, n_resamples=9_999, confidence_level=level, method="BCa", rng=rng)
    return found.confidence_interval.low, found.confidence_interval.high


def test_bootstrap_of_a_complete_grid_is_scipys_over_the_seeds_grid_means():
    matrix = np.random.default_rng(6).gamma(1, size=(11, 8))
    found = mean_over_grid(tidy(matrix))
    assert found.method == "BCa over seeds"
    assert (found.low, found.high) == pytest.approx(scipys(matrix.mean(axis=1), np.mean, expanded(11)))
    assert found.p == pytest.approx(stats.ttest_1samp(matrix.mean(axis=1), 0).pvalue)


def test_bootstrap_draws_whole_seeds_and_keeps_each_cells_weight():
    matrix = holes(np.random.default_rng(7), 10, 6)
    matrix[2:, 0] = NAN  # so that many resamples have no value of this cell

    def mean(drawn):
        return np.mean([np.mean(c[~np.isnan(c)]) for c in matrix[drawn].T if not np.isnan(c).all()])

    weights = [np.nansum(~np.isnan(matrix[s]) / (6 * (~np.isnan(matrix)).sum(axis=0))) for s in range(10)]
    low, high = bca(matrix)
    expected = scipys(np.arange(10), mean, expanded(1 / np.sum(np.square(weights))))
    # Resamples equal to the mean count as half below it, and rounding decides which ones are equal.
    assert (low, high) == pytest.approx(expected, abs=3e-4)


def test_a_level_that_resamples_cannot_place_falls_back_to_t():
    matrix = np.random.default_rng(8).normal(size=(10, 5))
    assert math.isnan(bca(matrix, level=0.9999)[0])
    found = mean_of_matrix(matrix, level=0.9999)
    assert found.method == "t over seeds"
    assert found.low == pytest.approx(stats.t.interval(0.9999, 9, matrix.mean(), found.error)[0])


def test_flips_are_scipys_exact_test():
    for seeds in range(2, 9):
        shares = np.random.default_rng(seeds).normal(0.5, 1, seeds)
        exact = stats.permutation_test((shares,), np.sum, permutation_type="samples", n_resamples=np.inf)
        assert sign_flip_p(shares) == pytest.approx(exact.pvalue)
        assert sign_flip_p(np.abs(shares)) == 2.0 ** (1 - seeds)
    assert math.isnan(sign_flip_p(np.array([1.0])))


def test_random_flips_agree_with_all_of_them():
    shares = np.random.default_rng(0).normal(0.3, 1, 16)
    signs = 1 - 2 * (np.arange(2**16)[:, None] >> np.arange(16) & 1)
    exact = np.mean(np.abs(signs @ shares) >= abs(shares.sum()))
    assert sign_flip_p(shares) == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 10_000))
    assert sign_flip_p(shares) == sign_flip_p(shares)


def test_further_seeds_are_the_first_number_that_is_enough():
    matrix = np.random.default_rng(2).normal(0.35, 1, (4, 3))
    found, spread = mean_over_grid(tidy(matrix)), matrix.mean(axis=1).std(ddof=1)

    def half(seeds):
        return stats.t.ppf(0.975, seeds - 1) * spread / math.sqrt(seeds)

    assert further_seeds(found) == next(k for k in range(1, 1000) if half(4 + k) <= half(4) / 2)
    for threshold in (found.estimate - 0.9 * half(4), found.estimate + 0.3 * half(4)):
        wanted = next(k for k in range(1, 1000) if half(4 + k) < abs(found.estimate - threshold))
        assert further_seeds(found, threshold=threshold) == wanted
        assert further_seeds_text(found, threshold=threshold).startswith(f"about {wanted} further seed")
    assert further_seeds(found, threshold=found.high + 0.01) == 0
    close = found.estimate + half(4) / 1000
    assert further_seeds(found, threshold=close) is None
    assert "too close to tell" in further_seeds_text(found, threshold=close)


def noise(rng, kind, shape):
    """Errors of mean 0: normal, heavy-tailed, or skewed (skewness 1.75 and 6.2)."""
    if kind == "normal":
        return rng.normal(size=shape)
    if kind == "t3":
        return rng.standard_t(3, size=shape)
    sigma = {"skewed": 0.5, "very skewed": 1.0}[kind]
    return rng.lognormal(0, sigma, shape) - math.exp(sigma**2 / 2)


def misses(rng, kind, seeds, *, cells=20, shared=0.7, lost="none", runs):
    """Shares of 95% intervals completely above and below the true 0; `shared` is the shared part of the variance."""
    found = []
    for _ in range(runs):
        matrix = math.sqrt(shared) * noise(rng, kind, (seeds, 1))
        matrix = matrix + math.sqrt(1 - shared) * noise(rng, kind, (seeds, cells))
        if lost == "at random":
            matrix[rng.random(matrix.shape) < 0.2] = NAN
        elif lost == "late seeds":
            matrix[seeds // 2 + 1 :, : cells // 2] = NAN
        matrix = matrix[:, (~np.isnan(matrix)).sum(axis=0) > 1]
        if matrix.size:
            found.append(mean_of_matrix(matrix[~np.isnan(matrix).all(axis=1)]))
    return np.mean([(one.low > 0, one.high < 0) for one in found], axis=0)


def slack(runs, rate=0.05):
    """Three standard errors of a simulated rate."""
    return 3 * math.sqrt(rate * (1 - rate) / runs)


@pytest.mark.parametrize("kind", ["normal", "t3"])
@pytest.mark.parametrize("lost", ["none", "at random"])
def test_interval_errs_at_most_5_percent_a_side(kind, lost):
    rng = np.random.default_rng(1)
    for seeds, runs in ((2, 300), (3, 300), (5, 300), (10, 60)):
        assert misses(rng, kind, seeds, lost=lost, runs=runs).max() <= 0.05 + slack(runs)


def test_cells_taken_for_independent_would_err_far_more():
    rng = np.random.default_rng(2)
    matrix = math.sqrt(0.7) * rng.normal(size=(1000, 3, 1)) + math.sqrt(0.3) * rng.normal(size=(1000, 3, 20))
    rests = matrix - matrix.mean(axis=1, keepdims=True)
    error = np.sqrt((rests**2).sum(axis=(1, 2)) / (20 * 2)) / math.sqrt(60)
    naive = np.abs(matrix.mean(axis=(1, 2))) <= stats.t.ppf(0.975, 40) * error
    assert naive.mean() < 0.6  # nominal: .95
    assert 1 - misses(rng, "normal", 3, runs=600).sum() >= 0.95 - slack(600)


@pytest.mark.slow
@pytest.mark.parametrize("cells", [4, 20])
@pytest.mark.parametrize("lost", ["none", "at random", "late seeds"])
@pytest.mark.parametrize("kind", ["normal", "t3", "skewed", "very skewed"])
def test_error_rates_at_length(kind, lost, cells):
    rng = np.random.default_rng(3)
    for seeds in (2, 3, 5, 10, 20):
        runs = 4000 if seeds < 10 else 400
        for shared in (0.0, 0.7):
            above, below = misses(rng, kind, seeds, cells=cells, shared=shared, lost=lost, runs=runs)
            print(f"{kind:11} {lost:10} {cells:2} cells, shared {shared}, {seeds:2} seeds: {above:.3f} {below:.3f}")
            # No interval over few seeds can detect a skew that all cells of a seed share.
            bound = {"skewed": 0.09, "very skewed": 0.18}.get(kind, 0.05)
            assert above <= 0.05 + slack(runs)
            assert below <= bound + slack(runs)


def test_many_seeds_take_the_t_interval_and_no_time():
    matrix = np.random.default_rng(0).normal(0.1, 1, (3_000, 2))
    found = mean_of_matrix(matrix)
    low, high = stats.ttest_1samp(matrix.mean(axis=1), 0).confidence_interval()
    assert (found.low, found.high, found.method) == (pytest.approx(low), pytest.approx(high), "t over seeds")
    assert found.p_exact == pytest.approx(found.p, abs=0.02)
