import math

import numpy as np
import pandas as pd
import pytest

from analysis.errors import RecordsError
from analysis.records.coverage import coverage
from analysis.stats.groups import STATISTICS, group_statistics, render_groups
from analysis.stats.intervals import mean_over_grid
from tests.helpers.varied import STEPS, sweep

STUDY = ["dataset", "source", "recipe", "data"]


@pytest.fixture
def ragged(row, frame):
    """A grid with a quarter of the cells not run, a fifth of the rest failed, and one point with one seed."""
    rng = np.random.default_rng(5)
    rows = [row("moco", 0.5, 0.25, "noisy", 0, 0.5)]
    for objective in ("moco", "within_image"):
        for rho in (0.25, 0.75, 1.0):
            for nu in (0.25, 1.0):
                for pairing in ("noisy", "exposure"):
                    for seed in range(5):
                        state = rng.random()
                        if state > 0.4:
                            rows.append(row(objective, rho, nu, pairing, seed, float(rng.normal(0.6, 0.1))))
                        elif state > 0.25:
                            rows.append(row(objective, rho, nu, pairing, seed, status="failed"))
    return frame(rows)


def test_by_hand(row, frame):
    records = frame(
        [
            row("moco", 0.5, 0.25, "noisy", 0, 0.60),
            row("moco", 0.5, 0.25, "noisy", 1, 0.62),
            row("moco", 1.0, 0.25, "noisy", 0, 0.50),
            row("moco", 1.0, 0.25, "noisy", 1, status="failed"),
            row("moco", 1.0, 0.25, "exposure", 0, 0.40),
        ]
    )
    table = group_statistics(records, ["pairing"]).set_index("pairing")
    exposure, noisy = table.loc["exposure"], table.loc["noisy"]
    assert (noisy["n"], noisy["failed"], noisy["missing"], noisy["points"], noisy["seeds"]) == (3, 1, 0, 2, 2)
    # Seed 1 of the exposure cell was not run.
    assert (exposure["n"], exposure["failed"], exposure["missing"], exposure["seeds"]) == (1, 0, 1, 1)
    assert noisy["mean"] == pytest.approx((0.60 + 0.62 + 0.50) / 3)
    assert (noisy["min"], noisy["max"]) == (0.50, 0.62)
    # rho 1 has one seed, so the interval is that of .60 and .62, with error .01; t with one degree is 12.706.
    assert noisy["estimate"] == pytest.approx(0.61)
    assert noisy["high"] - noisy["low"] == pytest.approx(2 * 12.7062 * 0.01, rel=1e-5)
    assert noisy["left_out"] == 1
    assert exposure["method"] == "no interval: one seed"
    assert math.isnan(exposure["low"])
    assert math.isnan(exposure["std"])


@pytest.mark.parametrize("by", [["objective"], ["pairing", "rho"], ["objective", "rho", "nu", "pairing"], ["seed"], []])
def test_the_interval_is_that_of_mean_over_grid(ragged, by):
    table = group_statistics(ragged, by)
    assert table["method"].isin(["t over seeds", "no interval: one seed", "no value"]).all()
    for group in table.to_dict("records"):
        part = ragged[(ragged[by] == [group[name] for name in by]).all(axis=1)] if by else ragged
        cell = part[["objective", "rho", "nu", "pairing"]].apply(tuple, axis=1)
        one = mean_over_grid(part.assign(cell=cell, value=part["test_f1_macro"].astype(float)))
        for name in ("estimate", "low", "high"):
            assert group[name] == pytest.approx(getattr(one, name), nan_ok=True), name
        assert (group["left_out"], group["method"]) == (one.left_out, one.method)


def test_it_is_the_t_interval_however_many_seeds(row, frame):
    rng = np.random.default_rng(0)
    records = frame([row(seed=seed, rho=rho, f1=float(rng.normal())) for seed in range(12) for rho in (0.5, 1.0)])
    (group,) = group_statistics(records, ["objective"]).to_dict("records")
    means = records.groupby("seed")["test_f1_macro"].mean()
    half = 2.200985 * means.std() / math.sqrt(12)  # t of 11 degrees, from a table
    assert (group["low"], group["high"]) == pytest.approx((means.mean() - half, means.mean() + half), rel=1e-5)


def test_every_cell_of_the_grid_is_counted_once(ragged):
    cells = coverage(ragged)
    # Points of other losses count as missing in the study, but belong to no group.
    cells = cells.merge(ragged[["objective", "rho", "nu", "pairing"]].drop_duplicates())
    for by in (["objective"], ["rho", "pairing"], ["seed"], ["device"], ["schema", "threads"], ["status"], []):
        table = group_statistics(ragged, by)
        assert table[["n", "failed", "missing"]].to_numpy().sum() == len(cells)
        assert table["n"].sum() == (cells["status"] == "done").sum()
        assert table["failed"].sum() == (cells["status"] == "failed").sum()


def test_studies_are_never_mixed(row, frame):
    rows = [row(f1=0.5), row(f1=0.6, data="aa"), row(f1=0.7, recipe="bb"), row(f1=0.8, source="photos")]
    rows.append(row(dataset="cifar10", task="classification", test_accuracy=0.9))
    table = group_statistics(frame(rows), ["objective"])
    assert list(table.columns) == [*STUDY, "objective", *STATISTICS]
    assert table["n"].tolist() == [1] * 5
    assert sorted(table["estimate"]) == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
    assert table.set_index("dataset").loc["cifar10", "metric"] == "test_accuracy"
    text = render_groups(table)
    assert len(text.split("\n\n")) == 5
    assert "vts on photos, recipe 00ff: test_f1_macro, %" in text


def test_groups_without_a_value_are_there(row, frame):
    table = group_statistics(frame([row(status="failed"), row(pairing="exposure", test_f1_macro=None)]), ["pairing"])
    assert table["method"].tolist() == ["no value", "no value"]
    assert table["missing"].tolist() == [1, 0]
    assert table["failed"].tolist() == [0, 1]
    assert table[["mean", "std", "estimate", "low", "high"]].isna().all(axis=None)
    assert render_groups(table).count("-") > 8


def test_losses_are_in_the_papers_order(rows, frame):
    table = group_statistics(frame(rows[::-1]), ["objective"])
    assert table["objective"].tolist() == ["random", "moco", "within_image", "cross_image"]


def test_any_column_and_any_number(rows, frame):
    records = frame(rows).assign(seconds=2.0, device="cpu")
    table = group_statistics(records, ["device", "nu"], metric="seconds")
    assert (table["mean"] == 2).all()
    assert "seconds, s" in render_groups(table)
    assert group_statistics(records, ["recipe"])["n"].tolist() == [len(records)]


def test_what_does_not_exist_is_named(row, frame):
    with pytest.raises(RecordsError, match=r"no column 'loss' to group by.*objective"):
        group_statistics(frame([row()]), ["loss"])
    with pytest.raises(RecordsError, match=r"no column 'device' of numbers.*test_miou"):
        group_statistics(frame([row()]), ["rho"], metric="device")
    with pytest.raises(RecordsError, match="two keys"):
        group_statistics(frame([row(), row(key="f" * 16)]), ["rho"])


def test_values_of_varied_settings_are_not_mixed():
    rows = [row for row in sweep() if row["objective"] != "moco" or row["seed"] or row[STEPS] != 8]
    table = group_statistics(pd.DataFrame(rows), ["objective"])
    assert table["recipe"].unique().tolist() == ["ba5e"]
    assert table.groupby("objective").size().to_dict() == {"moco": 3, "random": 1, "within_image": 6}
    moco = table[table["objective"] == "moco"].set_index(STEPS)
    assert moco["missing"].to_dict() == {2: 0, 8: 5, 32: 0}
    # The points of a loss at one value: rho 0, and two pairings at two nu.
    assert moco["points"].tolist() == [5, 5, 5]
    assert [line.split()[0] for line in render_groups(table).splitlines()[3:6]] == ["2", "2", "2"]
