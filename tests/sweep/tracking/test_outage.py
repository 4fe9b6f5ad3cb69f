"""A real MLflow server is killed during a sweep: the sweep continues, and MLflow ends with each cell once."""

import subprocess
import sys
import warnings

import pytest
from mlflow.tracking import MlflowClient

from analysis.records.io import read_curves, recorded_keys
from sweep.storage.run_dir import RunDir
from sweep.tracking.client import KEY
from tests.helpers.command import ROOT, begun, read_until
from tests.helpers.server import answers, free_port, kill, serving

pytestmark = pytest.mark.slow

WORDS = ("vts-smoke", "--workers", 1, "--losses", "moco", "--rho", 0, 1, "--engine.deterministic")


def cells(uri):
    """The runs of cells in the MLflow at `uri`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SQLAlchemy, about MLflow's own tables
        client = MlflowClient(uri)
        found = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
    assert sum(KEY not in run.data.tags for run in found) == 1
    return client, [run for run in found if KEY in run.data.tags]


def complete_and_once(folder, uri):
    recorded = recorded_keys(folder).status
    client, found = cells(uri)
    assert sorted(run.data.tags[KEY] for run in found) == sorted(recorded)
    assert {run.info.status for run in found} == {"FINISHED"}
    curves = read_curves(folder)
    for run in found:
        points = curves[
            (curves.key == run.data.tags[KEY]) & (curves.stage == "pretrain") & (curves.name == "train_loss")
        ]
        history = client.get_metric_history(run.info.run_id, "pretrain/train_loss")
        # MLflow orders points by time, and those that were missed are written later.
        assert sorted(point.step for point in history) == points.step.tolist()


def test_killed_and_started_again_it_ends_with_every_cell_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    port, folder = free_port(), tmp_path / "out"
    uri = f"http://127.0.0.1:{port}"
    with serving(tmp_path, port) as first:
        assert [answers(uri, host) for host in (f"127.0.0.1:{port}", "localhost:5000")] == [200, 200]
        assert [answers(uri, host) for host in ("evil.example", "10.0.0.7:5000")] == [403, 403]
        words = (*WORDS, "--seeds", *range(6), "--out", folder, "--pretrain.steps", 250)
        with begun(*words, env={"MLFLOW_TRACKING_URI": uri}) as process:
            read_until(process, "test F1")
            kill(first)
            seen = read_until(process, "test F1")
            with serving(tmp_path, port):
                assert process.poll() is None, "it was over too soon to be disturbed"
                seen += process.stdout.read()
                assert process.wait(timeout=60) == 0, seen
                assert "MLflow could not be written" in RunDir(folder).log.read_text()
                assert "MLflow could not be written" not in seen
                assert len(recorded_keys(folder).status) == 12
                complete_and_once(folder, uri)


def test_where_it_stays_away_records_are_complete_and_fill_it_later(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    port, folder = free_port(), tmp_path / "out"
    uri = f"http://127.0.0.1:{port}"
    with serving(tmp_path, port) as server:
        with begun(*WORDS, "--seeds", 0, 1, "--out", folder, env={"MLFLOW_TRACKING_URI": uri}) as process:
            read_until(process, "test F1")
            kill(server)
            seen = process.stdout.read()
            assert process.wait(timeout=60) == 0, seen
        assert "MLflow could not be written" in seen
        assert "sweep.sync" in seen
        assert set(recorded_keys(folder).status.values()) == {"done"}
        assert len(recorded_keys(folder).status) == 4
    with serving(tmp_path, port):
        command = [sys.executable, "-m", "sweep.sync", str(folder), "--to", uri]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        complete_and_once(folder, uri)
        again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert "0 of 4 recorded cells were missing" in again.stdout
