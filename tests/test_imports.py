"""Heavy packages are imported only where they are needed: a command that does without torch starts in a second."""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers.command import ROOT

STEPS = {
    "the settings of data sets": (
        "datasets.xbd.config datasets.manifest.config",
        {"torch", "pandas", "matplotlib", "skimage", "ray", "mlflow"},
    ),
    "analysis": (
        "analysis.*",
        {"torch", "ray", "mlflow", "sweep", "trainables"},
    ),
    "the command lines of data sets": (
        "datasets.xbd.__main__ datasets.manifest.__main__",
        {"torch", "ray", "mlflow", "trainables", "sweep"},
    ),
    "settings, cells and objectives": (
        "trainables.recipe trainables.cell trainables.objective_names",
        {"torch", "ray", "mlflow"},
    ),
    "the command line and the state of a sweep": ("sweep.api sweep.status", {"torch", "ray", "mlflow"}),
    "the driver of a sweep": ("sweep.driver sweep.autotune.choose sweep.tune.runner", {"torch"}),
}
"""In this order: what each imports stays imported for the next, so that one process checks all."""
CHILD = """
import importlib, json, pkgutil, sys
found = []
for modules in json.loads(sys.argv[1]):
    for module in modules.split():
        package = importlib.import_module(module.removesuffix(".*"))
        if module.endswith(".*"):
            for one in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                importlib.import_module(one.name)
    if "trainables.objective_names" in modules:
        from trainables.cell import Cell
        from trainables.objective_names import objective_info
        from trainables.recipe import Recipe
        Cell(objective="cross_image")
        objective_info("supervised")
        Recipe().learning_rate("moco")
    found.append(sorted(name for name in sys.modules if "." not in name))
print(json.dumps(found))
"""


def imported(*steps, **environment):
    """The packages that are imported after each step."""
    words = [sys.executable, "-c", CHILD, json.dumps(steps)]
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return [set(names) for names in json.loads(done.stdout)]


def test_each_part_does_without_what_it_need_not_import():
    found = imported(*(modules for modules, _ in STEPS.values()))
    for (name, (_, absent)), there in zip(STEPS.items(), found, strict=True):
        assert not absent & there, name


@pytest.mark.parametrize("module", ["analysis.report.page", "analysis.plots.learning_rates", "datasets.panels"])
def test_figures_and_previews_need_no_backend_of_the_callers(module):
    """Jupyter names its backend to each shell command, whose Python may lack it."""
    assert "matplotlib" in imported(module, MPLBACKEND="a-backend-of-elsewhere")[0]
