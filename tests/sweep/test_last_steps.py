"""After the last cell: whatever fails is named, and everything else is still printed and written."""

import logging
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from analysis.records.io import write_record
from analysis.records.schema import empty_row
from datasets.errors import InputError
from sweep import logs, summarize
from sweep.planning import adaptive_seeds
from sweep.prepare import claim
from sweep.presets import preset
from sweep.storage.object_store import StoreError
from sweep.storage.run_dir import RunDir
from sweep.summarize import print_mlflow
from sweep.tune.outcome import Outcome

CELLS = preset("vts-smoke").cells()


@pytest.fixture
def sweep(tmp_path):
    made = replace(preset("vts-smoke"), out=tmp_path / "out", report=True)
    claim(RunDir(made.out), made, "data")
    for cell, status in zip(CELLS[:3], ("done", "done", "failed"), strict=True):
        row = empty_row(("a",)) | cell.coordinates
        row |= {"key": cell.key, "status": status, "version": "0", "started": "now", "task": "segmentation"}
        row |= {"test_f1_macro": 0.5, "test_miou": 0.5, "test_accuracy": 0.5, "test_f1_a": 0.5, "error": "diverged"}
        write_record(made.out, row, ("a",))
    return made


class Book:
    """Stands for MLflow."""

    uri, runs, fault = "sqlite:////x/mlflow.db", "#/runs", None

    def __init__(self):
        self.ended = []

    def fill_again(self):
        """Nothing is missing."""

    def end(self, complete, metrics, artifacts):
        self.ended.append((complete, metrics, [path.name for path in artifacts]))


NEEDED = ["compact", "tables.render", "RunDir.send"]
OTHERS = ["_write_report", "parent_metrics", "recorded_errors", "RunDir.cells_with_checkpoints", "final_lines"]


@pytest.mark.parametrize("step", [*NEEDED, *OTHERS])
@pytest.mark.parametrize("error", [OSError(28, "No space left"), ValueError("http://me:hunter2@h"), StoreError("away")])
def test_a_step_that_fails_is_named_and_hides_nothing_else(sweep, step, error, monkeypatch, capsys):
    def fail(*words, **more):
        raise error

    monkeypatch.setattr(f"sweep.summarize.{step}", fail)
    book, refused = Book(), ""
    try:
        quick = replace(sweep, report=step == "_write_report")
        assert len(summarize.summarize(quick, Outcome(), sweep.run_dir, book)) == 5
        assert step in OTHERS
    except InputError as found:
        refused = str(found)
        assert step in NEEDED
        assert "run the same command again; no record is lost" in refused
    said = capsys.readouterr().out
    (reason,) = [line for line in [*said.splitlines(), refused] if str(error).replace("me:hunter2@", "") in line]
    assert "hunter2" not in reason
    places = ("records  ", "logs  ", "MLflow  ", f"\n  {CELLS[2]}: ", f"\n  {CELLS[3]}: ", "5 of 7 cells are missing")
    assert [place for place in places if place not in said] == []
    assert ("macro F1 on test" in said) == (step != "tables.render")
    ((complete, _, names),) = book.ended
    assert not complete
    assert {"sweep.yaml"} <= set(names)


def test_a_report_whose_modules_cannot_be_imported_costs_nothing_else(sweep, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "analysis.figures", None)
    assert len(summarize.summarize(sweep, Outcome(), sweep.run_dir, Book())) == 5
    said = capsys.readouterr().out
    assert "the report could not be written: " in said
    assert "MLflow  " in said


def test_what_fails_where_records_could_not_be_written_is_said_too(sweep, monkeypatch, capsys):
    monkeypatch.setattr("sweep.summarize.compact", lambda folder: Path(folder, "no such folder", "x").touch())
    outcome = Outcome(unwritable="the disk is full")  # of which the driver speaks
    assert len(summarize.summarize(replace(sweep, report=False), outcome, sweep.run_dir, Book())) == 5
    assert "the summary could not be written: [Errno 2]" in capsys.readouterr().out


def test_seeds_that_cannot_be_added_end_the_sweep_and_keep_its_outcome(sweep):
    def fail(larger):
        raise StoreError("s3://b/n cannot be written: the server does not answer")

    grown = replace(sweep, until="halfwidth(against_clean) < 0.01", seeds=(0, 1), max_seeds=3)
    found, outcome = adaptive_seeds.run_adaptively(
        grown, CELLS, lambda sweep, cells: Outcome(failures={"a": "b"}), fail
    )
    assert found == grown
    assert outcome.failures == {"a": "b"}
    assert "the server does not answer" in outcome.unwritable


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://me:hunter2@host:5000/", "MLflow    http://host:5000/#/runs\n"),
        ("https://host/mlflow", "MLflow    https://host/mlflow/#/runs\n"),
        (
            "sqlite:////a b/mlflow.db",
            " --backend-store-uri 'sqlite:////a b/mlflow.db'\n          then http://127.0.0.1:5000/#/runs\n",
        ),
        (
            "postgresql://me:hunter2@h/x",
            ' --backend-store-uri "$MLFLOW_TRACKING_URI"\n          then http://127.0.0.1:5000/#/runs\n',
        ),
    ],
)
def test_mlflows_page_is_that_of_its_server_or_of_one_to_start(uri, shown, capsys):
    print_mlflow(SimpleNamespace(uri=uri, runs="#/runs"))
    said = capsys.readouterr().out
    assert said.endswith(shown)
    assert "hunter2" not in said
    assert ("mlflow ui" in said) == (not uri.startswith("http"))


def test_the_log_holds_no_password(tmp_path):
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        logs.to_file(tmp_path / "sweep.log")
        try:
            raise ConnectionError("no answer from http://me:hunter2@host")
        except ConnectionError:
            logging.getLogger("library").exception("url: %s", "postgresql://me:hunter2@host/x")
    finally:
        for handler in set(root.handlers) - set(before):
            root.removeHandler(handler)
            handler.close()
        root.setLevel(level)
    text = (tmp_path / "sweep.log").read_text()
    assert "url: postgresql://host/x" in text
    assert "ConnectionError: no answer from http://host" in text
    assert "hunter2" not in text
