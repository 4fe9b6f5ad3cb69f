"""Runs in MLflow: found again by tags, and completed with the missed points."""

import warnings
from dataclasses import replace

import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from datasets.errors import InputError
from sweep.lr_search.optuna_searcher import open_database
from sweep.presets import preset
from sweep.storage.run_dir import RunDir, database_path
from sweep.tracking.client import KEY
from sweep.tracking.connection import connect

SMOKE = preset("vts-smoke")
ONE, TWO, THREE = SMOKE.cells()[:3]
POINTS = [("pretrain", step, "train_loss", float(step)) for step in (1, 2, 3, 4)]


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


@pytest.fixture
def tracking(uri):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SQLAlchemy, about MLflow's own tables
        yield connect(uri, SMOKE, own=True)


def runs(tracking, cell):
    return MlflowClient(tracking.uri).search_runs([tracking.experiment], f"tags.`{KEY}` = '{cell.key}'")


def test_points_that_were_missed_are_filled_in_and_none_is_there_twice(tracking, uri):
    tracking.curves(ONE, POINTS[:1])
    tracking.curves(ONE, POINTS[2:3])
    tracking.curves(ONE, POINTS)
    connect(uri, SMOKE, own=True).curves(ONE, POINTS)  # another driver
    (run,) = runs(tracking, ONE)
    history = MlflowClient(uri).get_metric_history(run.info.run_id, "pretrain/train_loss")
    assert sorted(point.step for point in history) == [1, 2, 3, 4]


def test_a_run_that_was_abandoned_is_not_finished_until_its_cell_is_recorded(tracking):
    tracking.start(TWO)
    tracking.abandon(TWO)
    tracking.finish(THREE, {"status": "done", "test_f1_macro": 0.5})
    assert tracking.ended() == {THREE.key: "done"}
    tracking.finish(TWO, {"status": "done", "test_f1_macro": 0.25})
    assert tracking.ended() == {TWO.key: "done", THREE.key: "done"}
    (run,) = runs(tracking, TWO)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test_f1_macro"] == 0.25


def test_more_parameters_than_mlflow_takes_at_once_are_all_logged(tracking):
    tracking.start(THREE)
    (run,) = runs(tracking, THREE)
    given = {f"part.setting{number}": number for number in range(250)}
    tracking._log(run.info.run_id, params=given)
    (run,) = runs(tracking, THREE)
    assert given.items() <= {name: int(value) for name, value in run.data.params.items() if name in given}.items()


def test_a_database_that_could_not_be_made_whole_is_none(tmp_path, monkeypatch):
    path = tmp_path / "mlflow.db"
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "search_experiments", full)
        with pytest.raises(InputError, match="disk is full"):
            connect(f"sqlite:///{path}", SMOKE, own=True)
    assert not path.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tracking = connect(f"sqlite:///{path}", SMOKE, own=True)
    tracking.finish(ONE, {"status": "done"})
    assert tracking.ended() == {ONE.key: "done"}


def full(*words, **settings):
    raise MlflowException("database or disk is full")


def test_an_experiment_that_was_deleted_on_mlflows_pages_is_used_again(tracking, uri):
    MlflowClient(uri).delete_experiment(tracking.experiment)
    again = connect(uri, SMOKE, own=True)
    again.start(ONE)
    assert again.experiment == tracking.experiment


@pytest.mark.filterwarnings("ignore")  # of SQLAlchemy, about MLflow's own tables
def test_the_database_lies_in_the_folder_whatever_its_name(tmp_path):
    name = "what? rho=1; 100%20 it's #é"
    run_dir = RunDir(tmp_path / name)
    run_dir.root.mkdir()
    assert database_path(run_dir.mlflow_uri) == run_dir.mlflow
    tracking = connect(run_dir.mlflow_uri, replace(SMOKE, out=run_dir.root), own=True)
    run_dir.tables.write_text("x")
    tracking.end(True, {}, [run_dir.tables])
    assert run_dir.mlflow.is_file()
    assert len(list(run_dir.root.rglob("tables.txt"))) == 2
    open_database(run_dir.optuna)
    assert run_dir.optuna.is_file()
    elsewhere = [path for path in tmp_path.rglob("*") if not path.is_relative_to(run_dir.root)]
    assert not [path for path in elsewhere if path.is_file()]  # MLflow makes an empty folder with the name as written
