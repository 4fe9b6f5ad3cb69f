import os
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.records import read_records, write_record
from analysis.summary import main
from analysis.tables import render


@pytest.fixture
def folder(tmp_path, rows, classes):
    for each in rows:
        write_record(tmp_path, each, classes)
    return tmp_path


def test_compacts_and_prints(folder, capsys):
    assert main([str(folder), "--out", str(folder / "tables.txt")]) == 0
    text = render(read_records(folder))
    assert capsys.readouterr().out == text + "\n"
    assert (folder / "tables.txt").read_text(encoding="utf-8") == text + "\n"
    assert len(read_records(folder / "summary.parquet")) == 84
    assert main([str(folder / "summary.parquet")]) == 0
    assert capsys.readouterr().out == text + "\n"


def test_a_mistake_is_one_line_and_code_2(tmp_path):
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "analysis.summary", str(tmp_path / "absent")],
        cwd=root,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "no records in" in done.stderr
