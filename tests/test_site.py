"""The site and the notebook: every page has its place, nothing comes from the network, and the notebook's code runs."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys

import pytest
import yaml

from sweep.api import flags_for
from sweep.cli import parse
from sweep.presets import PRESETS, preset
from tests.helpers.command import ROOT

NOTEBOOKS = list((ROOT / "docs/notebooks").glob("*.ipynb"))
MADE = {"docs/presets.md", "docs/settings.md", "docs/python.md"}
"""Pages that `docs/site/hooks.py` makes from code."""


def pages_of(nav):
    """The pages of a part of the navigation."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in pages_of(part)]


def test_every_page_is_in_the_navigation_once():
    listed = pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"])
    pages = {path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]}
    notebooks = {path.relative_to(ROOT).with_suffix(".md").as_posix() for path in NOTEBOOKS}
    assert sorted(listed) == sorted(pages | notebooks | MADE)


def code_of(notebook):
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    return ast.parse("\n".join("".join(cell["source"]) for cell in cells))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_names_what_exists_and_no_machine(notebook):
    for node in ast.walk(code_of(notebook)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, name.name) for name in node.names)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "run_sweep":
            settings = {word.arg: ast.literal_eval(word.value) for word in node.keywords}
            assert parse(flags_for(settings), preset(*map(ast.literal_eval, node.args)))
    assert not re.search(r"(?<!\w)/(home|root|tmp|work|Users|mnt|opt|usr)/", notebook.read_text())
    assert notebook.stat().st_size < 100_000


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Jupyter, about its own connections
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_a_kernel_with_a_bar_and_ray(notebook, tmp_path):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    read = nbformat.read(notebook, 4)
    before = os.environ.get("PYTHONPATH")
    try:
        os.environ["PYTHONPATH"] = str(ROOT)
        nbclient.NotebookClient(read, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    finally:
        os.environ.pop("PYTHONPATH")
        os.environ.update({"PYTHONPATH": before} if before else {})
    said = "".join(output.get("text", "") for output in read.cells[1].outputs)
    assert re.search(r"running \d+$", said, re.MULTILINE)
    assert re.search(r"█.* cells done", said)
    assert "state='complete'" in str(read.cells[1].outputs)
    assert any("image/png" in output.get("data", {}) for cell in read.cells for output in cell.get("outputs", ()))


@pytest.mark.slow
def test_the_site_is_whole_and_loads_nothing_from_the_network(tmp_path):
    """MkDocs refuses a link or an anchor that leads nowhere, and a page outside the navigation."""
    pytest.importorskip("mkdocs")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    remote = r"""<((script|img|iframe)[^>]* src|link[^>]* rel="?(style|pre|icon)[^>]* href)=["']?(https?:)?//"""
    for page in (tmp_path / "site").rglob("*.html"):
        assert not re.search(remote, page.read_text()), page
    shown = (tmp_path / "site/docs/presets.html").read_text()
    assert all(f'id="{name}"' in shown for name in PRESETS)
    assert "--pretrain.steps" in (tmp_path / "site/docs/settings.html").read_text()
    assert "run_sweep" in (tmp_path / "site/docs/python.html").read_text()
