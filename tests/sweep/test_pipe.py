"""The reader of the output may leave early, as `head` does: the sweep ends quietly, and keeps its records."""

import os
import subprocess
import sys

import pytest

from analysis.records.io import read_records
from sweep.signals import StopRequest
from sweep.storage.run_dir import RunDir
from sweep.tune.console import Console
from tests.helpers.command import ROOT


def left_after(text, *words):
    """Exit code and standard error of a sweep whose reader leaves after a line with `text`."""
    command = [sys.executable, "-m", "sweep.run", *map(str, words)]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        line = process.stdout.readline()
        while text not in line:
            assert line
            line = process.stdout.readline()
        process.stdout.close()
        return process.wait(timeout=120), process.stderr.read()


@pytest.mark.slow
def test_a_reader_that_leaves_stops_the_sweep_politely(tmp_path):
    folder = tmp_path / "out"
    words = (
        "vts-smoke",
        "--out",
        folder,
        "--no-report",
        "--seeds",
        *range(9),
        "--workers",
        1,
        "--engine.deterministic",
    )
    assert left_after("test F1", *words) == (141, "")
    assert 1 <= len(read_records(folder)) < 55
    assert not RunDir(folder).driver.exists()
    assert "the output is no longer read" in RunDir(folder).log.read_text()


def test_the_terminal_says_no_more_than_that_nobody_reads(monkeypatch, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        console = Console()
        assert not console.unread
        console.print("one")
        assert console.unread
        console.print("two")
        console.close()
    stop = StopRequest(RunDir(tmp_path))
    stop.ask(13)
    assert stop.code == 141


@pytest.mark.parametrize("words", [["--help"], ["vts-quick", "--dry-run"]])
def test_a_reader_that_was_never_there(words):
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "sweep.run", *words], cwd=ROOT, stdout=gone, stderr=subprocess.PIPE, text=True
        )
    assert done.stderr == ""
    assert done.returncode == 141
