import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from analysis.records.io import read_records, write_record
from analysis.records.merge import read_sweeps
from analysis.records.schema import columns_markdown
from analysis.stats.groups import group_statistics
from analysis.summary import main
from analysis.tables import render

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(one_seed, tmp_path):
    return shutil.copytree(one_seed, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def other(tmp_path, row, classes):
    place = tmp_path / "other"
    write_record(place, row(f1=0.7, data="ffff", source="photographs (bark)"), classes)
    return place


def test_compacts_and_prints(folder, capsys):
    assert main([str(folder), "--out", str(folder / "tables.txt")]) == 0
    text = render(read_records(folder))
    assert capsys.readouterr().out == text + "\n"
    assert (folder / "tables.txt").read_text(encoding="utf-8") == text + "\n"
    assert len(read_records(folder / "summary.parquet")) == 28
    assert main([str(folder / "summary.parquet")]) == 0
    assert capsys.readouterr().out == text + "\n"


def test_several_folders_are_joined_into_one_file(folder, other, tmp_path, capsys):
    out = tmp_path / "new" / "both.parquet"
    assert main([str(folder), "--out", str(out), str(other)]) == 0
    joined = read_sweeps([folder, other])
    pd.testing.assert_frame_equal(read_records(out), joined.records)
    assert capsys.readouterr().out == render(joined.records) + "\n"
    assert not (folder / "summary.parquet").exists()
    assert main([str(folder), str(other), "--out", str(out.with_suffix(".csv"))]) == 0
    assert len(pd.read_csv(out.with_suffix(".csv"))) == 29


def test_joining_again_and_again_changes_nothing(folder, other, tmp_path):
    first, second = tmp_path / "first.parquet", tmp_path / "second.parquet"
    assert main([str(folder), str(other), "--out", str(first)]) == 0
    assert main([str(first), str(folder), str(first), "--out", str(second)]) == 0
    assert first.read_bytes() == second.read_bytes()


def test_one_recipe_on_other_data_has_tables_of_its_own(tmp_path, row, classes, capsys):
    for data in ("aaaa", "bbbb"):
        write_record(tmp_path / data, row(data=data), classes)
    assert main([str(tmp_path / "aaaa"), str(tmp_path / "bbbb")]) == 0
    said = capsys.readouterr()
    titles = [line.split(":")[0] for line in said.out.split("\n") if "on test" in line]
    assert titles == ["vts, data aaaa", "vts, data bbbb"]
    assert "recorded on several sets of data" in said.err


def test_conflicts_are_said_on_stderr(tmp_path, row, classes, capsys):
    for name, f1 in (("first", 0.6), ("other", 0.99)):
        write_record(tmp_path / name, row(f1=f1), classes)
    assert main([str(tmp_path / "first"), str(tmp_path / "other")]) == 0
    said = capsys.readouterr()
    assert said.err.startswith("conflict: ")
    assert "0.99 in" in said.err
    assert "99.0" not in said.out


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_groups_are_written(folder, other, tmp_path, suffix):
    out = tmp_path / f"groups{suffix}"
    arguments = [str(folder), str(other), "--by", "objective", "nu", "--metric", "test_miou", "--out", str(out)]
    assert main(arguments) == 0
    expected = group_statistics(read_sweeps([folder, other]).records, ["objective", "nu"], metric="test_miou")
    found = (pd.read_parquet if suffix == ".parquet" else pd.read_csv)(out)
    assert list(found.columns) == list(expected.columns)
    for name in ("n", "missing", "estimate", "low", "std", "method"):
        assert found[name].tolist() == pytest.approx(expected[name].tolist(), nan_ok=True)


def test_groups_are_printed_and_nothing_is_written(folder, capsys):
    assert main([str(folder), "--by", "objective"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[:4] for line in out.splitlines() if "random" in line] == [["random", "1", "0", "0"]]
    assert not (folder / "summary.parquet").exists()


def test_the_schema_is_printed(capsys):
    assert main(["--schema"]) == 0
    assert capsys.readouterr().out == columns_markdown() + "\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no folder given"),
        (["--by", "objective", "{}"], "no folder given"),
        (["{}", "--by", "loss"], "no column 'loss'"),
        (["{}", "--metric", "test_miou"], "--metric needs --by"),
        (["{}", "--by", "rho", "--metric", "device"], "of numbers"),
        (["{}", "--out", "x.json"], "the name must end in one of .parquet, .csv, .txt"),
        (["{}", "--out", "{}/records/x.parquet"], "would be read as a record"),
        (["{}", "{}/absent"], "no records in"),
        (["{}/records/dataset=vts"], "no records in"),
    ],
)
def test_mistakes_are_one_line_and_code_2(tmp_path, row, classes, capsys, arguments, message):
    write_record(tmp_path, row(), classes)
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err
    assert not list(tmp_path.glob("*.parquet"))


def _run(*arguments, **options):
    command = [sys.executable, "-m", "analysis.summary", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=os.environ, text=True, check=False, **options)


def test_a_reader_that_has_seen_enough_is_no_error(folder):
    closed, end = os.pipe()
    os.close(closed)
    try:
        done = _run(folder, stdout=end, stderr=subprocess.PIPE)
    finally:
        os.close(end)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_an_output_that_takes_nothing_is_a_line(folder):
    with open("/dev/full", "w") as full:
        done = _run(folder, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_links_that_lead_round_are_a_line(tmp_path, capsys):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert main([str(tmp_path / "a"), "--out", str(tmp_path / "s.csv")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
