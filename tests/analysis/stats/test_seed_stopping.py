"""Adaptive seeds: the monitored quantity, when seeds stop, and the raised level of intervals."""

import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

from analysis.claims import main as claims
from analysis.errors import RecordsError
from analysis.figures import draw_all
from analysis.records.coverage import coverage
from analysis.records.io import write_record
from analysis.records.merge import read_sweeps
from analysis.records.plan import added_seeds, interval_level, level_note
from analysis.records.studies import studies
from analysis.report.__main__ import main as report
from analysis.stats.groups import group_statistics
from analysis.stats.intervals import mean_over_grid
from analysis.stats.seed_stopping import decide_stopping, monitored_interval, monitored_values
from tests.helpers.fake_grid import records as sweep_records


def watched(widths):
    """An interval of half-width widths[n] over n seeds."""
    frame = pd.DataFrame({"cell": 0, "seed": [0, 1], "value": [0.0, 0.0]})

    def watch(seeds):
        half = widths[len(seeds)]
        return replace(mean_over_grid(frame), low=-half, high=half, values=0 if half is None else 2)

    return watch


def test_looks_are_replayed_as_far_as_records_lead():
    seeds = (4, 5, 6, 7, 8)
    widths = {2: 0.3, 3: 0.2, 4: 0.05, 5: 0.01}

    def seen(recorded, start=2, target=0.1, most=5):
        return decide_stopping(
            "moco",
            seeds[:most],
            start,
            recorded=lambda own: set(own) <= set(recorded),
            watch=watched(widths),
            target=target,
        )

    assert seen([4]).state == "unfinished"
    assert (seen([4, 5]).state, seen([4, 5]).seeds, seen([4, 5]).half) == ("wide", (4, 5), 0.3)
    assert (seen([4, 5, 6]).state, seen([4, 5, 6]).seeds) == ("wide", (4, 5, 6))
    # A seed after a gap is not used.
    assert seen([4, 5, 7]).seeds == (4, 5)
    for recorded in (seeds[:4], seeds):
        assert (seen(recorded).state, seen(recorded).seeds) == ("narrow", (4, 5, 6, 7))
    assert (seen(seeds, most=3).state, seen(seeds, most=3).seeds) == ("most", (4, 5, 6))
    assert seen(seeds, start=5).seeds == seeds
    assert seen(seeds, target=0.001).state == "most"
    assert seen(seeds, target=0.3).seeds == (4, 5, 6)  # below, not at


def test_nothing_to_look_at_asks_for_no_seed():
    found = decide_stopping(
        "moco",
        (0, 1, 2, 3),
        2,
        recorded=lambda own: True,
        watch=lambda own: mean_over_grid(pd.DataFrame({"cell": [], "seed": [], "value": []})),
        target=0.1,
    )
    assert found.state == "no value"
    assert len(found.seeds) == 2


def test_one_value_among_failures_is_wide():
    one = mean_over_grid(pd.DataFrame({"cell": [0], "seed": [0], "value": [0.5]}))
    found = decide_stopping("moco", (0, 1, 2), 2, recorded=lambda own: len(own) < 3, watch=lambda own: one, target=0.1)
    assert found.state == "wide"
    assert math.isnan(found.half)


def test_what_is_watched_is_what_the_report_shows(rows, frame):
    records = frame(rows)
    # rho and nu do not matter to noisy minus exposure there.
    assert monitored_values(records, "moco", "difference").value.to_numpy() == pytest.approx(0.01)
    assert len(monitored_values(records, "moco", "difference")) == 4 * 3
    against = monitored_values(records, "moco", "against_clean")
    assert set(against.cell) == {(0.25, 0.25), (1.0, 0.25)}  # without nu 1
    assert monitored_interval(records, "moco", "against_clean", level=0.9).estimate == pytest.approx(
        0.01 + 0.02 * 0.625 - 0.0075
    )
    false = sweep_records("cifar10", seeds=2)
    assert set(monitored_values(false, "moco", "against_clean").cell) == {(rho, 1.0) for rho in (0.25, 0.5, 0.75, 1.0)}


PLAN = {"objectives": ["moco", "cross_image", "random"], "rho": [0.0, 0.5], "nu": [0.25], "seeds": [0, 1]}
PLAN |= {"pairings": ["noisy", "exposure"], "preset": "vts-smoke"}


def test_of_varied_settings_the_level_with_the_widest_interval_decides():
    grid = sweep_records("vts")
    moco = grid[grid["objective"] == "moco"].reset_index(drop=True)
    generator = np.random.default_rng(0)
    levels = [
        moco.assign(recipe=name, test_f1_macro=0.5 + spread * generator.normal(size=len(moco)))
        for name, spread in (("narrow", 0.001), ("wide", 0.1))
    ]
    alone = [monitored_interval(level, "moco", "difference", level=0.95) for level in levels]
    assert alone[0].high - alone[0].low < alone[1].high - alone[1].low
    assert monitored_interval(pd.concat(levels), "moco", "difference", level=0.95) == alone[1]


@pytest.fixture
def folder(tmp_path, row, classes):
    """The folder of a sweep in which moco has the adaptive seed 2, and cross_image does not."""
    for loss, seeds in {"moco": (0, 1, 2), "cross_image": (0, 1), "random": (0, 1, 2)}.items():
        for seed in seeds:
            points = [(0.0, 0.0, "none")]
            points += [(0.5, 0.25, "noisy"), (0.5, 0.25, "exposure")] if loss != "random" else []
            for place, point in enumerate(points):
                score = 0.5 + 0.01 * place + 0.003 * (seed % 2) * place
                write_record(tmp_path, row(loss, *point, seed, score, test_accuracy=score), classes)
    write_plan(tmp_path, {"moco": [2], "random": [2]}, 0.97)
    return tmp_path


def write_plan(folder, added, level):
    plan = PLAN | {"grown": {"added": added, "level": level}}
    (folder / "sweep.yaml").write_text(yaml.safe_dump(plan))


def test_added_seeds_are_planned_of_the_losses_that_got_them_and_of_no_other(folder):
    plan = yaml.safe_load((folder / "sweep.yaml").read_text())
    joined = read_sweeps(folder)
    assert set(coverage(joined.records, [plan]).status) == {"done"}
    gone = joined.records[~((joined.records.seed == 2) & (joined.records.pairing == "exposure"))]
    missing = coverage(gone, [plan])
    missing = missing[missing.status == "missing"]
    assert missing[["objective", "seed", "pairing"]].to_numpy().tolist() == [["moco", 2, "exposure"]]
    assert group_statistics(joined.records, ["objective"], level=joined.level)["missing"].tolist() == [0, 0, 0]
    assert group_statistics(joined.records, ["objective"])["missing"].sum() == 3
    assert added_seeds({"grown": {"added": {"moco": [1, 2], "random": "12", "x": ["a"]}}}) == {"moco": [1, 2]}
    assert added_seeds({"grown": [1]}) == added_seeds({"grown": {"added": 3}}) == {}


def test_the_level_reaches_everything_that_judges(folder, capsys):
    joined = read_sweeps(folder)
    assert joined.level == 0.97
    assert any("intervals have level 97 %" in note for note in joined.notes)
    (study,) = studies(joined.records, level=joined.level)
    assert study.grown
    drawn = {one.name: one for one in draw_all(joined.records, joined.folders, only=["fig7", "forest"])}
    assert "at level 97% because of adaptive seeds" in drawn["fig7"].caption

    assert claims([str(folder)]) == 0
    assert "97% intervals over seeds" in capsys.readouterr().out
    assert claims([str(folder), "--level", "0.9"]) == 0
    assert "90% intervals over seeds" in capsys.readouterr().out

    def page():
        assert report([str(folder), "--format", "md"]) == 0
        capsys.readouterr()
        return (folder / "report.md").read_text()

    wide = page()
    assert "Seeds were added until intervals were narrow enough" in wide
    write_plan(folder, {"moco": [2], "random": [2]}, 0.95)
    plain = page()
    assert "Seeds were added until" not in plain

    def widths(text):
        return [float(high) - float(low) for low, high in re.findall(r"\[([+-][\d.]+), ([+-][\d.]+)\]", text)]

    assert len(widths(wide)) == len(widths(plain)) > 5
    assert all(w >= p for w, p in zip(widths(wide), widths(plain), strict=True))
    assert sum(widths(wide)) > 1.2 * sum(widths(plain))


def test_several_folders_have_the_highest_level(folder, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    assert interval_level([other]) == 0.95
    assert interval_level([other, folder]) == 0.97
    assert interval_level([folder / "summary.parquet"]) == 0.97
    assert level_note(0.95) == ""


@pytest.mark.parametrize("level", ["high", 0.5, 1.0, None])
def test_a_level_that_is_none_is_refused_and_not_taken_for_the_usual_one(folder, level, capsys):
    write_plan(folder, {}, level)
    with pytest.raises(RecordsError, match=r"sweep\.yaml: grown\.level must be a number from 0\.95 to below 1"):
        read_sweeps(folder)
    assert claims([str(folder)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
