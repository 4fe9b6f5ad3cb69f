"""A whole cell: its metrics, and that they are bitwise reproducible."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.cifar10.config import Cifar10Settings
from tests.helpers.losses import EACH_LOSS
from trainables.cell import Cell
from trainables.cell_job import CellJob, KeptEncoders, SharedFeatures
from trainables.pretrain import looks
from trainables.run_cell import run_cell

TIMES = {"seconds", "pretrain_seconds", "probe_seconds", "images_per_second"}


def run(cell, recipe, bank, points=None):
    def report(stage, step, values):
        if points is not None:
            points.append((stage, step, values))

    return run_cell(cell, CellJob(recipe=recipe, source=bank), torch.device("cpu"), report=report)


def results(metrics):
    return {name: value for name, value in metrics.items() if name not in TIMES}


@pytest.mark.parametrize("objective", EACH_LOSS)
def test_the_same_cell_gives_the_same_bits_whatever_ran_before_it(recipe, bank, objective):
    cell = Cell(objective=objective, rho=0.5, nu=0.5, pairing="noisy", seed=1)
    first = results(run(cell, recipe, bank))
    torch.rand(7)  # the global random state must have no effect
    run(Cell(objective="random"), recipe, bank)
    assert results(run(cell, recipe, bank)) == first
    assert results(run(Cell(objective=objective, rho=0.5, nu=0.5, pairing="noisy", seed=2), recipe, bank)) != first


def test_metrics_and_curves_of_a_cell(recipe, bank):
    points = []
    found = run(Cell(objective="within_image", rho=1.0, nu=0.5), recipe, bank, points)
    assert found["noisy_pairs"] == 1
    assert found["noise_pixels"] == pytest.approx(0.5, abs=0.15)
    assert found["nu_measured"] == pytest.approx(found["noise_pixels"])
    assert found["pretrain_steps"] == 4
    assert 0 < found["test_f1_macro"] < 1
    assert [(stage, step) for stage, step, _ in points] == [
        ("pretrain", 2),
        ("pretrain", 4),
        ("probe", 2),
        ("probe", 4),
    ]
    assert found["pretrain_val_loss"] == min(values["val_loss"] for _, _, values in points[:2])
    assert found["val_f1_macro"] == points[-1][2]["val_f1_macro"]


def test_a_misregistered_cell_says_how_much_its_classes_differ(recipe, bank):
    found = run(Cell(objective="moco", rho=1.0, pairing="misregistration"), recipe, bank)
    assert found["noisy_pairs"] == 1
    assert 0 < found["nu_measured"] < 0.5
    assert "noise_pixels" not in found
    clean = run(Cell(objective="moco"), recipe, bank)
    assert clean["pretrain_val_loss"] != found["pretrain_val_loss"]
    assert (clean["noise_pixels"], clean.get("nu_measured")) == (0, None)


@pytest.mark.parametrize("objective", ["supcon", "rince"])
def test_a_cell_on_whole_images_uses_their_classes_if_its_loss_does(recipe, whole_images, objective):
    """Made-up images, with classes in one order or another: only SupCon trains differently."""
    recipe = replace(recipe, data=Cifar10Settings(val=0.25))
    cell = Cell(dataset="cifar10", objective=objective, rho=0.0)
    found = [
        run(cell, recipe, replace(whole_images, train_labels=labels))
        for labels in (whole_images.train_labels, np.sort(whole_images.train_labels), whole_images.train_labels)
    ]
    assert results(found[0]) == results(found[2])
    same = found[0]["pretrain_val_loss"] == found[1]["pretrain_val_loss"]
    assert same == (objective == "rince")
    assert found[0]["pretrain_floor"] < found[0]["pretrain_val_loss"]


def test_random_is_not_pretrained(recipe, bank):
    found = run(Cell(objective="random"), recipe, bank)
    assert not any(name.startswith("pretrain_") and name != "pretrain_seconds" for name in found)
    assert "test_f1_texture_a" in found


def test_downstream_task_is_the_same_in_every_cell(recipe, bank, monkeypatch):
    from datasets.vts.dataset import Vts

    shown = {}
    original = Vts.downstream
    for rho, pairing in ((0.0, "none"), (1.0, "noisy"), (1.0, "exposure")):
        seen = shown[rho, pairing] = []

        def downstream(self, split, index, seen=seen):
            images, labels = original(self, split, index)
            seen.append((split, float(images.double().sum()), int(labels.sum())))
            return images, labels

        monkeypatch.setattr(Vts, "downstream", downstream)
        run(Cell(objective="moco", rho=rho, nu=0.5, pairing=pairing), recipe, bank)
    first, *others = shown.values()
    assert all(other == first for other in others)


@pytest.mark.parametrize(("average", "every", "steps"), [(0.0, 1, [1, 2, 3, 4]), (0.9, 3, [3, 4])])
def test_looks_at_the_encoder_along_pretraining_change_nothing_else(recipe, bank, average, every, steps):
    cell = Cell(objective="moco", rho=0.5, nu=0.5)
    plain = replace(recipe, pretrain=replace(recipe.pretrain, average=average))
    watched = replace(plain, probe=replace(plain.probe, every=every))
    points, more = [], []
    expected, found = run(cell, plain, bank, points), run(cell, watched, bank, more)
    assert results(found) == results(expected)
    scores = [(step, values["knn_val_f1_macro"]) for stage, step, values in more if "knn_val_f1_macro" in values]
    assert [step for step, _ in scores] == steps
    assert looks(recipe.pretrain.steps, every) == len(steps)
    assert all(0 < score < 1 for _, score in scores)
    assert [point for point in more if "knn_val_f1_macro" not in point[2]] == points


def test_a_kept_encoder_is_probed_as_by_the_cell_that_kept_it(recipe, bank, tmp_path):
    cell = Cell(objective="moco", rho=0.5, nu=0.5, recipe=recipe.fingerprint)
    kept = KeptEncoders(folder=tmp_path, recipe=recipe.fingerprint, columns={cell.key: {"feature_rank": 3.5}})
    linear = replace(recipe, probe=replace(recipe.probe, head="linear"))

    def scores(recipe, **options):
        held = {name: options.pop(name, None) for name in ("kept", "features")}
        cell_job = CellJob(recipe=recipe, source=bank, **held)
        one = replace(cell, recipe=recipe.fingerprint)
        found = run_cell(one, cell_job, torch.device("cpu"), report=lambda *_: None, **options)
        return {name: value for name, value in found.items() if name not in TIMES}

    whole = scores(recipe, export_to=kept.path(cell))
    again = scores(recipe, kept=kept)
    assert again == {name: whole[name] for name in again} | {"feature_rank": 3.5}
    other = scores(linear, kept=kept)
    shared = SharedFeatures()
    assert [scores(one, kept=kept, features=shared) for one in (recipe, linear)] == [again, other]
    assert set(other) == set(again)
    assert other["test_f1_macro"] != again["test_f1_macro"]
