"""MLflow gets what it missed during an outage: later, at the end, or by `python -m sweep.sync`; nothing twice."""

import shutil
import subprocess
import sys
import warnings
from collections import OrderedDict
from dataclasses import replace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.tracking._tracking_service import utils

from analysis.records.io import compact, write_curves, write_record
from analysis.records.schema import empty_row
from sweep.prepare import claim
from sweep.presets import preset
from sweep.storage.run_dir import RunDir
from sweep.sync import main
from sweep.tracking import background as module
from sweep.tracking.background import BackgroundTracking
from sweep.tracking.client import KEY
from sweep.tracking.connection import connect
from tests.helpers.command import ROOT

SMOKE = preset("vts-smoke")
CELLS = SMOKE.cells()
POINTS = [("pretrain", step, "train_loss", 1.0 / step) for step in (1, 2, 3)]


def record(folder, cell, **changes):
    row = empty_row(("a",)) | cell.coordinates
    row |= {"key": cell.key, "status": "done", "version": "0", "started": "now", "task": "segmentation"}
    row |= {"test_f1_macro": 0.5, "test_miou": 0.5, "test_accuracy": 0.5, "test_f1_a": 0.5}
    write_curves(folder, cell.key, POINTS)
    write_record(folder, row | changes, ("a",))
    return row | changes


@pytest.fixture
def sweep(tmp_path):
    made = replace(SMOKE, out=tmp_path / "out")
    claim(RunDir(made.out), made, "data")
    return made


def children(uri):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SQLAlchemy, about MLflow's own tables
        client = MlflowClient(uri)
        found = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
        assert sum(KEY not in run.data.tags for run in found) <= 1
        return client, [run for run in found if KEY in run.data.tags]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
def test_sync_fills_what_is_missing_and_nothing_twice(sweep, capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    record(sweep.out, CELLS[0])
    record(sweep.out, CELLS[1], status="failed", error="no")
    uri = RunDir(sweep.out).mlflow_uri
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert main([str(sweep.out)]) == 0
        assert f"MLflow at {uri}: 2 of 2 recorded cells were missing and have been added" in capsys.readouterr().out
        record(sweep.out, CELLS[1])  # it was tried again
        record(sweep.out, CELLS[2])
        assert main([str(sweep.out)]) == 0
        assert "2 of 3 recorded cells were missing" in capsys.readouterr().out
        assert main([str(sweep.out)]) == 0
        assert "0 of 3 recorded cells were missing" in capsys.readouterr().out
        elsewhere = f"sqlite:///{tmp_path / 'elsewhere.db'}"
        assert main([str(sweep.out), "--to", elsewhere]) == 0
        assert "3 of 3 recorded cells were missing" in capsys.readouterr().out
        compact(sweep.out)
        shutil.rmtree(sweep.out / "records")  # as in a copy of the summary alone
        assert main([str(sweep.out), "--to", elsewhere]) == 0
        assert "0 of 3 recorded cells were missing" in capsys.readouterr().out
    for place in (uri, elsewhere):
        client, found = children(place)
        assert {run.data.tags[KEY] for run in found} == {cell.key for cell in CELLS[:3]}
        assert len(found) == 3
        assert {run.info.status for run in found} == {"FINISHED"}
        for run in found:
            history = client.get_metric_history(run.info.run_id, "pretrain/train_loss")
            assert [point.step for point in history] == [1, 2, 3]


@pytest.mark.filterwarnings("ignore")  # of SQLAlchemy: one that raises would break MLflow's tables for all tests
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "nowhere: there is no sweep.yaml"),
        (["out"], "no records in"),
        (["out", "--to", "http://me:hunter2@127.0.0.1:9"], "MLflow at http://127.0.0.1:9 cannot be used"),
        (["out", "--to", "postgresql+nowhere://me:hunter2@h/x"], "MLflow at postgresql+nowhere://h/x cannot be used"),
        (["out", "--to", "mssql+pyodbc:///?odbc_connect=PWD%3Dhunter2"], "MLflow at mssql+pyodbc:/// cannot be used"),
        (["out", "--to", "ftp://me:hunter2@h"], "MLflow at ftp://h cannot be used"),
        (["out", "--to", "./mlruns"], "MLflow at ./mlruns cannot be used"),
        (["out", "--to", "databricks://nobody"], "MLflow at databricks://nobody cannot be used"),
    ],
)
def test_a_mistake_is_one_line(sweep, tmp_path, words, message, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    if "--to" in words:
        record(sweep.out, CELLS[0])
    assert main([str(tmp_path / words[0]), *words[1:]]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "hunter2" not in error
    assert error.count("\n") == 1


@pytest.mark.filterwarnings("ignore")  # of SQLAlchemy, about MLflow's own tables
def test_a_folder_that_was_copied_or_moved_keeps_what_is_written_for_it(sweep, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    record(sweep.out, CELLS[0])
    RunDir(sweep.out).tables.write_text("before")
    # Within a process MLflow remembers where it wrote the files of a run.
    monkeypatch.setattr(utils, "_artifact_repos_cache", Forgetful())
    assert main([str(sweep.out)]) == 0
    copy = shutil.copytree(sweep.out, tmp_path / "a copy")
    RunDir(copy).tables.write_text("after")
    assert main([str(copy)]) == 0
    assert written(sweep.out) == ["before"]
    assert written(copy) == ["after"]
    moved = sweep.out.rename(tmp_path / "moved")
    RunDir(moved).tables.write_text("moved")
    assert main([str(moved)]) == 0
    assert not sweep.out.exists()
    assert written(moved) == ["moved"]
    client, found = children(RunDir(moved).mlflow_uri)
    parent = client.get_run(found[0].data.tags["mlflow.parentRunId"])
    assert parent.data.tags["folder"] == str(moved)
    assert {artifact.path for artifact in client.list_artifacts(parent.info.run_id)} >= {"tables.txt", "sweep.yaml"}


class Forgetful(OrderedDict):
    """A cache that holds nothing."""

    def __setitem__(self, key, value):
        """Forget it."""


def written(folder):
    return [path.read_text() for path in (folder / "mlartifacts").rglob("tables.txt")]


def test_the_command_line_itself(sweep):
    shutil.rmtree(sweep.out)
    done = subprocess.run(
        [sys.executable, "-m", "sweep.sync", str(sweep.out)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr.startswith("sweep.sync: ")


class Server:
    """MLflow's database behind a connection that can fail."""

    def __init__(self, uri, sweep):
        self._uri, self._sweep, self._tracking = uri, sweep, None
        self.away = False
        self.experiment, self.parent = "1", "p"

    def __getattr__(self, name):
        def call(*what):
            if self.away:
                raise MlflowException("gone")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._tracking = self._tracking or connect(self._uri, self._sweep, own=True)
                return getattr(self._tracking, name)(*what)

        return call


@pytest.fixture
def server(sweep, monkeypatch):
    made = Server(RunDir(sweep.out).mlflow_uri, sweep)
    monkeypatch.setattr(module, "connect", lambda uri, sweep, *, own, kind: made)
    return made


def finish(book, sweep, cell):
    book.start(cell)
    book.finish(cell, record(sweep.out, cell), POINTS)
    book.flush()


def test_a_server_that_was_away_catches_up_when_it_is_back(sweep, server):
    with BackgroundTracking(sweep, RunDir(sweep.out)) as book:
        finish(book, sweep, CELLS[0])
        server.away = True
        finish(book, sweep, CELLS[1])
        assert book.fault == "gone"
        server.away = False
        finish(book, sweep, CELLS[2])  # within the time in which it is left alone
        assert book.fault == "gone"
        book._quiet_until = 0.0
        finish(book, sweep, CELLS[3])
        assert book.fault is None
    found = children(server._uri)[1]
    assert {run.data.tags[KEY] for run in found if run.info.status == "FINISHED"} == {cell.key for cell in CELLS[:4]}
    assert len(found) == 4


def test_at_the_end_of_a_sweep_it_is_tried_once_more(sweep, server):
    with BackgroundTracking(sweep, RunDir(sweep.out)) as book:
        server.away = True
        finish(book, sweep, CELLS[0])
        book.fill_again()
        book.flush()
        assert book.fault == "gone"
        server.away = False
        book.fill_again()
        book.end(True, {}, [])
        assert book.fault is None
    assert len(children(server._uri)[1]) == 1
