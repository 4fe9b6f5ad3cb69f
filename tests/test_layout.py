"""The house stays in order: every file has its line in ARCHITECTURE.md, and no folder grows beyond a glance."""

import re
import subprocess
from collections import Counter
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
