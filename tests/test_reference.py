"""The results that ship are those of today's presets, and everything shown follows from their summary."""

import re
from pathlib import Path

import pytest

from analysis.records import read_records, write_record
from benchmarks import reference
from benchmarks.reference import REFERENCES, command, main, show, texts
from sweep.commandline import parse
from sweep.config import from_yaml
from tests.analysis.conftest import CLASSES, grid

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(path.parent for path in (ROOT / "docs" / "results").glob("*/summary.parquet"))

shipped = pytest.mark.parametrize("folder", SHIPPED, ids=lambda folder: folder.name)


def asked(name: str):
    """The sweep that `make reference` runs."""
    return parse(command(name, "images" if REFERENCES[name].needs else None)[3:]).sweep


@pytest.mark.parametrize("name", REFERENCES)
def test_its_command_is_one_that_sweep_run_takes(name):
    sweep = asked(name)
    assert len(sweep.seeds) == REFERENCES[name].seeds
    assert str(sweep.out) == f"results/reference/{name}"
    assert {"random", "supervised"} <= {*sweep.objectives}


@shipped
def test_results_are_those_of_todays_preset(folder):
    records = read_records(folder / "summary.parquet")
    plan = from_yaml(folder / "sweep.yaml")
    recipe = asked(folder.name).recipe
    assert plan.recipe == recipe
    assert set(records["recipe"]) == {recipe.fingerprint}
    assert not re.search(r"\w/|/\w", str(plan.data_root or ""))  # nobody's path


@shipped
def test_results_are_whole(folder):
    records = read_records(folder / "summary.parquet")
    assert {*records["key"]} == {cell.key for cell in from_yaml(folder / "sweep.yaml").cells()}
    assert set(records["status"]) == {"done"}
    assert records["commit"].nunique() == 1
    assert re.fullmatch("[0-9a-f]{40}", records["commit"].iloc[0])


@shipped
def test_tables_and_claims_follow_from_the_summary(folder):
    for name, text in texts(folder / "summary.parquet").items():
        assert (folder / name).read_text() == text, f"{folder / name}: make it anew with benchmarks.reference"


@shipped
def test_its_page_names_the_commit_and_shows_figures_that_are_there(folder):
    page = (folder / "README.md").read_text()
    assert read_records(folder / "summary.parquet")["commit"].iloc[0][:7] in page
    pictures = re.findall(r"!\[[^]]*\]\(([^)]+)\)", page)
    assert pictures
    assert all((folder / picture).is_file() for picture in pictures)


@shipped
def test_no_image_ships(folder):
    for path in folder.rglob("*"):
        assert path.is_dir() or path.suffix in {".md", ".txt", ".yaml", ".parquet", ".svg"}
        if path.suffix == ".svg":
            assert "<image" not in path.read_text()


def test_what_is_shown_of_a_sweep_and_the_page_stays(tmp_path):
    for row in grid(2):
        write_record(tmp_path / "records-of", row, CLASSES)
    (tmp_path / "records-of" / "sweep.yaml").write_text("preset: vts-quick\n")
    out = tmp_path / "out"
    out.mkdir()
    (out / "README.md").write_text("by hand")
    (out / "figures").mkdir()
    (out / "figures" / "old.svg").touch()
    show(tmp_path / "records-of", out)
    assert (out / "README.md").read_text() == "by hand"
    assert {"sweep.yaml", "summary.parquet", "tables.txt", "claims.txt"} <= {path.name for path in out.iterdir()}
    drawn = {path.name for path in (out / "figures").iterdir()}
    assert "vts-map.svg" in drawn
    assert "old.svg" not in drawn
    assert "supported" in (out / "claims.txt").read_text()


def test_what_needs_images_is_left_out_or_refused(monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(reference, "show", lambda folder, out: ran.append(out.name))
    monkeypatch.setattr(reference.subprocess, "run", lambda *words, **how: type("Done", (), {"returncode": 0}))
    assert main([]) == 0
    assert "vts-quick" in ran
    assert "cifar-quick" not in ran
    assert "cifar-quick: not run, it needs images: name their folder with --cifar DIR" in capsys.readouterr().err
    assert main(["cifar-quick"]) == 2
    assert main(["cifar-quick", "--cifar", "DIR"]) == 0
    assert ran[-1] == "cifar-quick"


def test_a_sweep_that_did_not_end_well_is_not_shown(monkeypatch):
    monkeypatch.setattr(reference, "show", lambda folder, out: pytest.fail("shown"))
    monkeypatch.setattr(reference.subprocess, "run", lambda *words, **how: type("Done", (), {"returncode": 130}))
    assert main(["vts-quick"]) == 130


def test_an_unknown_name_is_a_line(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["vts-slow"])
    assert ended.value.code == 2
    assert "unknown reference vts-slow: use some of vts-quick" in capsys.readouterr().err
