"""The house stays in order: every file has its line in ARCHITECTURE.md, and no folder grows beyond a glance."""

import ast
import re
import subprocess
import sys
import tomllib
from collections import Counter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("analysis", "benchmarks", "datasets", "sweep", "trainables")
GLANCE = 25
"""Names in a folder at most, packages counted as one."""


@pytest.fixture(scope="module")
def files():
    """The Python files of the project, as git knows them."""
    listed = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [Path(name) for name in listed.stdout.split() if (ROOT / name).exists()]


def test_every_file_has_a_line_in_the_architecture(files):
    tree = re.search(r"## The files\n\n```\n(.*?)```", (ROOT / "ARCHITECTURE.md").read_text(), re.DOTALL)[1]
    listed, folders = set(), {}
    for line in filter(str.strip, tree.splitlines()):
        depth, name, what = re.fullmatch(r"( *)(\S+) *(.*)", line).groups()
        level = len(depth) // 2
        if name.endswith("/"):
            folders[level] = name
        else:
            assert what, line
            listed.add("".join(folders[i] for i in range(level)) + name)
    ours = {str(file) for file in files if file.parts[0] in PACKAGES and file.name != "__init__.py"}
    assert listed == ours


def test_every_folder_shows_at_a_glance_what_is_in_it(files):
    entries = {(file.parents[i], file.parts[-1 - i]) for file in files for i in range(len(file.parts))}
    counts = Counter(folder for folder, name in entries if name != "__init__.py")
    assert {folder: count for folder, count in counts.items() if count > GLANCE} == {}


def imported(file):
    """The top-level modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse((ROOT / file).read_text())):
        names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
        yield from (name.split(".")[0] for name in names)


#: Imports inside functions of packages that an extra of pyproject.toml installs.
OPTIONAL = {("datasets/images/gdal.py", "rasterio")}


def test_every_import_is_a_declared_dependency(files):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.match(r"[\w.-]+", name)[0].lower() for name in project["dependencies"]}
    distributions = packages_distributions()
    # pydantic pins pydantic_core, and its documentation imports errors from there.
    known = {*sys.stdlib_module_names, *PACKAGES, "pydantic_core"}
    ours = [file for file in files if file.parts[0] in PACKAGES and file.parts[0] != "benchmarks"]
    foreign = {(str(file), name) for file in ours for name in imported(file) if name not in known}
    undeclared = {
        (file, name)
        for file, name in foreign
        if declared.isdisjoint(distribution.lower() for distribution in distributions.get(name, ()))
    }
    assert undeclared == OPTIONAL
