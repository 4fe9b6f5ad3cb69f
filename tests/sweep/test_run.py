"""The command itself, end to end at toy size: Ray, records, MLflow, a second run, failures, mistakes."""

import json
import re
import warnings

import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient

from analysis.records.io import read_curves, read_records
from analysis.records.predictions import read_predictions
from analysis.records.studies import studies
from sweep.config.yaml_io import from_yaml
from sweep.presets import preset
from sweep.sync import sync
from tests.helpers.command import call, run

TIMES = ["seconds", "pretrain_seconds", "probe_seconds", "images_per_second", "started"]


def results(folder):
    return read_records(folder).drop(columns=TIMES)


def runs(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of SQLAlchemy, about MLflow's own tables
        client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        found = [run for e in client.search_experiments() for run in client.search_runs([e.experiment_id])]
    return client, found


def test_smoke_scores_tell_cells_apart(smoke):
    assert read_records(smoke[0]).test_f1_macro.nunique() == 7


def test_a_sweep_records_every_planned_cell_and_says_so(smoke):
    folder, done = smoke
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    assert "Trial" not in done.stdout  # Tune's own lines
    cells = preset("vts-smoke").cells()
    records = read_records(folder)
    assert set(records.key) == {cell.key for cell in cells}
    for cell in cells:
        assert f"{cell} " in done.stdout
    for place in ("records", "summary.parquet", "sweep.log", "mlflow ui --backend-store-uri sqlite:///"):
        assert place in done.stdout
    assert "macro F1 on test, %" in done.stdout
    assert pd.read_parquet(folder / "summary.parquet").shape[0] == len(cells)
    assert from_yaml(folder / "sweep.yaml").cells() == cells
    assert not list(folder.rglob(".*.part*"))


def test_records_carry_their_provenance_and_curves(smoke):
    records = read_records(smoke[0])
    assert set(json.loads(records.versions[0])) >= {"torch", "timm", "ray"}
    assert (records.threads == 1).all()
    assert (records.device == "cpu").all()
    assert set(zip(records.precision, records.layout, records.compile, strict=True)) == {
        ("fp32", "channels_last", "no")
    }
    assert records.data.nunique() == records["commit"].nunique() == 1
    assert records.recipe.unique().tolist() == [preset("vts-smoke").recipe.fingerprint]
    pretrained = records[records.objective != "random"]
    assert pretrained.pretrain_val_loss.notna().all()
    curves = read_curves(smoke[0])
    assert set(curves.key) == set(records.key)
    best = curves[curves.name == "val_loss"].groupby("key").value.min()
    assert (best[pretrained.key].to_numpy() == pretrained.pretrain_val_loss.to_numpy()).all()


def test_mlflow_has_a_parent_and_a_child_for_each_cell_with_curves_and_metrics(smoke):
    client, found = runs(smoke[0])
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    assert len(found) == 8
    assert {run.info.status for run in found} == {"FINISHED"}
    records = read_records(smoke[0]).set_index("key")
    for child in found:
        if child in parents:
            continue
        row = records.loc[child.data.tags["noisy_pairs.key"]]
        assert child.data.metrics["test_f1_macro"] == row.test_f1_macro
        assert child.data.params["objective"] == row.objective
        history = client.get_metric_history(child.info.run_id, "probe/val_f1_macro")
        assert [point.step for point in history] == [20, 40]
    names = {artifact.path for artifact in client.list_artifacts(parents[0].info.run_id)}
    assert names >= {"summary.parquet", "tables.txt", "sweep.yaml", "report.html", "figures"}
    figures = {artifact.path for artifact in client.list_artifacts(parents[0].info.run_id, "figures")}
    assert {"figures/vts-fig5.svg", "figures/vts-fig5.png", "figures/vts-predictions.png"} <= figures


def test_the_end_of_a_sweep_judges_draws_and_reports(smoke):
    folder, done = smoke
    assert re.search(r"the paper's claims: 0 supported, 0 contradicted, \d+ undecided", done.stdout)
    assert f"report    {folder / 'report.html'}" in done.stdout
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "vts-smoke" in page
    assert "One seed: there are no intervals" in page
    assert "None: every planned cell is done." in page
    keys = read_records(folder).key
    assert {path.stem for path in (folder / "predictions").iterdir()} == set(keys)
    assert len(read_predictions(folder, keys)) == 4 * len(keys)


def test_a_report_that_cannot_be_made_costs_nothing_that_is_recorded(smoke_copy):
    (smoke_copy / "report.html").unlink()
    (smoke_copy / "report.html").mkdir()
    done = call("vts-smoke", "--out", smoke_copy, "--workers", 2, report=True)
    assert done.returncode == 0
    assert "the report could not be written" in done.stdout
    assert "macro F1 on test, %" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_sweep_gives_the_same_bits_as_a_cell_without_ray(smoke):
    from datasets.vts.textures import load_textures
    from trainables.cell_job import CellJob
    from trainables.run_cell import run_cell

    cell = preset("vts-smoke").cells()[-1]
    recipe = preset("vts-smoke").recipe
    torch.set_num_threads(1)
    bank = load_textures(recipe.data, None)
    alone = run_cell(cell, CellJob(recipe=recipe, source=bank), torch.device("cpu"), report=lambda *point: None)
    row = read_records(smoke[0]).set_index("key").loc[cell.key]
    assert row.test_f1_macro == alone["test_f1_macro"]
    assert row.pretrain_loss == alone["pretrain_loss"]


@pytest.mark.usefixtures("torch_settings_stay")
def test_the_same_command_runs_only_what_is_missing_to_the_same_bits_and_duplicates_nothing(smoke_copy):
    folder = smoke_copy
    before = results(folder)
    again = call("vts-smoke", "--out", folder)
    assert again.returncode == 0
    assert "all 7 cells are recorded already; nothing to run" in again.stdout
    files = sorted((folder / "records").rglob("*.parquet"))
    files[0].unlink()
    files[1].write_bytes(files[1].read_bytes()[:100])
    third = call("--config", folder / "sweep.yaml", "--inline")  # Ray ran two at a time before
    assert third.returncode == 0, third.stderr
    assert f"{files[1]} cannot be read" in third.stdout
    assert "5 of 7 cells are recorded; running 2" in third.stdout
    pd.testing.assert_frame_equal(results(folder), before, check_exact=True)
    client, found = runs(folder)
    assert len(found) == 8
    for child in found:
        if "mlflow.parentRunId" in child.data.tags:
            history = client.get_metric_history(child.info.run_id, "probe/val_f1_macro")
            assert [point.step for point in history] == [20, 40]


def test_mlflow_is_filled_from_records_where_it_was_lost(smoke_copy):
    folder = smoke_copy
    (folder / "mlflow.db").unlink()
    assert call("vts-smoke", "--out", folder).returncode == 0
    client, found = runs(folder)
    assert len(found) == 8
    children = [run for run in found if "test_f1_macro" in run.data.metrics]
    assert len(children) == 7
    for child in children:
        assert not [name for name, value in child.data.metrics.items() if value != value]
        history = client.get_metric_history(child.info.run_id, "probe/val_f1_macro")
        assert [point.step for point in history] == [20, 40]


@pytest.mark.slow
def test_what_the_machine_does_best_is_measured_once_and_recorded(tmp_path):
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    words = ("vts-smoke", "--precision", "auto", "--losses", "moco", "--rho", 0)
    first = run(*words, "--out", tmp_path / "out", env=cache)
    assert first.returncode == 0, first.stderr
    chosen = next(line for line in first.stdout.splitlines() if line.startswith("engine: "))
    assert re.fullmatch(
        r"engine: (fp32|bf16), channels-last, 1 thread per cell, \d+ at a time: .* times the plain engine", chosen
    )
    row = read_records(tmp_path / "out").iloc[0]
    assert row.precision == chosen.removeprefix("engine: ")[:4]
    assert from_yaml(tmp_path / "out" / "sweep.yaml").engine.precision == row.precision
    assert "nothing to run" in run(*words, "--out", tmp_path / "out", env=cache).stdout
    assert from_yaml(tmp_path / "out" / "sweep.yaml").engine.settled
    again = run(*words, "--out", tmp_path / "again", env=cache)
    if "this choice is kept for later sweeps" in first.stdout:
        assert chosen in again.stdout  # to the digit: remembered
        assert "measuring which engine" not in again.stdout
    else:  # other programs had the cores
        assert "this choice is not kept for later sweeps: " in first.stdout
        assert "measuring which engine" in again.stdout
    other = "fp32" if row.precision == "bf16" else "bf16"
    refused = run(*words[:1], "--precision", other, "--out", tmp_path / "out", env=cache)
    assert refused.returncode == 2
    assert f"records made with precision {row.precision}, not {other}: choose another --out" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_diverging_cell_is_recorded_as_failed_and_not_tried_for_ever(tmp_path):
    words = ("vts-smoke", "--out", tmp_path / "out", "--losses", "moco", "random", "--rho", 0, "--moco.lr", "1e30")
    first = run(*words)
    assert first.returncode == 1
    assert "1 of 2 cells are missing" in first.stdout
    assert "the training loss became nan at step" in first.stdout
    assert "Traceback" not in first.stdout + first.stderr
    records = read_records(tmp_path / "out").set_index("objective")
    assert records.status.to_dict() == {"moco": "failed", "random": "done"}
    assert "became nan" in records.error["moco"]
    second = run(*words)
    assert second.returncode == 1
    assert "nothing to run" in second.stdout
    third = run(*words, "--rho", 0, 0.5, "--nu", 0.5, "--retry-failed")
    assert third.returncode == 1
    assert "running the 1 of 3 cells again that are recorded as failed" in third.stdout
    assert third.stdout.count("the training loss became nan") == 3  # as it fails, in the tables, and at the end
    assert third.stdout.count("not finished") == 1


def test_dry_run_counts_distinct_cells_and_writes_nothing(tmp_path):
    words = ("vts-paper", "--textures", "procedural", "--seeds", 0, "--dry-run", "--out", tmp_path / "out")
    done = call(*words, env={"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert done.returncode == 0, done.stderr
    assert "99 distinct cells; 21 of 120 combinations" in done.stdout
    assert len(done.stdout.splitlines()) == 100
    assert not list(tmp_path.iterdir())


def test_help_tells_presets_and_every_flag():
    done = run("--help")
    assert done.returncode == 0
    for name in (
        "vts-smoke",
        "vts-quick",
        "vts-gpu",
        "vts-paper",
        "--rho",
        "--moco.lr",
        "--data.size",
        "--probe.steps",
    ):
        assert name in done.stdout


def test_a_moved_folder_keeps_its_runs(smoke_copy, tmp_path):
    moved = smoke_copy.rename(tmp_path / "it's moved")
    done = call("vts-smoke", "--out", moved)
    assert done.returncode == 0, done.stderr
    assert len(runs(moved)[1]) == 8


def test_a_disk_that_fills_up_is_one_line_and_loses_nothing(smoke_copy):
    folder = smoke_copy
    (folder / "summary.parquet").unlink()
    (folder / "summary.parquet").mkdir()  # stands for a file that cannot be written, which root always can
    done = call("vts-smoke", "--out", folder)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "summary.parquet" in done.stderr
    assert len(read_records(folder)) == 7


@pytest.mark.usefixtures("torch_settings_stay")
def test_a_varied_setting_gives_the_scores_of_sweeps_at_each_of_its_values(smoke, tmp_path):
    vary = ("--vary", "pretrain.steps", 2, 4, "--losses", "moco", "random", "--out", tmp_path / "out")
    done = call("vts-smoke", "--inline", *vary)
    assert done.returncode == 0, done.stderr
    scores = read_records(smoke[0]).set_index("key")["test_f1_macro"]
    records = read_records(tmp_path / "out").set_index("key")
    shared = records.loc[records.index.isin(scores.index)]
    assert len(records) == 5
    assert len(shared) == 3  # moco after 4 steps, the preset's number, and the random encoder
    pd.testing.assert_series_equal(shared["test_f1_macro"], scores[shared.index])
    assert records.groupby("objective")["pretrain.steps"].agg(["min", "max"]).loc["moco"].tolist() == [2, 4]
    assert records.loc[records["objective"] == "random", "pretrain.steps"].isna().all()
    assert (records["base"] == preset("vts-smoke").recipe.fingerprint).all()
    assert {study.settings for study in studies(records.reset_index())} == {
        (("pretrain.steps", 2.0),),
        (("pretrain.steps", 4.0),),
    }
    again = call("vts-smoke", *vary)
    assert "all 5 cells are recorded already" in again.stdout
    assert sync(tmp_path / "out", None).endswith("0 of 5 recorded cells were missing and have been added")
