"""`sweep.probe`: the encoders that a sweep has kept, probed again by cells with records of their own."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import safetensors.torch

from analysis.records.io import read_records
from analysis.records.merge import read_sweeps
from analysis.records.studies import studies
from sweep.config.kept import by_encoder
from sweep.probe import main
from sweep.storage.run_dir import RunDir
from tests.helpers import fake_s3
from tests.helpers.command import ROOT, call
from tests.helpers.shared import made_once
from tests.sweep.test_run import results
from trainables.cell import Cell
from trainables.cell_job import KeptEncoders

pytestmark = pytest.mark.usefixtures("torch_settings_stay")

CARRIED = ["feature_rank", "pretrain_val_loss", "pretrain_steps", "collapsed", "noisy_pairs", "weights"]


def probe(*words):
    return call(*words, program=main)


@pytest.fixture(scope="session")
def probed(smoke, tmp_path_factory):
    """A folder with all heads on the encoders of `smoke`, and the command that made it. Tests do not change it."""
    return made_once(tmp_path_factory, "probed", lambda folder: probe(smoke[0], "--inline", "--out", folder))


def scores(records):
    return records.set_index("key")[[*records.filter(regex="^(test|val)_"), *CARRIED]].sort_index()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_workers_whose_cells_take_equally_long_probe_all_cells_of_an_encoder_one_after_the_other(workers):
    kept = {recipe: KeptEncoders(folder=Path("encoders"), recipe="before", columns={}) for recipe in ("fcn", "knn")}
    cells = [Cell(objective="random", seed=seed, recipe=recipe) for recipe in kept for seed in range(6)]
    found = by_encoder(cells, kept, workers)
    assert set(found) == set(cells)
    assert len(found) == len(cells)
    for first in range(workers):
        encoders = [cell.seed for cell in found[first::workers]]
        assert len([*itertools.groupby(encoders)]) == len(set(encoders)) == 6 / workers
    assert by_encoder(cells, {}, workers) == cells


@pytest.mark.slow
def test_some_kept_encoders_are_probed_and_the_others_are_listed(smoke_copy):
    kept = read_records(smoke_copy).query("objective in ('random', 'moco') and rho == 0").set_index("key")
    for file in (smoke_copy / "encoders").iterdir():
        if file.stem not in kept.index:
            file.unlink()
    done = probe(smoke_copy, "--inline", "--head", "fcn", "knn")
    assert done.returncode == 1
    assert "10 of 14 cells are missing" in done.stdout
    assert done.stdout.count("has no encoder of its cell") == 10
    records = read_records(smoke_copy / "probe")
    assert records.groupby("probe.head").size().to_dict() == {"fcn": 2, "knn": 2}
    paper = records[records["probe.head"] == "fcn"]
    pd.testing.assert_frame_equal(scores(paper), scores(kept.reset_index()), check_exact=True)


@pytest.mark.slow
def test_the_papers_head_on_a_kept_encoder_has_the_bits_of_the_cell_that_kept_it(smoke, probed):
    folder, done = probed
    assert done.returncode == 0, done.stdout + done.stderr
    records = read_records(folder)
    assert len(records) == 21
    paper = records[records["probe.head"] == "fcn"]
    pd.testing.assert_frame_equal(scores(paper), scores(read_records(smoke[0])), check_exact=True)
    others = records[records["probe.head"] != "fcn"]
    assert not set(others.key) & set(paper.key)
    assert records.test_f1_macro.nunique() == 21
    for head in ("linear", "knn"):
        ranks = others[others["probe.head"] == head].feature_rank  # of the encoders, carried over
        assert sorted(ranks) == sorted(paper.feature_rank)


@pytest.mark.slow
def test_each_level_of_the_probe_is_a_study_with_its_own_table(probed):
    folder, done = probed
    found = studies(read_records(folder))
    assert [dict(study.settings)["probe.head"] for study in found] == ["fcn", "knn", "linear"]
    assert all(len(study.records) == 7 for study in found)
    text = " ".join(done.stdout.split())
    for head in ("fcn", "knn", "linear"):
        level = f"probe.head {head}, probe.labels 1, probe.split test, probe.finetune false"
        assert f"{level}: macro F1 on test, %" in text


@pytest.mark.slow
def test_a_sweep_and_the_probe_of_its_encoders_are_read_together_without_loss(smoke, probed):
    merged = read_sweeps([smoke[0], probed[0]])
    assert len(merged.records) == 28
    assert (merged.conflicts, merged.notes) == ((), ())
    found = studies(merged.records)
    assert [len(study.records) for study in found] == [7] * 4
    assert [study.recipe for study in found if not study.settings] == [found[1].recipe]


@pytest.mark.slow
def test_the_same_command_runs_only_what_is_missing_and_a_larger_one_adds_cells(smoke, probed, tmp_path):
    folder = shutil.copytree(probed[0], tmp_path / "probed")
    lost = read_records(folder).set_index("probe.head").loc["knn"].iloc[0]
    next(folder.rglob(f"*{lost.key}*.parquet")).unlink()
    words = (smoke[0], "--inline", "--out", folder)
    again = probe(*words, "--head", "knn")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "6 of 7 cells are recorded; running 1" in again.stdout
    pd.testing.assert_frame_equal(results(folder), results(probed[0]), check_exact=True)
    more = probe(*words, "--head", "knn", "--labels", 0.5, 1)
    assert "7 of 14 cells are recorded; running 7" in more.stdout
    assert len(read_records(folder)) == 28


@pytest.mark.slow
def test_few_labels_and_fine_tuning_and_cells_whose_encoder_was_not_kept(smoke_copy, tmp_path):
    keep = read_records(smoke_copy).set_index("objective").loc[["random", "moco"]].query("rho == 0").key
    for file in (smoke_copy / "encoders").iterdir():
        if file.stem not in set(keep):
            file.unlink()
    words = (smoke_copy, "--inline", "--labels", 0.25, "--finetune", "--split", "ood", "--out", tmp_path / "out")
    done = probe(*words)
    assert done.returncode == 1
    assert "25 of 35 cells are missing" in done.stdout
    assert done.stdout.count("has no encoder of its cell") == 25
    records = read_records(tmp_path / "out")
    assert records.groupby("probe.head").size().to_dict() == {"fcn": 4, "knn": 2, "linear": 4}
    assert set(records.query("`probe.head` == 'knn'")["probe.finetune"]) == {"false"}
    assert records.test_f1_macro.nunique() == 10
    assert set(records["probe.labels"]) == {0.25}
    nothing = probe(*words)
    assert (nothing.returncode, "10 cells are recorded already; nothing to run" in nothing.stdout) == (1, True)


@pytest.mark.slow
def test_workers_of_ray_record_the_same_bits(smoke, probed, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "sweep.probe", str(smoke[0]), "--out", str(tmp_path / "out"), "--no-report"],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (done.returncode, done.stderr) == (0, "")
    pd.testing.assert_frame_equal(results(tmp_path / "out"), results(probed[0]), check_exact=True)


@pytest.mark.slow
def test_an_address_is_probed_as_its_folder(smoke, probed):
    with fake_s3.serving():
        for path in filter(Path.is_file, smoke[0].rglob("*")):
            name = f"smoke/{path.relative_to(smoke[0]).as_posix()}"
            fake_s3.client().upload_file(str(path), fake_s3.BUCKET, name)
        address = f"s3://{fake_s3.BUCKET}/smoke"
        done = probe(address, "--inline", "--head", "knn")
        assert done.returncode == 0, done.stdout + done.stderr
        found = read_records(f"{address}/probe")
    known = read_records(probed[0]).query("`probe.head` == 'knn'")
    pd.testing.assert_frame_equal(scores(found), scores(known), check_exact=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "name the folder of a sweep with kept encoders: python -m sweep.probe DIR"),
        (("nowhere",), "nowhere is not the folder of a sweep: it has no sweep.yaml"),
        (("{smoke}", "--head", "mlp"), "--head mlp: choose from fcn, linear, knn"),
        (("{smoke}", "--heads", "knn"), "unknown flag --heads: did you mean --head"),
        (("{smoke}", "--labels", "0"), "--labels 0.0: "),
        (("{smoke}", "--labels"), "--labels: give a value"),
        (("{smoke}", "more"), "unexpected 'more': the folder comes first"),
        (("{smoke}", "--vary", "moco.lr", "1"), "--vary moco.lr: kept encoders can only be probed; name a setting"),
        (("{smoke}", "--vary", "probe.head", "fcn"), "--head: the setting is given twice"),
        (("{smoke}", "--labels", ".01"), "probe.labels 0.01: 0 of 32 training images, of seed 0; use a larger share"),
        (("{smoke}", "--labels", ".01", "--dry-run"), "probe.labels 0.01: 0 of 32 training images"),
        (("{smoke}", "--split", "val"), "--split val: choose from test, ood"),
        (("s3:/bucket/name",), "s3:/bucket/name: two slashes come after the colon"),
        (("{smoke}", "--out", "{smoke}"), "holds records of a sweep that varies no setting"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(smoke, tmp_path, words, said):
    before = sorted(smoke[0].rglob("*"))
    done = probe(*(word.format(smoke=smoke[0]) for word in words), "--inline")
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith("sweep.probe: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr
    assert sorted(smoke[0].rglob("*")) == before


def test_a_folder_without_kept_encoders_or_with_those_of_others_is_refused(smoke_copy):
    folder = smoke_copy / "encoders"
    files = sorted(folder.iterdir())

    def refusal():
        done = probe(smoke_copy, "--inline")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert not (smoke_copy / "probe").exists()
        return done.stderr

    (smoke_copy / "data.txt").write_text("0123456789abcdef\n")
    assert "were pretrained on other data (fingerprint 0123456789abcdef, not " in refusal()
    weights = safetensors.torch.load_file(files[0])
    safetensors.torch.save_file(weights, files[0], {"encoder": "{}"})
    assert f"{files[0]}: was kept by a sweep with other encoder settings" in refusal()
    files[0].write_bytes(b"damaged")
    assert f"{files[0]}: is not a kept encoder" in refusal()
    for number, file in enumerate(files):
        file.rename(folder / f"{number:016x}.safetensors")
    assert "encoders of another recipe: none of its 7 files belongs to a recorded cell" in refusal()
    for file in folder.iterdir():
        file.unlink()
    assert "has no kept encoders: run its sweep with --keep encoders" in refusal()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("encoders: null", "encoders: /some/where", "probes the encoders of /some/where: name that folder"),
        (
            "vary: []",
            "vary: [[probe.lr, 0.1, 0.2]]",
            "varies probe.lr, so its encoders were probed with several settings",
        ),
    ],
)
def test_a_probe_of_a_probe_or_of_a_sweep_that_varies_the_probe_is_refused(smoke, tmp_path, before, after, said):
    text = RunDir(smoke[0]).config.read_text()
    assert before in text
    (tmp_path / "sweep.yaml").write_text(text.replace(before, after))
    assert said in probe(tmp_path).stderr
