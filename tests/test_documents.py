"""What the documents say exists, and what must not be in the repository is not."""

import re
import subprocess
from pathlib import Path

import pytest

from analysis import claims, compare, figures, summary
from analysis.report import __main__ as report
from sweep.cli import flags, flags_of
from sweep.lr_search.config import search_for
from sweep.presets import PRESETS, preset

ROOT = Path(__file__).parents[1]
ANALYSIS = (claims, compare, figures, report, summary)
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_is_in_the_readme_and_says_what_it_is_not(name):
    assert f"`{name}`" in README
    said = " ".join((PRESETS[name].__doc__ or "").split())
    assert "paper" in said
    assert re.search(r"minute|GPU", said)


def test_flags_in_the_readme_exist():
    known = {
        *(flag for name in PRESETS for flag in flags(preset(name))),
        *flags_of(search_for(preset("vts-quick"))),
        "--help",
        "--config",
        "--dataset",
        "--dry-run",
        "--preview",
        "--size",
        *(flag for tool in ANALYSIS for flag in tool._parser()._option_string_actions),
        *("--to", "--watch"),  # of sweep.sync and sweep.status
        "--backend-store-uri",
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9.-]*[a-z0-9]", README)) <= known


def test_no_registry_and_no_path_of_a_machine_is_named():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if files.returncode:
        pytest.skip("not a git checkout")
    # Character classes, so that the pattern does not find itself.
    forbidden = re.compile(r"pythonhoste[d]|pypi[.]org|registry[.]npmjs|file[:]//")
    for name in files.stdout.split():
        text = (ROOT / name).read_text(errors="replace") if (ROOT / name).is_file() else ""
        assert not forbidden.search(text), name


def test_the_image_gets_what_it_copies():
    """Nothing else is sent to the builder, such as results or an environment."""
    copied = [
        re.findall(r"\S+", line)[1:-1] for line in (ROOT / "Dockerfile").read_text().splitlines() if "COPY" in line
    ]
    admitted = {line.lstrip("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {name for names in copied for name in names} == admitted
    assert all((ROOT / name).exists() for name in admitted)
