import itertools
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.errors import RecordsError
from analysis.stats.differences import against_rho_zero, difference_by_objective
from analysis.stats.inference import benjamini_hochberg, by_cell, by_objective, holm, noninferiority, trend_in_rho
from analysis.stats.intervals import mean_over_grid
from analysis.stats.variance import components

NAN = math.nan


@pytest.fixture
def differences():
    """Twelve cells with four seeds, one value missing; the first cells differ from 0."""
    rng = np.random.default_rng(0)
    points = itertools.product(["moco", "within_image"], [0.5, 1.0], [0.25, 0.5, 1.0], range(4))
    frame = pd.DataFrame(points, columns=["objective", "rho", "nu", "seed"]).assign(dataset="vts")
    frame["difference"] = rng.normal(0, 0.01, len(frame)) + 0.05 * (frame["objective"] == "moco") * frame["rho"]
    frame.loc[5, "difference"] = NAN
    return frame.sample(frac=1, random_state=0)


def test_by_cell_is_scipys_t_test_of_each_cell(differences):
    table = by_cell(differences)
    assert len(table) == 12
    for row in table.to_dict("records"):
        same = np.logical_and.reduce([differences[name] == row[name] for name in ("objective", "rho", "nu")])
        values = differences.loc[same, "difference"].dropna()
        expected = stats.ttest_1samp(values, 0)
        ends = expected.confidence_interval(0.95)
        assert (row["low"], row["high"], row["p"]) == pytest.approx((ends.low, ends.high, expected.pvalue))
        assert (row["estimate"], row["n"], row["missing"]) == (
            pytest.approx(values.mean()),
            len(values),
            4 - len(values),
        )
    assert table["missing"].sum() == 1


def test_by_cell_agrees_with_the_mean_over_a_grid_of_one_cell(differences):
    table = by_cell(differences, level=0.8).set_index(["objective", "rho", "nu"])
    for key, values in differences.groupby(["objective", "rho", "nu"]):
        found = mean_over_grid(values.assign(cell=0, value=values["difference"]), level=0.8)
        assert tuple(table.loc[key, ["estimate", "low", "high", "p"]]) == pytest.approx(
            (found.estimate, found.low, found.high, found.p)
        )


def test_corrections_by_hand():
    p = np.array([0.01, NAN, 0.04, 0.03, 0.005])
    assert holm(p) == pytest.approx([0.03, NAN, 0.06, 0.06, 0.02], nan_ok=True)
    assert benjamini_hochberg(p) == pytest.approx([0.02, NAN, 0.04, 0.04, 0.02], nan_ok=True)
    assert holm(np.array([0.6, 0.7])).tolist() == [1, 1]
    for correct in (holm, benjamini_hochberg):
        assert np.isnan(correct(np.array([NAN]))).all()
        assert correct(np.array([])).size == 0


def test_corrections_are_over_the_cells_that_have_a_p(differences):
    table = by_cell(differences)
    assert table["p_holm"].tolist() == holm(table["p"].to_numpy()).tolist()
    assert table["p_bh"].tolist() == pytest.approx(stats.false_discovery_control(table["p"]).tolist())
    assert (table["p_holm"] >= table["p_bh"]).all()
    assert (table["p_bh"] >= table["p"]).all()


def test_holm_errs_at_most_5_percent_over_all_cells_where_there_is_nothing():
    p = np.random.default_rng(1).uniform(size=(2000, 20))
    wrong = np.mean([(holm(row) <= 0.05).any() for row in p])
    assert wrong <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


def test_by_cell_of_one_seed_no_seed_and_equal_seeds(differences):
    one = by_cell(differences[differences["seed"] == 0])
    assert one[["low", "high", "error", "p", "p_holm", "p_bh"]].isna().all(axis=None)
    assert (one["n"] == 1).all()
    none = by_cell(differences.assign(difference=None))
    assert (none["n"] == 0).all()
    assert (none["missing"] == 4).all()
    assert none[["estimate", "p"]].isna().all(axis=None)
    equal = by_cell(differences.assign(difference=np.where(differences["seed"] % 2, 0.3 - 0.2, 0.2 - 0.1)))
    assert (equal["low"] == equal["high"]).all()
    assert (equal["p"] == 0).all()
    assert (by_cell(differences.assign(difference=0.0))["p"] == 1).all()
    assert by_cell(differences.iloc[:0]).empty


def test_by_cell_wants_the_columns_that_tell_cells_apart(differences):
    with pytest.raises(ValueError, match="do not identify cells"):
        by_cell(differences, by=["dataset", "objective"])


def test_by_cell_takes_pairings_too(rows, frame):
    table = by_cell(against_rho_zero(frame(rows)), by=["dataset", "objective", "rho", "nu", "pairing"])
    assert len(table) == 3 * 8
    noisy = table[table["pairing"] == "noisy"]
    assert noisy["estimate"].tolist() == pytest.approx((0.02 * noisy["rho"] - 0.03 * noisy["nu"] + 0.01).tolist())


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([0.010, 0.011, 0.012], "better"),
        ([0.002, 0.003, 0.004], "better"),
        ([-0.002, 0.001, 0.002], "not worse"),
        ([-0.001, 0.004, 0.012], "undecided"),
        ([-0.001, 0.008, 0.009], "not worse"),
        ([0.010, 0.000, 0.012, 0.02], "not worse"),
        ([-0.02, -0.021, -0.022], "worse"),
        ([-0.009, -0.010, -0.011], "undecided"),
        ([-0.004, -0.003, -0.002], "not worse"),
        ([0.0, 0.0], "not worse"),
        ([0.03], "undecided"),
    ],
)
def test_noninferiority(values, verdict):
    found = mean_over_grid(pd.DataFrame({"cell": 0, "seed": range(len(values)), "value": values}))
    assert noninferiority(found, margin=0.01) == verdict


def test_margin_is_above_zero():
    found = mean_over_grid(pd.DataFrame({"cell": [0], "seed": [0], "value": [0.1]}))
    for margin in (0, -0.01, NAN):
        with pytest.raises(ValueError, match="above 0"):
            noninferiority(found, margin=margin)


def test_by_objective_is_the_papers_table_with_intervals(differences):
    table = by_objective(differences)
    paper = difference_by_objective(differences)
    pd.testing.assert_frame_equal(table[paper.columns], paper)
    for row in table.to_dict("records"):
        part = differences[differences["objective"] == row["objective"]]
        values = part.assign(cell=part["rho"].astype(str) + part["nu"].astype(str), value=part["difference"])
        found, parts = mean_over_grid(values), components(values)
        for name in ("low", "high", "p", "p_exact"):
            assert row[name] == getattr(found, name)
        assert row["mean"] == pytest.approx(found.estimate)
        assert (row["further_low"], row["residual"]) == pytest.approx((parts.low, parts.residual))
    assert table["halve"].dtype == "Int64"


def test_by_objective_with_one_seed_says_so(differences):
    table = by_objective(differences[differences["seed"] == 0])
    assert table[["low", "p", "p_exact", "between_cells", "further_low", "halve"]].isna().all(axis=None)
    assert by_objective(differences.iloc[:0]).empty


def line(row, slopes, *, levels=(0.0, 0.25, 0.5, 0.75, 1.0), bends=0.0):
    """Rows of MoCo, noisy: .5 + slope * rho at nu -> slope by seed; `bends` adds rho^2."""
    rows = []
    for nu, by_seed in slopes.items():
        for (seed, slope), rho in itertools.product(enumerate(by_seed), levels):
            if rho == 0 and nu != min(slopes):
                continue
            where = (rho, nu, "noisy") if rho else (0.0, 0.0, "none")
            rows.append(row("moco", *where, seed, 0.5 + slope * rho + bends * rho**2))
    return rows


def test_trend_is_the_mean_of_the_seeds_slopes(row, frame):
    slopes = {0.25: [0.02, 0.03, 0.07], 1.0: [-0.04, -0.05, -0.03]}
    table = trend_in_rho(frame(line(row, slopes)))
    both = np.mean(list(slopes.values()), axis=0)
    for nu, expected in [*slopes.items(), (None, both)]:
        found = table[table["nu"].isna() if nu is None else table["nu"] == nu].iloc[0]
        ends = stats.ttest_1samp(expected, 0).confidence_interval(0.95)
        assert (found["estimate"], found["low"], found["high"]) == pytest.approx((np.mean(expected), *ends))
        assert (found["levels"], found["seeds"], found["missing"], found["method"]) == (5, 3, 0, "t over seeds")
    assert (len(table), set(table["pairing"])) == (3, {"noisy"})


def test_trend_of_a_bent_curve_is_the_least_squares_line(row, frame):
    levels = (0.0, 0.1, 0.5, 1.0)
    table = trend_in_rho(frame(line(row, {0.5: [0.1, 0.2]}, levels=levels, bends=-0.3)))
    rho = np.array(levels)
    expected = [stats.linregress(rho, slope * rho - 0.3 * rho**2).slope for slope in (0.1, 0.2)]
    assert table["estimate"].tolist() == pytest.approx([np.mean(expected)] * 2)


def test_trend_leaves_out_what_would_be_another_slope_and_counts_it(row, frame):
    rows = line(row, {0.5: [0.1, 0.2, 0.3]}, bends=-0.1)
    rows = [r for r in rows if not (r["seed"] == 1 and r["rho"] == 0.75)]
    rows.append(row("moco", 0.9, 0.5, "noisy", 0, 0.9))
    failed = [r["seed"] == 1 and r["rho"] == 1.0 for r in rows]
    rows = [r | {"status": "failed"} if bad else r for r, bad in zip(rows, failed, strict=True)]
    found = trend_in_rho(frame(rows)).iloc[0]
    rho = np.array([0, 0.25, 0.5, 0.75, 1])
    expected = np.mean([stats.linregress(rho, slope * rho - 0.1 * rho**2).slope for slope in (0.1, 0.3)])
    assert found["estimate"] == pytest.approx(expected)
    # Seed 1 lacks two levels; rho .9 lacks in seeds 1 and 2.
    assert (found["seeds"], found["missing"]) == (2, 4)


def test_trend_without_rho_zero_starts_at_the_lowest_level(row, frame):
    rows = [r for r in line(row, {0.5: [0.1, 0.2]}) if r["rho"] > 0]
    found = trend_in_rho(frame(rows)).iloc[0]
    assert found["levels"] == 4
    assert found["estimate"] == pytest.approx(0.15)


@pytest.mark.parametrize(
    ("levels", "reason"), [((0.5,), "no slope: one level of rho"), ((0.0,), "no slope: one level of rho")]
)
def test_trend_of_one_level_is_null_with_the_reason(row, frame, levels, reason):
    table = trend_in_rho(frame([*line(row, {0.5: [0.1, 0.2]}, levels=levels), row("random", 0.0, 0.0, "none")]))
    assert (table["method"] == reason).all()
    assert table[["estimate", "low", "p", "p_page"]].isna().all(axis=None)
    assert len(table) == (1 if levels == (0.0,) else 2)


def test_trend_with_failed_cells_only_or_scattered_ones(row, frame):
    rows = line(row, {0.5: [0.1, 0.2]})
    table = trend_in_rho(frame([r | {"status": "failed", "test_f1_macro": None} for r in rows]))
    assert (table["method"] == "no value").all()
    rows = [r for r in rows if (r["seed"], r["rho"]) not in {(0, 0.25), (1, 0.5)}]
    rows += [row("moco", rho, 0.5, "noisy", 2, 0.5) for rho in (0.25, 0.5)]
    table = trend_in_rho(frame(rows))
    assert (table["method"] == "no slope: no seed has all levels").all()


def test_trend_of_one_seed_has_no_interval(row, frame):
    table = trend_in_rho(frame(line(row, {0.5: [0.1]})))
    assert table["estimate"].tolist() == pytest.approx([0.1, 0.1])
    assert table[["low", "p", "p_page"]].isna().all(axis=None)
    assert (table["method"] == "no interval: one seed").all()


def test_trend_refuses_what_cannot_be_compared(rows, frame):
    with pytest.raises(RecordsError, match="no metric"):
        trend_in_rho(frame(rows), "f1")
    assert trend_in_rho(frame(rows).iloc[:0]).empty


def test_pages_test_is_that_of_all_orders(row, frame):
    scores = np.array([[0.1, 0.3, 0.2, 0.5], [0.2, 0.1, 0.4, 0.3], [0.1, 0.2, 0.3, 0.4]])
    rows = []
    for (seed, level), f1 in np.ndenumerate(scores):
        rho = level / 3
        rows.append(row("moco", *((rho, 0.5, "noisy") if rho else (0.0, 0.0, "none")), seed, f1))
    weights = np.arange(1, 5)
    orders = [weights @ order for order in itertools.permutations(weights)]
    totals = np.add.outer(np.add.outer(orders, orders), orders).ravel()
    observed = sum(weights @ stats.rankdata(score) for score in scores)
    sides = [(totals >= observed).mean(), (totals <= observed).mean()]
    table = trend_in_rho(frame(rows))
    assert table["p_page"].tolist() == pytest.approx([2 * min(sides)] * 2)


def test_pages_test_of_equal_scores_finds_nothing(row, frame):
    table = trend_in_rho(frame(line(row, {0.5: [0.0, 0.0]})))
    assert table["p_page"].tolist() == [1, 1]
    assert table["p"].tolist() == [1, 1]
