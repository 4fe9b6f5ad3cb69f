import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.errors import RecordsError
from analysis.records.studies import Study, studies
from analysis.stats.agreement import PAIRED_FROM, agreement
from tests.helpers.fake_grid import cells, flat, noise, records

N = len(cells("vts"))


def study(seeds: int = 3, draw: int = 0, shift: float = 0.0, own: float = 0.003, **changes) -> Study:
    """A sweep; each `draw` has independent errors of seeds."""
    errors = noise(N, seeds, np.random.default_rng(draw), shared=0.01, own=own)
    frame = records("vts", flat, errors=errors + shift, seeds=seeds).replace({"objective": {"imagenet": "random"}})
    points = frame[["objective", "pairing", "rho", "nu", "seed"]].astype(str).agg(" ".join, axis=1)
    (found,) = studies(frame.assign(key=points, **changes))
    return found


def moved(one: Study, **changes) -> Study:
    (found,) = studies(one.records.assign(**changes))
    return found


def zero(one: Study) -> pd.Series:
    """Scores of MoCo without noisy pairs, by seed."""
    return one.records.query("objective == 'moco' and rho == 0").set_index("seed")["test_f1_macro"]


def rounded(one: Study, rng: np.random.Generator) -> Study:
    """The same cells from a program that rounds differently."""
    return moved(one, test_f1_macro=one.records["test_f1_macro"] + rng.normal(0, 0.02, len(one.records)))


def row(found, name: str) -> pd.Series:
    return found.table.set_index("name").loc[name]


def test_a_run_agrees_with_itself_bit_for_bit():
    found = agreement(study(), study())
    assert found.same
    assert found.verdict == "agrees"
    assert found.cells.shared == found.cells.equal == 3 * N
    assert (found.cells.run_only, found.cells.reference_only, found.cells.failed) == (0, 0, 0)
    assert (found.table["difference"] == 0).all()
    assert (found.table["verdict"] == "agrees").all()


def test_every_cell_and_every_mean_over_the_grid_is_compared():
    found = agreement(study(), study())
    counts = found.table["kind"].value_counts()
    assert counts["cell"] == N
    # All cells, and each loss with its three pairings and rho 0.
    assert counts["rounding"] == 1 + 3 * (1 + 3)
    names = set(found.table.loc[found.table["kind"] == "over the grid", "name"])
    for loss in ("moco", "within_image", "cross_image"):
        assert {f"{loss} rho 0 minus random", f"{loss} noisy minus rho 0", f"{loss} noisy minus exposure"} <= names


def test_a_mean_over_the_grid_is_the_mean_of_the_cells_differences():
    one = study(own=0.05)
    scores = one.records.set_index(["objective", "pairing", "rho", "nu", "seed"])["test_f1_macro"]
    moco = scores["moco"]
    expected = (moco["noisy"] - moco["exposure"]).mean()
    assert row(agreement(one, one), "moco noisy minus exposure")["run"] == pytest.approx(expected)
    gains = moco["noisy"].unstack("seed").mean() - zero(one)
    assert row(agreement(one, one), "moco noisy minus rho 0")["run"] == pytest.approx(gains.mean())


def test_shared_seeds_are_compared_seed_by_seed():
    one, other = study(PAIRED_FROM), study(PAIRED_FROM, draw=1)
    found = row(agreement(one, other), "moco rho 0")
    gaps = zero(one) - zero(other)
    scale = gaps.std() / np.sqrt(PAIRED_FROM)
    low, high = stats.t.interval(0.95, PAIRED_FROM - 1, loc=gaps.mean(), scale=scale)
    assert found["method"] == "seed by seed"
    assert (found["low"], found["high"]) == (pytest.approx(low), pytest.approx(high))
    assert found["p"] == pytest.approx(stats.ttest_1samp(gaps, 0).pvalue)


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_other_data_are_compared_as_independent_runs(seeds):
    one, other = study(seeds, data="beef"), study(8, draw=1)
    found = agreement(one, other)
    sides = [zero(one), zero(other)]
    expected = stats.ttest_ind(*sides)
    cell = row(found, "moco rho 0")
    assert found.cells.shared == 0
    assert cell["method"] == "as independent runs"
    assert cell["p"] == pytest.approx(expected.pvalue)
    ends = expected.confidence_interval()
    assert (cell["low"], cell["high"]) == (pytest.approx(ends.low), pytest.approx(ends.high))


def test_few_shared_seeds_count_as_independent_runs():
    few = PAIRED_FROM - 1
    found = agreement(study(few), study(8))
    cell = row(found, "moco rho 0")
    assert cell["method"] == "as independent runs"
    assert (cell["seeds"], cell["reference_seeds"]) == (few, 8)
    assert (found.cells.shared, found.cells.reference_only) == (few * N, (8 - few) * N)
    assert not found.same


def test_data_that_are_not_recorded_are_not_the_same():
    found = agreement(study(data=None), study(data=None))
    assert found.cells.shared == 0
    assert "rounding" not in set(found.table["kind"])


def test_one_seed_against_another_cannot_say():
    found = agreement(study(1, data="beef"), study(1, draw=1))
    assert found.verdict == "cannot say"
    assert found.intervals == 0
    assert found.table["low"].isna().all()


def found_wrong(change) -> set[str]:
    """The names of the rows that differ if a program that rounds differently also applies `change` to the records."""
    rng = np.random.default_rng(5)
    run, reference = rounded(study(3), rng), rounded(study(3), rng)
    assert agreement(run, reference).verdict == "agrees"
    (wrong,) = studies(change(run.records.copy()))
    table = agreement(wrong, reference).table
    return set(table.loc[table["verdict"] == "differs", "name"])


def test_a_defect_that_no_single_cell_shows_is_found_by_all_shared_cells():
    def lower(records):
        return records.assign(test_f1_macro=records["test_f1_macro"] - 0.015)

    names = found_wrong(lower)
    assert "all cells in both" in names
    assert all("cell" in name for name in names)


def test_a_defect_of_one_pairing_of_one_loss_is_found():
    def lower(records):
        where = (records["objective"] == "moco") & (records["pairing"] == "exposure")
        return records.assign(test_f1_macro=records["test_f1_macro"] - 0.03 * where)

    assert "moco exposure, cell by cell" in found_wrong(lower)


def test_pairings_that_are_swapped_are_found():
    rng = np.random.default_rng(5)
    truth = study(3)
    helps = truth.records["test_f1_macro"] + 0.04 * (truth.records["pairing"] == "noisy")
    reference = rounded(moved(truth, test_f1_macro=helps), rng)
    swapped = truth.records["test_f1_macro"] + 0.04 * (truth.records["pairing"] == "exposure")
    table = agreement(rounded(moved(truth, test_f1_macro=swapped), rng), reference).table
    names = set(table.loc[table["verdict"] == "differs", "name"])
    assert {"moco noisy, cell by cell", "moco exposure, cell by cell"} <= names


def test_a_shift_of_other_seeds_is_found():
    assert agreement(study(4, data="beef", shift=0.2), study(8, draw=1)).verdict == "differs"


def test_only_what_both_have_is_compared():
    whole = study()
    (part,) = studies(whole.records.query("objective == 'moco' and nu <= .5"))
    found = agreement(part, whole)
    names = set(found.table["name"])
    assert not any("random" in name or "cross_image" in name for name in names)
    noisy = whole.records.query("objective == 'moco' and 0 < nu <= .5")
    scores = noisy.set_index(["pairing", "rho", "nu", "seed"])["test_f1_macro"]
    assert row(found, "moco noisy minus exposure")["reference"] == pytest.approx(
        (scores["noisy"] - scores["exposure"]).mean()
    )


def test_a_seed_that_lacks_a_cell_is_in_no_mean_over_it():
    whole = study(4)
    lacks = whole.records["seed"].eq(3) & whole.records["pairing"].eq("noisy") & whole.records["rho"].eq(1)
    (part,) = studies(whole.records[~lacks])
    found = row(agreement(part, whole), "moco noisy minus exposure")
    assert found["seeds"] == 3


def test_a_cell_that_failed_and_is_done_in_the_reference_is_a_difference():
    whole = study()
    failed = whole.records["objective"].eq("random")
    broken = moved(whole, status=np.where(failed, "failed", "done"))
    found = agreement(broken, whole)
    assert "random" not in set(found.table["name"])
    assert (found.cells.shared, found.cells.reference_only, found.cells.failed) == (3 * (N - 1), 3, 3)
    assert found.verdict == "differs"
    assert agreement(whole, broken).verdict == "agrees"


def test_equal_shared_cells_alone_are_not_the_same_run():
    (part,) = studies(study(8).records.query("seed < 6"))
    found = agreement(study(8), part)
    assert found.cells.equal == found.cells.shared == 6 * N
    assert found.cells.run_only == 2 * N
    assert not found.same


def test_equal_scores_are_equal_whatever_the_order_of_adding():
    for score in (0.1, 0.7):
        found = agreement(moved(study(3, data="beef"), test_f1_macro=score), moved(study(8), test_f1_macro=score))
        assert found.verdict == "agrees"
        assert (found.table["p"] == 1).all()


def test_the_same_difference_everywhere_has_no_interval():
    one = moved(study(3), test_f1_macro=0.5)
    found = agreement(moved(one, test_f1_macro=0.501), one)
    cells = found.table[found.table["kind"] != "over the grid"]
    assert cells["low"].isna().all()
    assert (cells["verdict"] == "cannot say").all()


def test_recipes_and_scores_that_are_two_things_are_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        agreement(study(recipe="beef"), study())
    twice = study()
    with pytest.raises(RecordsError, match="twice"):
        agreement(moved(twice, seed=0), twice)


@pytest.mark.slow
def test_wrong_alarms_are_as_rare_as_promised():
    """Pairs of runs from one distribution, with the same seeds or others: at most 5 % false alarms."""
    rng = np.random.default_rng(3)
    alarms = 0
    for i in range(200):
        reference = rounded(study(4, draw=1000 + i), rng)
        same, other = study(4, draw=1000 + i), study(2, draw=5000 + i, data="beef")
        alarms += agreement(rounded(same if i % 2 else other, rng), reference).verdict == "differs"
    assert alarms <= 0.05 * 200
