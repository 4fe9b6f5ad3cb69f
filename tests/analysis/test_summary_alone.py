"""Every command takes a sweep's folder, one with `summary.parquet` alone (as those of docs/results), that file, and an
address, and says the same of each."""

import shutil

import pytest

from analysis import claims, compare, figures, summary
from analysis.publish import __main__ as publish
from analysis.records import remote
from analysis.records.io import compact, write_record
from analysis.report import __main__ as report
from tests.analysis.conftest import CLASSES, grid

COMMANDS = {
    "claims": (claims.main, ["--all"]),
    "compare": (lambda words: compare.main([words[0], *words]), ["--all"]),
    "figures": (figures.main, ["--only", "fig4", "--formats", "svg"]),
    "publish": (publish.main, ["--out", "published"]),
    "report": (report.main, ["--format", "md"]),
    "summary": (summary.main, []),
    "summary by": (summary.main, ["--by", "objective"]),
}
ADDRESS = "s3://bucket/sweep"
WRITTEN = ("sweep/figures/*", "sweep/report.md", "published/**/*")
"""What a command may write besides what was there."""


@pytest.fixture
def forms(tmp_path, monkeypatch):
    """A sweep in each form, in the folder in which the command is run: name -> what it is given."""
    for row in grid(1):
        if row["objective"] in ("moco", "random"):
            write_record(tmp_path / "records" / "sweep", row, CLASSES)
    for name in ("alone", "file", "copy"):
        (tmp_path / name / "sweep").mkdir(parents=True)
        shutil.copy(compact(tmp_path / "records" / "sweep"), tmp_path / name / "sweep")
    (tmp_path / "address").mkdir()
    monkeypatch.setattr(remote, "fetch", lambda uri: tmp_path / "copy" / "sweep")
    return {"records": "sweep", "alone": "sweep", "file": "sweep/summary.parquet", "address": ADDRESS}


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_says_the_same_of_each_form(forms, name, tmp_path, monkeypatch, capsys):
    main, words = COMMANDS[name]
    monkeypatch.setattr(publish, "DRAWN", ("fig4",))
    said = {}
    for form, given in forms.items():
        monkeypatch.chdir(tmp_path / form)
        assert main([given, *words]) == (2 if name == "compare" else 0)  # it cannot say: there is one seed
        captured = capsys.readouterr()
        paths = [path for pattern in WRITTEN for path in (tmp_path / form).glob(pattern) if path.is_file()]
        made = {path.relative_to(tmp_path / form): path.read_bytes() for path in paths}
        said[form] = (captured.out + captured.err).replace(given, "sweep"), made
    assert said["records"][0].strip()
    assert bool(said["records"][1]) == (name in ("figures", "publish", "report"))
    for form in ("alone", "file", "address"):
        assert said[form] == said["records"], form
