"""Losses by name: a loss outside this project works everywhere that a built-in one does."""

import math
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from datasets.errors import InputError
from sweep.config.vary import setting_names
from tests.helpers.command import ROOT
from trainables import objective_names as names
from trainables import registry
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.checkpoints import Checkpoints, StoppedError
from trainables.engine import PLAIN
from trainables.models.encoders import make_encoder
from trainables.objective_names import canonical_objective, objective_info, outside_root, without_learning_rate
from trainables.objectives.base import make_objective
from trainables.profiling.bare_step import bare_step
from trainables.profiling.cell_profile import SMALLEST, profile_cell
from trainables.profiling.parts import seconds
from trainables.recipe import Recipe
from trainables.registry import BASELINES, LOSSES, ObjectiveInfo, losses_for
from trainables.run_cell import run_cell

CPU = torch.device("cpu")
OUTSIDE = Path(__file__).parents[1] / "helpers" / "outside"
SIMCLR = "mypackage.module:SimClr"
TIMES = {"seconds", "pretrain_seconds", "probe_seconds", "images_per_second"}


@pytest.fixture(autouse=True)
def outside(monkeypatch):
    """Make the outside package importable."""
    monkeypatch.syspath_prepend(str(OUTSIDE))


def run(objective, recipe, bank, checkpoints=None, **coordinates):
    """Metrics without times, and learning curves, as text for bitwise comparison."""
    points = []
    cell = Cell(objective=objective, **coordinates)
    metrics = run_cell(
        cell,
        CellJob(recipe=recipe, source=bank),
        CPU,
        report=lambda *point: points.append(point),
        checkpoints=checkpoints,
    )
    return repr(({name: value for name, value in metrics.items() if name not in TIMES}, points))


def test_nt_xent_is_the_papers_double_loop():
    from mypackage.module import nt_xent

    generator = torch.Generator().manual_seed(0)
    features = torch.nn.functional.normalize(torch.randn(10, 7, generator=generator, dtype=torch.float64), dim=1)
    slow = 0.0
    for i in range(10):
        similarities = [math.exp(float(features[i] @ features[k]) / 0.5) for k in range(10)]
        positive = similarities[(i + 5) % 10]
        slow += -math.log(positive / sum(similarities[k] for k in range(10) if k != i)) / 10
    assert float(nt_xent(features, temperature=0.5)) == pytest.approx(slow, rel=1e-12)


# --- built in


def test_what_the_registry_says_of_a_class_is_so(recipe):
    for name, info in {**LOSSES, **BASELINES}.items():
        if info.trained:
            assert names.objective_class(name).sees == info.sees
            assert isinstance(recipe.learning_rate(name), float)
    with torch.random.fork_rng():
        made = {name: make_objective(name, make_encoder(recipe.encoder), recipe, torch.Generator()) for name in LOSSES}
    assert {name: one.lr for name, one in made.items()} == {name: recipe.learning_rate(name) for name in LOSSES}


def test_a_loss_is_for_the_tasks_whose_labels_it_uses():
    assert set(losses_for("segmentation")) == LOSSES.keys() - {"supcon"}
    assert set(losses_for("classification")) == LOSSES.keys() - {"within_image", "cross_image", "rince_within"}


@pytest.mark.parametrize("name", LOSSES)
def test_no_loss_hides_a_setting_and_each_of_its_settings_is_its_own(name):
    """What a loss uses are the flags of its part, of the parts that it shares, and of all cells."""
    info, recipe = LOSSES[name], Recipe()
    used = {one for one in setting_names(recipe) if info.uses(one)}
    parts = (info.settings, *info.also)
    assert {f"{info.settings}.{info.lr}", "pretrain.batch", "pretrain.steps"} <= used
    rates = {one for one in used if one.startswith(parts) and one.endswith("lr")}
    assert rates == {f"{info.settings}.{info.lr}"}
    assert {one for one in used if one.startswith("rince.") and "lr" not in one} == (
        {"rince.q", "rince.lam"} if "rince" in parts else set()
    )


def test_names_are_read_without_torch():
    code = (
        "from trainables.recipe import Recipe; from trainables.cell import Cell;"
        "from trainables.objective_names import objective_info;"
        "import sys; Cell(objective='cross_image'); objective_info('supervised'); Recipe().learning_rate('moco');"
        "print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"


def test_each_loss_has_its_learning_rate_where_it_belongs():
    recipe = Recipe()
    changed, name = recipe.with_learning_rate("cross_image", 0.7)
    assert (changed.dense.cross_lr, changed.dense.within_lr, name) == (0.7, recipe.dense.within_lr, "cross_image")
    changed, name = recipe.with_learning_rate("supervised", 0.7)
    assert (changed.supervised.lr, name) == (0.7, "supervised")
    changed, name = recipe.with_learning_rate(f"{SIMCLR}(temperature=0.1)", 0.7)
    assert (changed, name) == (recipe, f"{SIMCLR}(lr=0.7, temperature=0.1)")
    assert recipe.learning_rate(name) == 0.7
    assert without_learning_rate(name) == f"{SIMCLR}(temperature=0.1)"
    assert [without_learning_rate(name) for name in ("moco", "random")] == ["moco", "random"]
    with pytest.raises(InputError, match="should be greater than 0"):
        recipe.with_learning_rate(SIMCLR, 0.0)
    with pytest.raises(InputError, match="should be greater than 0"):
        recipe.with_learning_rate("moco", 0.0)


@pytest.mark.parametrize("name", LOSSES)
def test_a_search_changes_the_rate_of_its_loss_alone(name):
    recipe = Recipe()
    changed, same = recipe.with_learning_rate(name, 0.7)
    assert same == name
    assert {one: changed.learning_rate(one) for one in LOSSES if one != name} == {
        one: recipe.learning_rate(one) for one in LOSSES if one != name
    }
    assert changed.learning_rate(name) == 0.7
    assert changed == recipe.with_settings({f"{LOSSES[name].settings}.{LOSSES[name].lr}": 0.7})


def test_a_loss_is_built_in_by_one_line(monkeypatch, recipe, bank):
    outside = run(SIMCLR, recipe, bank)
    monkeypatch.setitem(registry.LOSSES, "nt_xent", ObjectiveInfo(path=SIMCLR))
    canonical_objective.cache_clear()
    assert canonical_objective("nt_xent(lr=0.06)") == canonical_objective(SIMCLR) == "nt_xent"
    assert canonical_objective(f"{SIMCLR}(lr=1)") == "nt_xent(lr=1.0)"
    assert objective_info("nt_xent").sees == "pairs"
    assert Recipe().with_learning_rate("nt_xent", 0.3)[1] == "nt_xent(lr=0.3)"
    assert outside_root("nt_xent") is None
    assert run("nt_xent", recipe, bank) == outside
    canonical_objective.cache_clear()


# --- from outside


def test_one_loss_has_one_name_and_one_key():
    plain = Cell(objective=SIMCLR, rho=0.5, nu=0.5)
    for same in ("()", "(lr=0.06)", "( temperature = .5, lr = 6e-2 )", "(head=['linear', 'relu', 'linear'])"):
        other = Cell(objective=SIMCLR + same, rho=0.5, nu=0.5)
        assert other == plain
        assert other.key == plain.key
        assert other.objective == SIMCLR
    changed = Cell(objective=f"{SIMCLR}(temperature=0.1,lr=1)", rho=0.5, nu=0.5)
    assert changed.objective == f"{SIMCLR}(lr=1.0, temperature=0.1)"
    assert changed.key != plain.key
    assert Cell(**asdict(changed)) == changed
    assert str(changed).startswith(f"{SIMCLR}(lr=1.0, temperature=0.1) rho 0.5")
    assert canonical_objective("trainables.objectives.moco:MocoV2") == "moco"


def test_what_is_known_of_a_class_from_outside():
    info = objective_info(f"{SIMCLR}(lr=0.5)")
    assert (info.sees, info.cost, info.settings, info.trained) == ("pairs", 2.5, None, True)
    assert outside_root(f"{SIMCLR}(lr=0.5)") == OUTSIDE
    assert outside_root("moco") is None
    assert outside_root("torch.nn:Linear") is None  # an installed package, which workers have


def test_a_cell_of_an_outside_loss_runs_and_its_settings_reach_it(recipe, bank):
    first = run(SIMCLR, recipe, bank, rho=0.5, nu=0.5)
    torch.rand(7)  # the global random state must have no effect
    assert run(SIMCLR, recipe, bank, rho=0.5, nu=0.5) == first
    assert run(f"{SIMCLR}(temperature=0.1)", recipe, bank, rho=0.5, nu=0.5) != first
    assert run(SIMCLR, recipe, bank, rho=0.5, nu=0.5, seed=1) != first


def test_it_is_resumed_bit_for_bit(recipe, bank, tmp_path):
    whole = run(SIMCLR, recipe, bank)
    for last in (1, 3, 6, 9):
        beats = iter(range(1, 1000))
        folder = tmp_path / str(last)
        with pytest.raises(StoppedError):
            run(SIMCLR, recipe, bank, Checkpoints(folder, "this", heartbeat=lambda: next(beats) == last))  # noqa: B023
        assert run(SIMCLR, recipe, bank, Checkpoints(folder, "this")) == whole


def test_it_is_profiled_and_timed(recipe, bank, tmp_path):
    cell = Cell(objective=f"{SIMCLR}(lr=0.01)")
    parts = profile_cell(cell, CellJob(recipe=recipe, source=bank), CPU, size=SMALLEST, folder=tmp_path)
    assert {(part.stage, part.name): part.times for part in parts}["pretrain", "step"] == recipe.pretrain.steps
    assert seconds(parts) > 0
    step = bare_step(cell.objective, recipe, PLAIN, CPU)
    losses = [float(step()) for _ in range(20)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", ["rince_within", "byol", "densecl", "pixpro"])
def test_losses_of_this_project_are_profiled_and_timed(name, recipe, bank, tmp_path):
    job = CellJob(recipe=recipe, source=bank)
    parts = profile_cell(Cell(objective=name), job, CPU, size=SMALLEST, folder=tmp_path)
    assert {(part.stage, part.name): part.times for part in parts}["pretrain", "step"] == recipe.pretrain.steps
    step = bare_step(name, recipe, PLAIN, CPU)
    assert all(step().isfinite() for _ in range(3))


def test_the_example_of_the_documentation_runs(recipe, bank, tmp_path, monkeypatch):
    page = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(\"\"\"Alignment.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "spread.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "'pretrain_loss'" in run("spread:Alignment(weight=0.5)", recipe, bank)
    assert outside_root("spread:Alignment") == tmp_path


# --- refusals


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("barlow", "barlow: choose from moco, within_image, cross_image, rince, rince_within, simclr, supcon, byol,"),
        (
            "barlow",
            "vicreg, densecl, pixpro, random, pretrained, imagenet, supervised, or name your own class as package.mod",
        ),
        ("byoll", "did you mean byol? choose from"),
        ("rince(q=0.5)", "its settings are the flags --rince.*"),
        ("mocco", "did you mean moco? choose from"),
        ("", "write NAME, package.module:Class"),
        ("moco(lr=0.1)", "its settings are the flags --moco.*"),
        ("supervised(lr=0.1)", "its settings are the flags --supervised.*"),
        ("random()", "random has no settings"),
        ("mypackage.nowhere:SimClr", "mypackage.nowhere cannot be imported (ModuleNotFoundError"),
        ("mypackage.module:", "name your own class as package.module:Class"),
        ("my-package:SimClr", "name your own class as package.module:Class"),
        ("mypackage.module:Simclr", "no such class in mypackage.module; choose from SimClr"),
        ("mypackage.module:nt_xent", "nt_xent is no trainables.objectives.base.Objective; choose from SimClr"),
        ("os:system", "system is no trainables.objectives.base.Objective"),
        ("trainables.objectives.base:Objective", "needs `Settings`"),
        (f"{SIMCLR}(rate=1)", "unknown setting 'rate'; valid: lr (default 0.06), temperature (default 0.5)"),
        (f"{SIMCLR}(lr=0)", "lr 0: should be greater than 0"),
        (f"{SIMCLR}(lr=1e999)", "lr inf: should be greater than 0"),
        (f"{SIMCLR}(lr='fast')", "lr fast: should be a valid number"),
        (f"{SIMCLR}(features=1.5)", "features 1.5: should be a valid integer"),
        (f"{SIMCLR}(temperature=-1)", "temperature -1: must be above 0"),
        (f"{SIMCLR}(temperature=1e999)", "temperature inf: a name can hold only finite numbers"),
        (f"{SIMCLR}(0.1)", "write settings as name=value"),
        (f"{SIMCLR}(lr=__import__('os').getcwd())", "write settings as name=value with plain values"),
        (f"{SIMCLR}(**{{'lr': 1}})", "write settings as name=value"),
        (f"{SIMCLR}(lr=1, lr=2)", "write settings as name=value"),
        (f"{SIMCLR}(lr=1)(lr=2)", "write settings as name=value"),
        (f"{SIMCLR}(lr=", "write NAME, package.module:Class"),
        (f"{SIMCLR}(head={'(' * 400}", "write NAME, package.module:Class"),
        (f"{SIMCLR}(head={'(' * 400})", "write settings as name=value"),
        (f"{SIMCLR}(features={'1' * 2000})", "at most 1000 characters"),
        (f"{SIMCLR}(lr=1,\x00)", "write settings as name=value"),
    ],
)
def test_a_name_that_cannot_be_used_is_one_line_with_what_is_valid(name, message):
    with pytest.raises(InputError) as error:
        canonical_objective(name)
    assert message in str(error.value)
    assert str(error.value).isprintable()
    with pytest.raises(InputError):
        Cell(objective=name)


CLASS = """
from dataclasses import dataclass
from trainables.objectives.base import Objective

class Loss(Objective):
    sees = "pairs"
    @dataclass(frozen=True, kw_only=True)
    class Settings:
        lr: float = 0.1
    def loss(self, views, generator):
        return 0
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("frozen=True, ", "", "needs `Settings`, a frozen keyword-only dataclass"),
        (", kw_only=True", "", "needs `Settings`, a frozen keyword-only dataclass"),
        ("lr: float = 0.1", "lr: float", "a field `lr` that has a default"),
        ("lr: float", "rate: float", "a field `lr` that has a default"),
        ("lr: float = 0.1", "lr: object() = 0.1", "Unable to generate"),
        ('sees = "pairs"', "pass", "needs `sees`"),
        ('"pairs"', '"downstream"', "needs `sees`"),
        ('"pairs"', '"labels"', '"pairs", "labelled pairs" or "labelled images"'),
        ("def loss", "def other", "needs a method `loss`"),
        ("class Loss", "class Loss(", "cannot be imported (SyntaxError"),
        ("class Loss", "raise SystemExit(1)\nclass Loss", "cannot be imported (SystemExit: 1)"),
    ],
)
def test_a_class_that_lacks_something_is_told_what(tmp_path, monkeypatch, old, new, message):
    assert old in CLASS
    module = f"lacking_{abs(hash((old, new)))}"
    (tmp_path / f"{module}.py").write_text(CLASS.replace(old, new))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError) as error:
        canonical_objective(f"{module}:Loss()")
    assert message in str(error.value)
    assert str(error.value).isprintable()


# --- which settings an objective uses


@pytest.mark.parametrize("objective", ["moco", "within_image", "cross_image", "rince", "supervised", "random"])
def test_settings_that_an_objective_does_not_use_change_nothing(objective, recipe, bank):
    changes = {
        "moco.temperature": 0.5,
        "moco.lr": 0.5,
        "dense.temperature": 0.5,
        "dense.within_lr": 0.5,
        "dense.cross_lr": 0.5,
        "rince.q": 0.5,
        "rince.within_lr": 0.5,
        "vicreg.variance": 1.0,
        "supervised.lr": 0.5,
        "augment.crop": 0.5,
        "pretrain.warmup": 4,
        "encoder.slim": 0.0625,
        "probe.lr": 0.5,
        "data.regions": 22,
    }
    info, before = objective_info(objective), run(objective, recipe, bank)
    unused = {name: value for name, value in changes.items() if not info.uses(name)}
    assert run(objective, recipe.with_settings(unused), bank) == before
    if objective in ("cross_image", "rince"):
        used = changes.keys() - unused.keys()
        assert all(run(objective, recipe.with_settings({name: changes[name]}), bank) != before for name in used)
