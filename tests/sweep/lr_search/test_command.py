"""The search for learning rates and the plan as a user runs them, end to end at toy size."""

import json
import os
import subprocess
import sys
import warnings

import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from analysis.records.io import read_records
from sweep.config.yaml_io import from_yaml
from sweep.lr_search import __main__
from sweep.presets import preset
from tests.helpers.command import ROOT, call, run

TIMES = ["seconds", "pretrain_seconds", "probe_seconds", "images_per_second", "started"]


def search(*words):
    return subprocess.run(
        [sys.executable, "-m", "sweep.lr_search", *map(str, words)],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lr") / "out"
    return folder, search("vts-smoke", "--losses", "moco", "--rates", 0.01, 0.1, "--seeds", 100, "--out", folder)


def test_a_search_chooses_by_validation_and_writes_a_sweep_with_it(found):
    folder, done = found
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    table = pd.read_parquet(folder / "rates.parquet")
    assert table["rate"].dropna().tolist() == [0.01, 0.1]
    best = float(table.loc[table[table["objective"] == "moco"]["score"].idxmax(), "rate"])
    chosen = from_yaml(folder / "chosen.yaml")
    assert chosen.recipe.moco.lr == best
    assert chosen.cells()[0].objective == preset("vts-smoke").cells()[0].objective
    assert len(chosen.cells()) == len(preset("vts-smoke").cells())
    assert chosen.recipe.dense == preset("vts-smoke").recipe.dense
    assert f"chosen    moco {best:g}" in done.stdout
    assert "test F1" not in done.stdout
    assert {path.name for path in (folder / "figures").iterdir()} == {"rates.png", "rates.svg"}


def test_each_rate_has_an_ordinary_record_of_its_recipe(found):
    records = read_records(found[0])
    moco = records[records["objective"] == "moco"]
    recipes = {path.stem: from_yaml(path).recipe for path in (found[0] / "recipes").iterdir()}
    assert {recipes[name].moco.lr for name in moco["recipe"]} == {0.01, 0.1}
    assert set(records["seed"]) == {100}
    assert (records["rho"] == 0).all()


def test_mlflow_has_a_parent_of_the_search_and_the_rate_of_each_cell(found):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SQLAlchemy warns about the tables of MLflow
        client = MlflowClient(f"sqlite:///{found[0] / 'mlflow.db'}")
        runs = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
    parents = [run for run in runs if run.data.tags["kind"] == "lr_search"]
    assert len(parents) == 1
    assert parents[0].data.metrics["chosen_lr_moco"] in (0.01, 0.1)
    assert sorted(run.data.metrics["lr"] for run in runs if "lr" in run.data.metrics) == [0.01, 0.1]


@pytest.mark.slow  # as in the test of a sweep
def test_what_is_missing_is_run_again_to_the_same_bits_and_no_more(found):
    folder, _ = found
    before = read_records(folder).set_index("key").drop(columns=TIMES)
    lost = next((folder / "records").rglob("objective=moco/*.parquet"))
    lost.unlink()
    again = search("vts-smoke", "--losses", "moco", "--rates", 0.01, 0.1, "--seeds", 100, "--out", folder)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("validation F1  ") == 1
    pd.testing.assert_frame_equal(read_records(folder).set_index("key").drop(columns=TIMES), before)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["vts-smok"], "unknown preset"),
        (["vts-smoke", "--rates", "-1"], "--rates -1: should be greater than 0"),
        (["vts-smoke", "--rate", "1"], "did you mean --rates"),
        (["vts-smoke", "--sampler", "random"], "choose from"),
        (["vts-smoke", "--losses", "random"], "none of these has a learning rate"),
        (["vts-smoke", "--out", "s3://bucket/name"], "give --out FOLDER"),
    ],
)
def test_a_mistake_is_one_line(capsys, words, said):
    assert __main__.main(words) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    assert error.startswith("sweep.lr_search: ")
    assert said in error


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A plan, and the arguments of its sweep."""
    folder = tmp_path_factory.mktemp("plan") / "out"
    words = ("vts-smoke", "--losses", "moco", "random", "--rho", 0, "--out", folder)
    plan = run(*words, "--plan", "--price", 2)
    there = sorted(path.name for path in folder.rglob("*"))
    return folder, plan, there, words


@pytest.mark.slow
def test_a_plan_runs_nothing_and_writes_its_file_alone(planned):
    _, plan, there, _ = planned
    assert plan.returncode == 0, plan.stderr
    assert plan.stderr == ""
    assert there == ["plan.json"]
    for words in ("2 cells: 0 recorded, 2 to run", "core hours", "Wall time", "at 2 USD", "MB on the disk"):
        assert words in plan.stdout


@pytest.mark.slow
def test_the_sweep_says_how_far_the_plan_was_off_and_keeps_it(planned):
    folder, _, _, words = planned
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert "until the last cell: forecast" in done.stdout
    outcome = json.loads((folder / "plan.json").read_text())["outcome"]
    records = read_records(folder)
    moco = records[records["objective"] == "moco"]
    assert outcome["losses"]["moco"]["took"] == pytest.approx(moco["seconds"].mean(), abs=0.01)
    assert outcome["whole"]["error"] == pytest.approx(
        outcome["whole"]["forecast"] / outcome["whole"]["took"] - 1, abs=1e-3
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        runs = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
    parent = next(run for run in runs if run.data.tags["kind"] == "sweep")
    assert parent.data.metrics["forecast_error"] == outcome["whole"]["error"]


def test_a_price_without_a_plan_is_refused():
    done = call("vts-smoke", "--price", 2)
    assert done.returncode == 2
    assert done.stderr.strip() == ("sweep.run: --price is for --plan: add --plan, or leave --price out")
