"""A plan's numbers against independent answers: schedules, the price, and the comparison with what happened."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pytest

from analysis.text import duration
from datasets.errors import InputError
from sweep.cluster.machine import Machine
from sweep.monitor.time_left import makespan
from sweep.planning import comparison
from sweep.planning.comparison import PlanComparison, RunConditions, difference_from, incomparable
from sweep.planning.forecast import HARNESS, Forecast, read_plan, write_plan
from sweep.planning.plan import describe, one_per_variant
from sweep.presets import preset
from sweep.storage.run_dir import RunDir
from sweep.tune import resources
from sweep.tune.outcome import Outcome
from sweep.tune.resources import resources_for
from trainables.engine import PLAIN
from trainables.profiling.parts import Part


def made(**more):
    parts = {
        "moco": (
            Part(stage="pretrain", name="opening", each=1, times=1),
            Part(stage="pretrain", name="step", each=0.1, times=90),
        ),
        "random": (
            Part(stage="pretrain", name="opening", each=1, times=1),
            Part(stage="probe", name="step", each=0.1, times=10),
        ),
    }
    known = {
        "made": "2026-11-24T00:00:00+00:00",
        "recipe": preset("vts-smoke").recipe.fingerprint,
        "data": "d",
        "engine": PLAIN,
        "processor": "some",
        "threads": 1,
        "at_once": 2,
        "gpus": 0.0,
        "total": 5,
        "cells": (("a", "moco"), ("b", "moco"), ("c", "moco"), ("d", "random")),
        "parts": parts,
        "steps": 270,
        "start": 5.0,
        "end": 3.0,
        "disk": 10**6,
    }
    return Forecast(**{**known, **more})


def test_a_schedule_gives_each_cell_to_the_worker_that_is_free_first():
    assert makespan([3, 2, 2, 1], 1) == 8
    assert makespan([3, 2, 2, 1], 2) == 4
    assert makespan([3, 2, 2, 1], 9) == 3
    assert makespan([], 2) == 0


def test_no_schedule_beats_its_longest_cell_or_an_even_split():
    rng = np.random.default_rng(0)
    for workers in (1, 2, 5):
        cells = rng.uniform(1, 9, 20).tolist()
        found = makespan(cells, workers)
        best = max(max(cells), sum(cells) / workers)
        assert best <= found <= (2 - 1 / workers) * best + 1e-9  # Graham's bound


def test_the_wall_time_is_start_schedule_and_end():
    plan = made()
    assert (plan.cell_seconds("moco"), plan.cell_seconds("random"), plan.all_cells_seconds) == (10, 2, 32)
    assert plan.wall_seconds(1) == pytest.approx(5 + 32 + 4 * HARNESS + 3)
    assert plan.wall_seconds(2) == pytest.approx(5 + 20 + 2 * HARNESS + 3)
    assert plan.seconds_to_last_cell(2) == plan.wall_seconds(2) - 3


def test_a_plan_as_text_has_its_cost():
    text = "\n".join(describe(made(), 36.0))
    hours = made().wall_seconds(2) / 3600
    assert f"machine hours at 36 USD: {36 * hours:.2f} USD" in text
    assert "270 steps of pretraining" in text
    assert "core hours" in text
    on_gpus = "\n".join(describe(made(gpus=2.0), 36.0))
    assert f"{2 * hours:.2g} GPU hours at 36 USD: {72 * hours:.2f} USD" in on_gpus
    assert "USD" not in "\n".join(describe(made()))


def test_durations_are_said_in_the_unit_that_one_says_them_in():
    assert [duration(s, decimals=1) for s in (8, 430, 9000, 500_000)] == ["8 s", "7.2 min", "2.5 h", "5.8 days"]


def test_one_cell_of_each_objective_is_measured():
    assert [cell.objective for cell in one_per_variant(preset("vts-smoke").cells())] == [
        "random",
        "moco",
        "within_image",
        "cross_image",
    ]


def test_a_plan_is_read_as_it_was_written(tmp_path):
    write_plan(made(), tmp_path)
    assert read_plan(tmp_path) == made()
    assert read_plan(tmp_path / "other") is None
    RunDir(tmp_path).plan.write_text("{}")
    with pytest.raises(InputError, match="damaged or of another version"):
        read_plan(tmp_path)


# What happened.


def smoke():
    sweep = preset("vts-smoke")
    cells = [cell for cell in sweep.cells() if cell.objective in ("moco", "random")]
    return replace(sweep, engine=PLAIN), cells


def planned(cells):
    return made(cells=tuple((cell.key, cell.objective) for cell in cells))


@pytest.fixture
def happened(tmp_path, monkeypatch):
    """Compare a plan with a command that took `took` seconds, with 8 s per moco cell and 4 s for the random one."""

    def look(plan, took=20.0, how=None, sweep=None):
        mine, cells = smoke()
        write_plan(plan, tmp_path)
        monkeypatch.setattr(
            comparison, "_recorded_seconds", lambda root, missing: {"moco": [8.0, 8.0], "random": [4.0]}
        )
        monkeypatch.setattr(comparison.time, "time", itertools.repeat(100.0 + took).__next__)
        numbers = PlanComparison(tmp_path, 100.0).compare(sweep or mine, cells, how or RunConditions(at_once=2))
        return numbers, json.loads(RunDir(tmp_path).plan.read_text())["outcome"]

    return look


def test_a_forecast_is_held_against_what_happened(happened, capsys):
    plan = planned(smoke()[1])
    numbers, kept = happened(plan, took=20.0)
    said = plan.seconds_to_last_cell(2)
    assert numbers["forecast_error"] == pytest.approx(said / 20 - 1, abs=1e-4)
    assert numbers["forecast_error_moco"] == 0.25
    assert numbers["forecast_error_random"] == -0.5
    assert kept["whole"]["took"] == 20
    assert kept["losses"]["moco"] == {"forecast": 10, "took": 8, "error": 0.25, "cells": 2}
    out = capsys.readouterr().out
    assert "moco: forecast 10.0 s per cell, took 8.0 s (+25 %)" in out
    assert f"forecast {said:.0f} s, took 20 s" in out


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (RunConditions(stopped=True, at_once=2), "interrupted"),
        (RunConditions(resumed=1, at_once=2), "1 cells resumed from a checkpoint"),
        (RunConditions(failed_attempts=2, at_once=2), "2 attempts failed"),
        (RunConditions(at_once=6), "the plan assumed 2 cells at the same time, and 6 ran"),
    ],
)
def test_what_cannot_be_compared_as_a_whole_is_compared_by_cell(happened, capsys, how, reason):
    numbers, kept = happened(planned(smoke()[1]), how=how)
    assert set(numbers) == {"forecast_error_moco", "forecast_error_random"}
    assert kept["whole"] is None
    assert reason in kept["not comparable as a whole"][0]
    assert "the total time is not compared" in capsys.readouterr().out


def test_other_cells_than_were_planned_make_no_whole():
    cells = smoke()[1]
    assert list(incomparable(planned(cells), cells, RunConditions(at_once=2))) == []
    assert "which are not the" in next(incomparable(planned(cells[1:]), cells, RunConditions(at_once=2)))


def test_seeds_that_were_added_later_are_not_held_against_the_plan(tmp_path, monkeypatch, capsys):
    sweep, cells = smoke()
    write_plan(planned(cells[:1]), tmp_path)
    asked = []
    monkeypatch.setattr(
        comparison, "_recorded_seconds", lambda root, cells: asked.append(list(cells)) or {"moco": [8.0]}
    )
    comparing = PlanComparison(tmp_path, 100.0)
    first = comparing.compare(sweep, cells, RunConditions(at_once=2))
    assert asked == [[cells[0].key]]
    assert set(first) == {"forecast_error_moco"}
    assert comparing.compare(sweep, cells[1:], RunConditions(at_once=2)) == {}
    assert "which are not the" in capsys.readouterr().out
    both = Outcome(forecast=first).followed_by(Outcome())
    assert both.forecast == first


def node(name, cores, gpus=0):
    return Machine(id=name, name=name, cores=cores, gpus=gpus, memory=10**10)


@pytest.mark.parametrize(
    ("asked", "there", "at_once", "here", "slots"),
    [
        ({}, [node("a", 4)], 2, 2, 2),
        ({}, [node("a", 4), node("b", 2), node("head", 0)], 3, 2, 3),
        ({"workers": 1}, [node("a", 4), node("b", 2)], 1, 1, 1),
        ({"cell_memory": 6.0}, [node("a", 4), node("b", 4)], 2, 1, 4),
        ({"cell_memory": 60.0}, [node("a", 4)], 1, 1, 2),
        ({"gpu_share": 0.1}, [node("a", 40, 2), node("b", 40)], 20, 20, 40),
    ],
)
def test_cells_at_the_same_time_are_those_that_fit_on_all_machines(monkeypatch, asked, there, at_once, here, slots):
    monkeypatch.setattr(resources, "list_machines", lambda: there)
    found = resources_for(replace(preset("vts-smoke"), engine=replace(PLAIN, threads=2), **asked), there[0])
    assert (found.at_once, found.a_machine, found.slots) == (at_once, here, slots)
    assert found.gpus == sum(one.gpus for one in there)


def test_a_plan_of_another_recipe_or_engine_is_left_aside(happened, capsys):
    sweep, cells = smoke()
    other = replace(sweep, engine=replace(PLAIN, threads=2))
    assert "another engine" in difference_from(planned(cells), other)
    numbers, kept = happened(planned(cells), sweep=other)
    assert (numbers, kept) == ({}, {})
    assert "is ignored: it was made for another engine" in capsys.readouterr().out


def test_a_damaged_plan_stops_no_sweep(tmp_path, capsys):
    RunDir(tmp_path).plan.write_text("no plan")
    sweep, cells = smoke()
    assert PlanComparison(tmp_path, 0.0).compare(sweep, cells, RunConditions(at_once=2)) == {}
    assert "the plan is ignored" in capsys.readouterr().out
