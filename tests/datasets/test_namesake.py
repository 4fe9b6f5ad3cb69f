"""Hugging Face's package `datasets` in the way of ours, in whichever order the two were installed: one line says so."""

import os
import shutil
import subprocess
import sys

import pytest

from datasets import namesake
from tests.helpers.command import ROOT

THEIRS = "load_dataset = None\n"
SHARED = "holds files of noisy-pairs and of Hugging Face's datasets-3.1.0, so one is broken: keep the two in two env"
COMMANDS = {
    "run": ["-m", "sweep.run", "--help"],
    "manifest": ["-m", "datasets.manifest", "--help"],
    "noisy-pairs": ["bin/noisy-pairs", "claims", "--help"],
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    """Our packages as a wheel unpacks them."""
    site = tmp_path_factory.mktemp("wheel") / "site"
    for name in ("sweep", "datasets", "trainables", "analysis"):
        shutil.copytree(ROOT / name, site / name, ignore=shutil.ignore_patterns("__pycache__"))
    (site / "bin").mkdir()
    (site / "bin" / "noisy-pairs").write_text("import sys\nfrom sweep.commands import main\nsys.exit(main())\n")
    return site


@pytest.fixture
def site(packages, tmp_path):
    """The same, to be changed."""
    return shutil.copytree(packages, tmp_path / "site")


def python(site, *words, before=""):
    place = {"PYTHONPATH": os.pathsep.join(filter(None, [before, str(site)]))}
    return subprocess.run(
        [sys.executable, *words], cwd=site, env={**os.environ, **place}, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("later", ["ours", "theirs"])
@pytest.mark.parametrize("name", COMMANDS)
def test_two_wheels_in_one_folder(site, name, later):
    (site / "datasets-3.1.0.dist-info").mkdir()
    if later == "theirs":
        (site / "datasets" / "__init__.py").write_text(THEIRS)
    ended = python(site, *COMMANDS[name])
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {site / 'datasets'} {SHARED}")
    assert len(ended.stderr.splitlines()) == 1
    assert not ended.stdout


def test_a_program_that_is_not_ours_can_handle_it(site):
    (site / "datasets-3.1.0.dist-info").mkdir()
    program = "try:\n    import sweep\nexcept ImportError as error:\n    print(error)"
    assert SHARED in python(site, "-c", program).stdout


def test_their_files_were_taken_away_and_ours_with_them(site):
    (site / "datasets" / "__init__.py").unlink()
    ended = python(site, *COMMANDS["run"])
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: {site / 'datasets'} has lost files")
    assert len(ended.stderr.splitlines()) == 1


def test_theirs_that_was_imported_first(packages, tmp_path):
    """As by a `sitecustomize`, or in a notebook."""
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text(THEIRS)
    (tmp_path / "sitecustomize.py").write_text("import datasets")
    ended = python(packages, *COMMANDS["run"], before=str(tmp_path))
    assert ended.returncode == 2
    assert f"'datasets' was imported before from {tmp_path / 'datasets'}" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_theirs_elsewhere_does_no_harm(packages, tmp_path):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("raise ValueError('theirs')")
    (tmp_path / "datasets-3.1.0.dist-info").mkdir()
    ended = python(packages, "bin/noisy-pairs", before=str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert "manifest" in ended.stdout


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["python", "-m", "sweep.run"], True),
        (["python", "-m", "pytest"], False),
        (["python", "mine.py", "-m"], False),
        (["python"], False),
        (["python", "/usr/bin/noisy-pairs", "run"], True),
    ],
)
def test_which_programs_are_commands_of_this_project(words, expected, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", words)
    with pytest.raises(SystemExit if expected else ImportError):
        namesake.refuse("why")
