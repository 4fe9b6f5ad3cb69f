"""The effects of noisy pairs at each value of a setting, against values computed by hand."""

import math

import pandas as pd
import pytest
from scipy import stats

from analysis.errors import RecordsError
from analysis.records.studies import studies, with_interactions
from analysis.stats.interaction import QUANTITIES, change_columns, grid_of_effects, interaction
from tests.analysis.conftest import made_up
from tests.helpers.varied import STEPS, TEMPERATURE, at, sweep

T = stats.t.ppf(0.975, 1)  # two seeds


def by_steps(scores):
    """Records of {steps: {(rho, nu, pairing): scores by seed}}."""
    return pd.DataFrame(
        at("within_image", {STEPS: steps}, rho, nu, pairing, seed, score)
        for steps, cells in scores.items()
        for (rho, nu, pairing), values in cells.items()
        for seed, score in enumerate(values)
    )


def rows_of(records, quantity):
    (study,) = [study for study in with_interactions(records) if study.varied]
    table = interaction(study)
    return table[table["quantity"] == quantity]


SCORES = {
    10.0: {
        (0.0, 0.0, "none"): (0.50, 0.60),
        (0.5, 0.5, "noisy"): (0.52, 0.60),
        (1.0, 0.5, "noisy"): (0.54, 0.64),
        (1.0, 1.0, "noisy"): (0.10, 0.10),  # false positives: on another grid
        (0.5, 0.5, "exposure"): (0.51, 0.59),
        (1.0, 0.5, "exposure"): (0.51, 0.61),
        (1.0, 1.0, "exposure"): (0.90, 0.90),
    },
    20.0: {
        (0.0, 0.0, "none"): (0.50, 0.60),
        (0.5, 0.5, "noisy"): (0.56, 0.62),
        (1.0, 0.5, "noisy"): (0.60, 0.68),
        (0.5, 0.5, "exposure"): (0.55, 0.62),
        (1.0, 0.5, "exposure"): (0.55, 0.62),
    },
}


def test_effects_and_their_changes_are_those_computed_by_hand():
    first, second = rows_of(by_steps(SCORES), "noisy minus rho 0").to_dict("records")
    # Means over the two cells: .03 and .02 at 10 steps, .08 and .05 at 20. Between two seeds the error is half of
    # their distance.
    assert (first[STEPS], second[STEPS]) == (10, 20)
    assert [first[name] for name in ("estimate", "low", "high")] == pytest.approx(
        [0.025, 0.025 - T * 0.005, 0.025 + T * 0.005]
    )
    assert [second[name] for name in ("estimate", "low", "high")] == pytest.approx(
        [0.065, 0.065 - T * 0.015, 0.065 + T * 0.015]
    )
    assert (second["cells"], second["seeds"], second["values"], second["collapsed"]) == (2, 2, 4, 0)
    change, low, high = change_columns(STEPS)
    assert math.isnan(first[change])
    # Within a seed: .05 and .03.
    assert [second[name] for name in (change, low, high)] == pytest.approx([0.04, 0.04 - T * 0.01, 0.04 + T * 0.01])

    first, second = rows_of(by_steps(SCORES), "noisy minus exposure").to_dict("records")
    # .02 and .02; then .03 and .03.
    assert (first["estimate"], second["estimate"]) == pytest.approx((0.02, 0.03))
    assert second[change] == pytest.approx(0.01)


def test_both_effects_are_means_over_one_grid():
    (whole,) = [study for study in with_interactions(by_steps(SCORES)) if study.varied]
    assert grid_of_effects(whole) == "rho 0.5, 1; nu 0.5"
    points = {name: set(zip(t["rho"], t["nu"], strict=True)) for name in QUANTITIES for t in [_effects(name)]}
    assert points["noisy minus rho 0"] == points["noisy minus exposure"] == {(0.5, 0.5), (1.0, 0.5)}


def _effects(name):
    (level, _) = studies(by_steps(SCORES))
    return QUANTITIES[name](level.records)


def test_a_change_uses_the_cells_of_both_levels_only():
    scores = {steps: dict(cells) for steps, cells in SCORES.items()}
    del scores[20.0][1.0, 0.5, "noisy"]
    _, second = rows_of(by_steps(scores), "noisy minus rho 0").to_dict("records")
    assert second["cells"] == 1
    assert second[change_columns(STEPS)[0]] == pytest.approx(((0.06 - 0.02) + (0.02 - 0.0)) / 2)


def test_one_seed_has_changes_without_intervals():
    scores = {steps: {cell: values[:1] for cell, values in cells.items()} for steps, cells in SCORES.items()}
    _, second = rows_of(by_steps(scores), "noisy minus rho 0").to_dict("records")
    change, low, _ = change_columns(STEPS)
    assert second[change] == pytest.approx(0.05)
    assert math.isnan(second[low])
    assert math.isnan(second["low"])


def test_a_loss_has_one_row_for_each_value_of_the_settings_that_it_uses():
    rows = rows_of(pd.DataFrame(sweep()), "noisy minus rho 0")
    assert rows.groupby("objective").size().to_dict() == {"moco": 3, "within_image": 6}
    assert rows.loc[rows["objective"] == "moco", TEMPERATURE].isna().all()
    assert rows["estimate"].tolist() == pytest.approx([0.01 * i + 0.005 for i in (0, 1, 2, 0, 0, 1, 1, 2, 2)])
    along_steps = rows.set_index([STEPS, TEMPERATURE])[change_columns(STEPS)[0]]
    assert along_steps[32.0, 0.2] == pytest.approx(0.02)
    assert math.isnan(along_steps[2.0, 0.2])
    along_heat = rows.set_index([STEPS, TEMPERATURE])[change_columns(TEMPERATURE)[0]]
    assert along_heat[32.0, 0.2] == pytest.approx(0)


def test_values_that_rest_on_a_collapsed_cell_are_counted():
    records = by_steps(SCORES)
    records["collapsed"] = (records["rho"] == 0) & (records["seed"] == 0) & (records[STEPS] == 20)
    counts = {name: rows_of(records, name)["collapsed"].tolist() for name in QUANTITIES}
    assert counts == {"noisy minus rho 0": [0, 2], "noisy minus exposure": [0, 0]}


def test_levels_are_studies_behind_the_one_of_all_levels():
    records = pd.DataFrame(sweep(seeds=1))
    whole, *levels = with_interactions(records)
    assert whole.varied == (STEPS, TEMPERATURE)
    assert whole.title == "vts by pretrain.steps and dense.temperature"
    assert [level.settings for level in levels] == [
        ((STEPS, steps), (TEMPERATURE, heat)) for steps in (2, 8, 32) for heat in (0.07, 0.2)
    ]
    assert [study.title for study in studies(records)] == [level.title for level in levels]
    # Cells of objectives that do not use a setting are at all of its values.
    assert all(set(level.records["objective"]) == {"random", "moco", "within_image"} for level in levels)
    assert sum(len(level.records) for level in levels) == 6 * (1 + 5 + 5)


def test_a_sweep_that_varies_nothing_is_a_study_of_its_own():
    plain = [{**row, "recipe": "ba5e"} for row in (made_up(), made_up(pairing="exposure"))]
    found = studies(pd.DataFrame([*plain, *sweep(seeds=1)]))
    assert [study.settings == () for study in found] == [True] + [False] * 6
    assert len(found[0].records) == 2


def test_records_that_cannot_be_compared_are_refused_as_ever():
    twice = pd.concat([by_steps(SCORES), by_steps(SCORES).assign(key="f" * 16)])
    with pytest.raises(RecordsError, match="occurs twice"):
        rows_of(twice, "noisy minus rho 0")


def test_levels_of_varied_data_are_one_sweep_and_have_data_of_their_own():
    rows = [
        at(
            loss,
            {"data.categories": roles},
            rho,
            0.5 * rho,
            "noisy" if rho else "none",
            seed,
            score + 0.01 * seed,
            data=data,
        )
        for roles, data, score in (("a,b,c", "d1", 0.5), ("b,c,a", "d2", 0.6))
        for loss, rho in (("random", 0.0), ("within_image", 0.0), ("within_image", 1.0))
        for seed in (0, 1)
    ]
    every, *levels = with_interactions(pd.DataFrame(rows))
    assert every.varied == ("data.categories",)
    assert [set(level.records["data"]) for level in levels] == [{"d1"}, {"d2"}]
    assert [len(level.records) for level in levels] == [6, 6]
    table = interaction(every)
    assert table[table["quantity"] == "noisy minus rho 0"]["data.categories"].tolist() == ["a,b,c", "b,c,a"]
