"""A profile runs the code of a cell on less data, and its parts add up to the time of the whole cell."""

from dataclasses import replace

import pytest
import torch

from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.profiling import cell_profile
from trainables.profiling.cell_profile import SMALLEST, Excerpt, Size, profile_cell, shortened
from trainables.profiling.parts import Part, mean, seconds

CPU = torch.device("cpu")


@pytest.fixture
def clock(monkeypatch):
    """A fake clock: steps, batches and other parts advance it by fixed times."""

    class Clock:
        now = 0.0

        def perf_counter(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(cell_profile, "time", clock)
    return clock


def profiled(recipe, bank, tmp_path, objective, size=SMALLEST, **more):
    cell = Cell(objective=objective, **more)
    return profile_cell(cell, CellJob(recipe=recipe, source=bank), CPU, size=size, folder=tmp_path / objective)


@pytest.mark.parametrize("objective", ["moco", "within_image", "cross_image", "supervised", "random", "imagenet"])
def test_every_kind_of_cell_can_be_profiled(bank, recipe, tmp_path, objective):
    parts = profiled(recipe, bank, tmp_path, objective)
    assert all(part.each >= 0 for part in parts)
    assert seconds(parts) > 0
    times = {(part.stage, part.name): part.times for part in parts}
    assert times["probe", "step"] == recipe.probe.steps
    assert times.get(("pretrain", "step"), 0) == (0 if objective in ("random", "imagenet") else recipe.pretrain.steps)


def test_each_part_counts_as_often_as_a_whole_cell_does_it(bank, recipe, tmp_path):
    recipe = replace(
        recipe,
        data=replace(recipe.data, train=64, val=32, test=40),
        pretrain=replace(recipe.pretrain, steps=100, evaluations=5),
        probe=replace(recipe.probe, steps=200, evaluations=4, cached_views=2),
    )
    parts = profiled(recipe, bank, tmp_path, "moco", Size(steps=4, probe_steps=5, batches=2), rho=1.0, nu=0.5)
    times = {(part.stage, part.name): part.times for part in parts}
    assert times["pretrain", "step"] == 100
    assert times["probe", "step"] == 200
    assert times["pretrain", "evaluation"] == 5 * 32 / 16  # the excerpt has two batches of 8
    assert times["probe", "evaluation"] == 4 * 32 / 16
    assert times["probe", "test"] == 40 / 16
    assert times["probe", "features"] == (2 * 64 + 32) / (2 * 16 + 16)
    without = profiled(
        replace(recipe, probe=replace(recipe.probe, cached_views=0)),
        bank,
        tmp_path,
        "within_image",
        Size(steps=4, probe_steps=5, batches=2),
    )
    assert next(part.times for part in without if part.name == "features") == 1


def test_looks_during_pretraining_count_as_often_as_a_whole_cell_looks(bank, recipe, tmp_path, monkeypatch):
    searched, head = [], cell_profile.NearestPositions
    monkeypatch.setattr(cell_profile, "NearestPositions", lambda *of, **more: searched.append(of) or head(*of, **more))
    recipe = replace(
        recipe,
        data=replace(recipe.data, train=64, val=32),
        pretrain=replace(recipe.pretrain, steps=100),
        probe=replace(recipe.probe, every=30, labels=0.5, positions=100),
    )
    parts = profiled(recipe, bank, tmp_path, "moco", Size(steps=3, probe_steps=3, batches=2))
    times = {part.name: part.times for part in parts if part.stage == "pretrain" and part.each > 0}
    assert times["look, features"] == 4 * (32 + 32) / 16  # steps 30, 60, 90 and 100; half of the training images
    assert times["look, neighbours"] == 4 * 32 / 16
    assert [len(bank) for bank, *_ in searched] == [100]  # as many as in a whole cell
    without = profiled(replace(recipe, probe=replace(recipe.probe, every=0)), bank, tmp_path, "within_image")
    for others in (without, profiled(recipe, bank, tmp_path, "random")):
        assert not [part for part in others if part.name.startswith("look")]


def test_a_step_is_timed_without_the_first_and_the_last(tmp_path, clock):
    marks = cell_profile._Marks(tmp_path, CPU, {"pretrain": 6})
    marks.record("begin")
    for step, taken in enumerate([10, 2, 3, 2, 3, 9], start=1):  # the first is slow, the last has an evaluation
        clock.now += taken
        marks.after_step("pretrain", step, dict)
    assert marks.step("pretrain") == 2.5
    assert marks.beginning("begin", "pretrain") == 7.5
    assert marks.last("pretrain") == 6.5


def test_the_parts_add_up_to_the_whole_cell():
    parts = [
        Part(stage="pretrain", name="step", each=0.5, times=10),
        Part(stage="probe", name="test", each=2, times=1.5),
    ]
    assert seconds(parts) == 8
    other = [replace(part, each=3 * part.each) for part in parts]
    assert seconds(mean([parts, other])) == 16


def test_an_excerpt_has_all_training_pairs_and_few_images(data):
    some = Excerpt(data, 7)
    assert [some.count(split) for split in ("train", "val", "test")] == [7, 7, 7]
    assert some.validation_pairs() == 7
    assert Excerpt(data, 1000).count("train") == data.count("train")
    assert len(some.pool(0.0, 0.0, "none", torch.Generator())) == data.count("train")
    assert some.class_counts().tolist() == data.class_counts().tolist()


def test_a_short_recipe_differs_in_steps_alone(recipe):
    short = shortened(replace(recipe, pretrain=replace(recipe.pretrain, steps=50, warmup=20)), SMALLEST)
    assert (short.pretrain.steps, short.pretrain.warmup, short.probe.steps) == (3, 3, 3)
    assert (short.data, short.moco, short.pretrain.batch) == (recipe.data, recipe.moco, recipe.pretrain.batch)
