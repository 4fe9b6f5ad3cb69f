"""What the documents say exists, and what must not be in the repository is not."""

import re
import subprocess
from pathlib import Path

import pytest

from analysis import claims, compare, figures, summary
from analysis.publish import __main__ as publish
from analysis.report import __main__ as report
from sweep.cli import flags, flags_of
from sweep.lr_search.config import search_for
from sweep.presets import PRESETS, preset
from sweep.probe import ProbeCommand

ROOT = Path(__file__).parents[1]
ANALYSIS = (claims, compare, figures, publish, report, summary)
README = (ROOT / "README.md").read_text()
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_is_in_the_readme_and_says_what_it_is_not(name):
    assert f"`{name}`" in README
    said = " ".join((PRESETS[name].__doc__ or "").split())
    assert "paper" in said
    assert re.search(r"minute|GPU", said)


@pytest.mark.parametrize(
    "name",
    ["README", "docs/commands", "docs/extending", "docs/planning", "docs/probing", "docs/reliability", "docs/sharing"],
)
def test_flags_on_a_page_exist(name):
    known = {
        *(flag for name in PRESETS for flag in flags(preset(name))),
        *flags_of(search_for(preset("vts-quick"))),
        *flags_of(ProbeCommand()),
        "--help",
        "--config",
        "--dataset",
        "--dry-run",
        *("--preview", "--size"),  # of datasets.vts and datasets.xbd
        *(flag for tool in ANALYSIS for flag in tool._parser()._option_string_actions),
        *("--to", "--watch"),  # of sweep.sync and sweep.status
        *("--partition", "--time"),  # of sbatch
    }
    page = re.sub(r"(?ms)^```python$.*?^```$", "", (ROOT / f"{name}.md").read_text(encoding="utf-8"))
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9.-]*[a-z0-9]", page))
    assert used <= known, used - known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_on_a_page_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, part = link.partition("#")
        if path.startswith("http"):
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        if part:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert part in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, link


def test_the_readme_is_read_in_a_minute():
    assert len(README.splitlines()) <= 120


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
