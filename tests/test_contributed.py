"""Contributed results are whole and agree with themselves; what does not is refused in a line that says why."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from analysis.publish import __main__ as publish
from analysis.publish.croissant import CROISSANT, sha256
from analysis.records.io import SUMMARY, column_types, read_records
from analysis.records.parquet import write_frame
from benchmarks.reference.contributed import contributed_page, main, problems
from benchmarks.reference.verdicts import judged, shipped

ROOT = Path(__file__).parents[1]
CONTRIBUTED = ROOT / "docs" / "results" / "contributed"


def test_each_contributed_folder_is_as_it_must_be():
    folders = [path for path in CONTRIBUTED.iterdir() if path.name != "README.md"]
    assert {folder.name: found for folder in folders if (found := problems(folder))} == {}


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A sweep that ships, published; with one figure and without its card, which take time."""
    out = tmp_path_factory.mktemp("contributed") / "vts-quick"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "DRAWN", ("interaction",))  # a sweep that varies nothing has none
        assert publish.main([str(ROOT / "docs/results/vts-quick"), "--out", str(out)]) == 0
    return out


@pytest.fixture
def folder(published, tmp_path):
    """The same, to be spoilt."""
    return Path(shutil.copytree(published, tmp_path / "vts-quick"))


def rewrite(folder, change):
    """Change the records, and describe the new file as if nothing had happened."""
    records = change(read_records(folder))
    write_frame(folder / SUMMARY, records, column_types(records))
    metadata = json.loads((folder / CROISSANT).read_text())
    for one in metadata["distribution"]:
        one["sha256"] = sha256(folder / one["@id"])
    (folder / CROISSANT).write_text(json.dumps(metadata))


def test_what_is_published_from_a_sweep_that_ships_can_be_contributed(published, capsys):
    assert main([str(published)]) == 0
    assert capsys.readouterr() == ("", "")


CHANGES = {
    "test_f1_macro is outside 0 to 1": lambda records: records.assign(test_f1_macro=60.0),
    "seconds is outside 0 or more": lambda records: records.assign(seconds=-1.0),
    "fewer than 3 seeds of random, supervised, moco, within_image, cross_image": lambda r: r[r["seed"] < 2],
    "fewer than 3 seeds of moco:": lambda records: records[(records["objective"] != "moco") | (records["seed"] == 0)],
    "the commit is not recorded": lambda records: records.assign(commit=None),
    "the commit is unknown": lambda records: records.assign(commit="unknown"),
    "+changes": lambda records: records.assign(commit=records["commit"] + "+changes"),
    "the records tells a path of a machine, /home/ann/x": lambda records: records.assign(source="of /home/ann/x"),
    "of the records is not that of sweep.yaml": lambda records: records.assign(recipe="0123456789abcdef"),
    "is not that of its cell and recipe": lambda records: records.assign(seed=records["seed"] + 1),
    "the key 6cccefd71a9e3435 is not": lambda records: records.assign(
        objective=np.where(records["key"] == "6cccefd71a9e3435", "moco", records["objective"])
    ),
    "a record is of no cell of this project": lambda records: records.assign(dataset="other"),
}


@pytest.mark.parametrize("problem", CHANGES)
def test_records_that_are_not_what_they_seem(folder, problem):
    rewrite(folder, CHANGES[problem])
    assert any(problem in one for one in problems(folder)), problems(folder)


def spoil(folder, name, text):
    (folder / name).write_text(text)


FILES = {
    "claims.txt not as croissant.json describes": lambda folder: spoil(folder, "claims.txt", "all supported"),
    "photo.svg not as": lambda folder: spoil(folder, "photo.svg", "<svg/>"),
    "tables.txt not as": lambda folder: (folder / "tables.txt").unlink(),
    "croissant.json cannot be read": lambda folder: spoil(folder, CROISSANT, "{}"),
    "sweep.yaml missing: write the folder with": lambda folder: (folder / "sweep.yaml").unlink(),
    "unknown setting 'extra'": lambda folder: spoil(folder, "sweep.yaml", "extra: 1"),
    "summary.parquet cannot be read": lambda folder: spoil(folder, SUMMARY, "PAR1"),
    "README.md tells a path of a machine, /home/ann/x": lambda folder: spoil(folder, "README.md", "in /home/ann/x."),
    "is not that of sweep.yaml": lambda folder: spoil(
        folder, "sweep.yaml", (folder / "sweep.yaml").read_text().replace("steps: 960", "steps: 961")
    ),
}


@pytest.mark.parametrize("problem", FILES)
def test_files_that_are_not_what_they_seem(folder, problem, capsys):
    FILES[problem](folder)
    assert main([str(folder)]) == 1
    said = capsys.readouterr().err
    assert problem in said
    assert all(line.startswith(f"{folder}: ") for line in said.splitlines())


def test_contributed_sweeps_stand_side_by_side_by_name(published, tmp_path):
    for name in ("b", "a"):
        shutil.copytree(published, tmp_path / name)
    page = contributed_page(judged(shipped(tmp_path)))
    rows = [line for line in page.splitlines() if line.startswith("| [")]
    assert [row.split("(")[0] for row in rows] == ["| [a]", "| [b]"]
    assert rows[0].split("|")[2:] == rows[1].split("|")[2:]
    assert "vts: procedural textures (stratified, veined, matted, dotted)" in rows[0]
    assert all(f" {part} |" in rows[0] for part in ("8", "960", "e9d9add", "test macro F1"))
    assert re.search(r"^  moco_rises +contradicted +contradicted$", page, re.MULTILINE)
    assert "Nothing has been contributed yet" in contributed_page([])
