"""A data set from outside the repository works wherever ours do, or one line says what it lacks."""

import itertools
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from datasets import registry
from datasets.errors import InputError
from datasets.source import Demands, Place, Source
from sweep.cli import parse
from sweep.config.yaml_io import from_yaml, to_yaml
from tests.helpers.command import ROOT
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.recipe import Encoder, Moco, Pretrain, Probe, Recipe
from trainables.run_cell import run_cell

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
(MODULE,) = re.findall(r"^```python\n(\"\"\"Images whose.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
MODULE = MODULE.replace("mypackage.halves", "NAME")
NUMBERS = itertools.count()  # of module names: Python imports each name once
DEMANDS = Demands(rho=(0.5,), pairings=("noisy",), labels=False, batch=8, supervised_batch=0, probe_batch=8)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a module with some text replaced, and gives the data set's name."""
    monkeypatch.syspath_prepend(tmp_path)

    def written(*replacements: tuple[str, str]) -> str:
        module = f"halves_{next(NUMBERS)}"
        text = MODULE
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "outside").mkdir(exist_ok=True)
        (tmp_path / "outside" / f"{module}.py").write_text(text.replace("NAME", f"outside.{module}"))
        for imported in [name for name in sys.modules if name == "outside"]:
            del sys.modules[imported]
        return f"outside.{module}:Halves"

    return written


def recipe(name: str) -> Recipe:
    return Recipe(
        data=registry.settings_class(name)(),
        encoder=Encoder(slim=0.125, output_stride=8),
        moco=Moco(queue=20),
        pretrain=Pretrain(steps=4, batch=8, evaluations=2),
        probe=Probe(steps=4, batch=8, cached_views=2, evaluations=2),
    )


def test_the_registry_loads_checks_and_opens_it(write, tmp_path):
    name = write()
    settings = registry.settings_class(name)(images=12)
    source = registry.load(settings, Place(), DEMANDS)
    assert isinstance(source, Source)
    assert registry.open_data(settings, source, 0, torch.device("cpu")).count("train") == 12
    with pytest.raises(InputError, match=r"^--probe.batch 8 exceeds the 4 images$"):
        registry.load(registry.settings_class(name)(images=4), Place(), DEMANDS)
    with pytest.raises(InputError, match=rf"^--nu 0.5: the noise of {name} is that of its images"):
        registry.check_nu(settings, 0.5)


def test_a_cell_names_it_and_keeps_its_key(write):
    name = write()
    cell = Cell(dataset=name, objective="moco", rho=0.5, nu=0.25)
    assert cell.nu == 0  # as with each data set that has none to set
    assert cell == Cell(dataset=name, objective="moco", rho=0.5)
    assert cell.key != Cell(dataset="xbd", objective="moco", rho=0.5).key
    with pytest.raises(InputError, match=f"pairing 'exposure': {name} has no such pairs, choose from noisy"):
        Cell(dataset=name, objective="moco", rho=0.5, pairing="exposure")


def test_a_cell_runs_on_it(write):
    fixed = recipe(write())
    source = registry.load(fixed.data, Place(), DEMANDS)
    points: list[object] = []
    cell = Cell(dataset=fixed.data.dataset, objective="moco", rho=0.5, recipe=fixed.fingerprint)
    scores = run_cell(
        cell, CellJob(recipe=fixed, source=source), torch.device("cpu"), report=lambda *point: points.append(point)
    )
    assert 0 <= scores["test_f1_dark"] <= 1
    assert points


def test_its_settings_are_flags(write, capsys):
    name = write()
    words = ["vts-smoke", "--dataset", name, "--data.size", "48", "--losses", "moco"]
    sweep = parse(words).sweep
    assert sweep.recipe.data == registry.settings_class(name)(size=48)
    assert (sweep.nu, sweep.pairings, sweep.dataset) == ((), ("noisy",), name)
    assert {cell.dataset for cell in sweep.cells()} == {name}
    assert parse([words[0], f"--dataset={name}", *words[3:]]).sweep == sweep
    with pytest.raises(InputError, match=r"^unknown flag --data.regions"):
        parse([*words, "--data.regions", "4"])
    with pytest.raises(InputError, match=r"--data.images 1: at least 2"):
        parse([*words, "--data.images", "1"])
    with pytest.raises(InputError, match=r"^--dataset: name a data set$"):
        parse(["--dataset"])
    with pytest.raises(SystemExit):
        parse(["--dataset", name, "--help"])
    shown = capsys.readouterr().out
    assert "--data.images" in shown
    assert "--data.dataset" not in shown
    assert "package.module:Class" in shown


def test_ours_can_be_put_in_a_presets_place_too():
    sweep = parse(["vts-quick", "--dataset", "cifar10", "--losses", "moco"]).sweep
    assert (sweep.dataset, sweep.pairings, sweep.nu) == ("cifar10", ("false_positive",), ())
    back = parse(["cifar-quick", "--dataset", "vts"]).sweep
    assert (back.dataset, back.nu) == ("vts", (1.0,))
    assert parse(["vts-quick", "--dataset", "vts"]).sweep == parse(["vts-quick"]).sweep


def test_yaml_names_it(write, tmp_path):
    name = write()
    path = tmp_path / "sweep.yaml"
    path.write_text(f"{{nu: [], pairings: [noisy], recipe: {{data: {{dataset: '{name}', images: 30}}}}}}")
    sweep = from_yaml(path)
    assert sweep.recipe.data == registry.settings_class(name)(images=30)
    path.write_text(to_yaml(sweep))
    assert from_yaml(path) == sweep
    assert parse(["--config", str(path), "--data.images", "31"]).sweep.recipe.data.images == 31
    assert pickle.loads(pickle.dumps(sweep)) == sweep


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{dataset: 'NAME', images: 1}", r"sweep.yaml: --data.images 1: at least 2"),
        ("{dataset: 'NAME', images: many}", r"recipe.data.images many: should be a valid integer"),
        ("{dataset: 'NAME', sides: 2}", r"unknown setting 'sides'; valid: dataset, size, images"),
        ("{dataset: 'no.such:Thing'}", r"data set 'no.such:Thing': no.such cannot be imported \(ModuleNotFoundError"),
        ("{dataset: imagenet}", r"unknown data set 'imagenet': choose from vts, xbd, cifar10, manifest, or name"),
        ("{dataset: 3}", r"recipe.data: name the data set"),
    ],
)
def test_yaml_that_does_not_fit_is_one_line(write, tmp_path, data, message):
    path = tmp_path / "sweep.yaml"
    path.write_text(f"{{nu: [], pairings: [noisy], recipe: {{data: {data.replace('NAME', write())}}}}}")
    with pytest.raises(InputError, match=message) as error:
        from_yaml(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        (("def load", "def lode"), "lacks load; the module of a data set needs the functions load, check, open_data"),
        (("def check", "check = 3\ndef _"), "lacks check"),
        (("frozen=True", "frozen=False"), "has no frozen dataclass Halves"),
        (("class Halves:", "class Quarters:"), "has no frozen dataclass Halves"),
        (("NAME:Halves", "halves"), "Halves needs the field dataset: str = "),
        (("    bands: ClassVar[int] = 3\n", ""), "Halves lacks bands; see Settings in datasets/source.py"),
        (("has_nu: ClassVar[bool] = False", "has_nu: ClassVar[bool] = True"), "Halves lacks check_nu"),
        (("import torch", "import no_such_torch"), "cannot be imported (ModuleNotFoundError: No module named"),
        (("import torch", "raise SystemExit(3)"), "cannot be imported (SystemExit: 3)"),
    ],
)
def test_what_it_lacks_is_said_in_one_line(write, replacement, message):
    name = write(replacement)
    for use in (registry.settings_class, lambda name: Cell(dataset=name, objective="moco"), registry.outside_root):
        with pytest.raises(InputError) as error:
            use(name)
        assert message in str(error.value)
        assert str(error.value).startswith(f"data set '{name}': ")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["a b:C", "package:", ":Class", "package/module.py:Class", "x:1"])
def test_what_is_no_path_of_a_class_is_refused(name):
    with pytest.raises(InputError, match=r"name your own class as package\.module:Class"):
        registry.settings_class(name)


def test_settings_cannot_pretend_to_be_of_another_data_set(write):
    settings = registry.settings_class(write())(dataset="vts")
    with pytest.raises(InputError, match=r"--data.dataset vts: Halves has the settings of another data set"):
        registry.load(settings, Place(), DEMANDS)


def test_other_processes_import_it_from_its_root(write, tmp_path):
    name = write()
    assert registry.outside_root("vts") is None
    root = registry.outside_root(name)
    assert root == tmp_path.resolve()
    code = f"from datasets.registry import settings_class; print(settings_class({name!r}).bands)"
    command = [sys.executable, "-c", f"import sys; sys.path.append({str(root)!r}); {code}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr


def test_an_installed_package_needs_no_root():
    import numpy

    from datasets.outside import import_root

    assert import_root(numpy) is None
    assert import_root(sys.modules["datasets.outside"]) == Path(ROOT)
