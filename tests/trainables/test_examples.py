"""Example predictions come from the tested head, on images chosen only by their true classes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.cifar10.config import Cifar10Settings
from trainables import examples as module
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.engine import PLAIN
from trainables.examples import as_pictures, examples, most_classes
from trainables.metrics import confusion, metrics
from trainables.models.encoders import make_encoder
from trainables.probe import Probed
from trainables.run_cell import run_cell


def shown(cell, recipe, bank):
    found = []
    scores = run_cell(
        cell,
        CellJob(recipe=recipe, source=bank),
        torch.device("cpu"),
        report=lambda *point: None,
        take_examples=found.extend,
    )
    return found, scores


def test_predictions_of_all_test_images_give_the_recorded_score(recipe, bank, data, monkeypatch):
    monkeypatch.setattr(module, "COUNT", 10)  # all of them
    found, scores = shown(Cell(objective="moco", rho=0.5, nu=0.5), recipe, bank)
    assert sorted(one.number for one in found) == list(range(10))
    matrix = sum(
        confusion(torch.from_numpy(one.truth)[None], torch.from_numpy(one.predicted)[None], 3) for one in found
    )
    assert metrics(matrix, data.classes, "test_")["test_f1_macro"] == scores["test_f1_macro"]


def test_cells_of_a_seed_show_the_same_images_and_their_true_pixels(recipe, bank, data):
    one, _ = shown(Cell(objective="moco", rho=0.5, nu=0.5), recipe, bank)
    other, _ = shown(Cell(objective="random"), recipe, bank)
    assert len(one) == module.COUNT
    for a, b in zip(one, other, strict=True):
        assert a.number == b.number
        images, labels = data.downstream("test", torch.tensor([a.number]))
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.truth, labels[0].numpy())
        np.testing.assert_allclose(a.image / 255, images[0].permute(1, 2, 0).numpy(), atol=0.5 / 255 + 1e-6)


def test_the_images_that_show_most_classes_are_taken_at_equal_distances(data, monkeypatch):
    labels = torch.tensor([[0, 0], [0, 1], [0, 255], [1, 2], [2, 2], [0, 2], [0, 255]], dtype=torch.uint8)
    monkeypatch.setattr(data, "count", lambda split: len(labels))
    monkeypatch.setattr(data, "downstream", lambda split, index: (torch.zeros(len(index)), labels[index][:, None]))
    assert most_classes(data, batch=3).tolist() == [0, 1, 3, 5]
    monkeypatch.setattr(module, "COUNT", 2)
    assert most_classes(data, batch=3).tolist() == [1, 5]
    monkeypatch.setattr(module, "AMONG", 3)  # 0, 3 and 6
    assert most_classes(data, batch=3).tolist() == [0, 3]
    labels = labels[:1]
    assert most_classes(data, batch=3).tolist() == [0]


def test_large_pictures_are_thinned_out_and_bands_become_rgb(recipe, bank, data, monkeypatch):
    monkeypatch.setattr(module, "SIDE", 20)
    found, _ = shown(Cell(objective="random"), recipe, bank)
    assert found[0].image.shape == (16, 16, 3)
    assert found[0].truth.shape == found[0].predicted.shape == (16, 16)
    assert as_pictures(torch.full((1, 1, 2, 2), 0.5)).tolist() == [[[[128] * 3] * 2] * 2]
    assert as_pictures(torch.rand(1, 5, 2, 2)).shape == (1, 2, 2, 3)


def test_whole_images_that_are_classified_have_no_sheet(recipe, data):
    classify = replace(recipe, data=Cifar10Settings())
    encoder = make_encoder(recipe.encoder, PLAIN, bands=3)
    assert examples(Probed(encoder=encoder, head=torch.nn.Identity(), val={}, test={}), data, classify) == []


@pytest.mark.parametrize("objective", ["random", "within_image"])
def test_looking_changes_no_score(recipe, bank, objective):
    cell = Cell(objective=objective, rho=0.5, nu=0.5) if objective != "random" else Cell(objective="random")
    plain = run_cell(cell, CellJob(recipe=recipe, source=bank), torch.device("cpu"), report=lambda *point: None)
    _, looked = shown(cell, recipe, bank)
    assert {n: v for n, v in plain.items() if n.startswith("test")} == {
        n: v for n, v in looked.items() if n.startswith("test")
    }
