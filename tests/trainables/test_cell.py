import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from datasets.errors import InputError
from datasets.registry import DATASETS
from trainables.cell import Cell
from trainables.recipe import Recipe


def test_coordinates_that_mean_the_same_are_one_cell_with_one_key():
    clean = Cell(objective="moco", rho=0, nu=0.5, pairing="noisy", seed=1)
    for other in (
        Cell(objective="moco", rho=0.0, nu=1, pairing="exposure", seed=1),
        Cell(objective="moco", rho=1, nu=0, pairing="noisy", seed=1),
    ):
        assert other == clean
        assert other.key == clean.key
    assert Cell(objective="random", rho=1, nu=1, pairing="noisy") == Cell(objective="random")
    assert Cell(objective="moco", rho=1, nu=1).key == Cell(objective="moco", rho=1.0, nu=1.0).key


def test_cells_of_data_sets_without_nu_have_none_and_keep_their_rate():
    for dataset in ("xbd", "manifest"):
        cell = Cell(dataset=dataset, objective="moco", rho=0.5, nu=0.25, pairing="exposure")
        assert (cell.rho, cell.nu, cell.pairing) == (0.5, 0.0, "exposure")
        assert cell == Cell(dataset=dataset, objective="moco", rho=0.5, nu=1, pairing="exposure")
        assert str(cell) == "moco rho 0.5 exposure seed 0"
        assert Cell(**asdict(cell)) == cell
        clean = Cell(dataset=dataset, objective="moco", rho=0, pairing="noisy")
        assert clean == Cell(dataset=dataset, objective="moco", rho=0, pairing="exposure")


def test_a_false_positive_has_no_nu_of_its_own():
    cells = {Cell(objective="moco", rho=0.5, nu=nu, pairing="false_positive") for nu in (0.0, 0.25, 1.0)}
    assert {(cell.rho, cell.nu) for cell in cells} == {(0.5, 1.0)}
    assert Cell(objective="moco", rho=0, pairing="false_positive") == Cell(objective="moco")
    assert Cell(dataset="cifar10", objective="supervised").pairing == "none"


def test_the_amount_of_misregistration_is_the_recipes_so_its_cells_have_no_nu():
    for dataset in ("vts", "xbd", "manifest"):
        kind = {"dataset": dataset, "objective": "moco", "pairing": "misregistration"}
        cells = {Cell(**kind, rho=0.5, nu=nu) for nu in (0.0, 0.25, 1.0)}
        assert {(cell.rho, cell.nu, cell.pairing) for cell in cells} == {(0.5, 0.0, "misregistration")}
        assert str(cells.pop()) == "moco rho 0.5 misregistration seed 0"
        assert Cell(**kind) == Cell(dataset=dataset, objective="moco")


@pytest.mark.parametrize("dataset", DATASETS)
def test_pairings_that_a_data_set_has_not_are_refused_with_those_it_has(dataset):
    for pairing in ("noisy", "exposure", "irrelevant", "false_positive", "misregistration"):
        if pairing in DATASETS[dataset].pairings:
            assert Cell(dataset=dataset, objective="moco", rho=1, nu=1, pairing=pairing).pairing == pairing
        else:
            with pytest.raises(InputError, match=f"{dataset} has no such pairs, choose from"):
                Cell(dataset=dataset, objective="moco", rho=1, nu=1, pairing=pairing)


def test_each_coordinate_and_the_recipe_change_the_key():
    base = {"objective": "moco", "rho": 0.5, "nu": 0.5, "pairing": "noisy", "seed": 0, "recipe": "a"}
    changes = {
        "objective": "within_image",
        "rho": 1.0,
        "nu": 1.0,
        "pairing": "exposure",
        "seed": 1,
        "recipe": "b",
    }
    keys = {Cell(**base).key} | {Cell(**{**base, name: value}).key for name, value in changes.items()}
    assert len(keys) == 7


def test_a_key_is_the_same_in_another_process():
    code = (
        "from trainables.cell import Cell; from trainables.recipe import Recipe; import json;"
        "print(json.dumps([Cell(objective='moco', rho=.5, nu=.5, recipe='r').key, Recipe().fingerprint]))"
    )
    found = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert found == [Cell(objective="moco", rho=0.5, nu=0.5, recipe="r").key, Recipe().fingerprint]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": "barlow"}, "moco, within_image, cross_image"),
        ({"dataset": "imagenet"}, "choose from vts, xbd, cifar10, manifest"),
        ({"rho": 1.5}, r"rho = 1.5 is outside \[0, 1\]"),
        ({"nu": -0.1}, "nu = -0.1"),
        ({"rho": float("nan")}, "rho = nan"),
        ({"seed": -1}, "seed = -1"),
    ],
)
def test_bad_coordinates_are_named(change, message):
    with pytest.raises(InputError, match=message):
        Cell(**{"objective": "moco", "rho": 0.5, "nu": 0.5, **change})
