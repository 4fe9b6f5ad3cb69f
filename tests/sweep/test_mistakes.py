"""Mistakes of users: one line with the problem and the valid values, exit code 2, and no data lost."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from sweep.cli import main
from sweep.prepare import claim
from sweep.presets import preset
from sweep.storage.run_dir import RunDir
from tests.helpers.command import ROOT, call, run


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["vts-huge"], "unknown preset 'vts-huge': choose from vts-smoke, vts-quick, vts-gpu, vts-paper"),
        (["--losses", "byol"], "choose from moco, within_image, cross_image, random"),
        (["--dataset", "imagenet"], "unknown data set 'imagenet': choose from vts, xbd, cifar10, manifest, or name"),
        (["--dataset", "no_such:Images"], "no_such cannot be imported"),
        (["--sedes", "1"], "unknown flag --sedes: did you mean --seeds"),
        (["--rho", "1.5"], "--rho 1.5: should be less than or equal to 1"),
        (["--nu", "0.33"], "nu = 0.33 is not a multiple of 1/20"),
        (["--rho"], "--rho is empty"),
        (["--moco.lr", "fast"], "fast"),
        (["--plan", "--price", "0"], "--price 0: must be above 0 US dollars per hour"),
        (["vts-smoke", "--textures", "folder"], "--data-root"),
        (["vts-smoke", "--textures", "dtd", "--data-root", "nowhere"], "nowhere"),
        (["vts-smoke", "--config", "sweep.yaml"], "choose one"),
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["vts-smoke", "--encoder.name", "resnet81"], "resnet81"),
        (["vts-smoke", "extra"], "unexpected 'extra'"),
        ([""], "the preset: the value is empty (a shell variable that is not set?)"),
        (["vts-smoke", "--store", ""], "--store: the value is empty"),
        (["vts-smoke", "--out="], "--out: the value is empty"),
        (["--config", ""], "--config: the value is empty"),
        (["--config=", "--rho", "0"], "--config: the value is empty"),
        (["vts-smoke", "--data", "~no-such-user/x"], "no home folder ~no-such-user is known"),
        (["vts-smoke", "--encoder.slim", "0.001"], "--encoder.slim 0.001"),
        (["vts-smoke", "--encoder.name", "vit_tiny_patch16_224", "--encoder.slim", "1"], "models that are no ResNet"),
        (
            [
                "vts-smoke",
                "--encoder.name",
                "vit_tiny_patch16_224",
                "--encoder.slim",
                "1",
                "--encoder.output-stride",
                "32",
            ],
            "use a CNN",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words, message, tmp_path, capsys):
    place = [] if "--config" in words else ["--out", str(tmp_path / "out")]
    assert main([*words, *place, "--no-report"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_settings_of_a_copied_folder_do_not_lead_into_the_first_one(tmp_path, capsys):
    first = tmp_path / "first"
    claim(RunDir(first), replace(preset("vts-smoke"), out=first), "data")
    (first / "records").mkdir()
    assert main(["--config", str(first / "sweep.yaml"), "--dry-run"]) == 0
    copy = shutil.copytree(first, tmp_path / "copy")
    capsys.readouterr()
    assert main(["--config", str(copy / "sweep.yaml"), "--dry-run"]) == 2
    said = capsys.readouterr().err
    assert f"it says out: {first}" in said
    assert f"add --out {copy} to continue there" in said
    assert said.count("\n") == 1
    assert main(["--config", str(copy / "sweep.yaml"), "--dry-run", "--out", str(copy)]) == 0
    (copy / "records").rmdir()  # settings alone, such as those of published results
    assert main(["--config", str(copy / "sweep.yaml"), "--dry-run"]) == 0


def test_a_read_only_or_full_disk_is_one_line(tmp_path):
    (tmp_path / "out").write_text("not a folder")
    done = call("vts-smoke", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_wrong_datasets_package_is_named(tmp_path):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").write_text("")
    done = run(cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 2
    assert str(tmp_path / "datasets") in done.stderr
    assert "uninstall" in done.stderr
    assert done.stderr.count("\n") == 1


def test_more_threads_than_cores_are_refused(tmp_path):
    done = run("vts-smoke", "--out", tmp_path / "out", "--threads", 640)
    assert done.returncode == 2
    assert "--threads 640" in done.stderr
    assert done.stderr.count("\n") == 1


AWAY = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""A server that does not answer; how often MLflow asks again is its own matter."""


def test_mlflow_that_does_not_answer_is_one_line(tmp_path):
    done = run("vts-smoke", "--out", tmp_path / "out", env=AWAY)
    assert done.returncode == 2
    assert "MLflow at http://127.0.0.1:9 cannot be used" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("module", ["sweep.run", "sweep.status", "sweep.sync", "sweep.doctor", "sweep.lr_search"])
def test_another_package_of_the_name_datasets_is_refused(module, tmp_path):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"imported from {tmp_path / 'datasets'}, not from {ROOT}" in done.stderr
