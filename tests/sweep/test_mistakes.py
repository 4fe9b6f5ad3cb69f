"""Mistakes of users: one line with the problem and the valid values, exit code 2, and no data lost."""

import errno
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest

from sweep.cli import main, run_command
from sweep.config.yaml_io import to_yaml
from sweep.prepare import claim
from sweep.presets import preset
from sweep.storage.run_dir import RunDir
from tests.helpers.command import ROOT, call


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["vts-huge"],
            "unknown preset 'vts-huge': choose from vts-smoke, vts-quick, vts-standard, vts-losses, vts-gpu, vts-paper",
        ),
        (["--losses", "barlow"], "choose from moco, within_image, cross_image, rince"),
        (["--losses", "moco", "supcon"], "supcon: needs one class of each image, but vts has classes of pixels: leave"),
        (["--losses", "byol", "--vary", "rince.q", "0.1", "0.5"], "--vary rince.q: has no effect on byol"),
        (["--losses", "rince", "--rince.q", "0"], "--rince.q 0: should be greater than 0"),
        (["--losses", "rince", "--rince.lam", "2"], "--rince.lam 2: should be less than or equal to 1"),
        (["--losses", "byol", "--byol.momentum", "1"], "--byol.momentum 1: should be less than 1"),
        (["--losses", "pretrained"], "--losses pretrained: the baseline probes the weights of --encoder.weights; name"),
        (["--encoder.weights", "nowhere.pth"], "--encoder.weights nowhere.pth: no such file"),
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
        (
            ["vts-smoke", "--encoder.name", "vit_tiny_patch16_224"],
            "vit_tiny_patch16_224 is no ResNet; use --encoder.slim",
        ),
        (
            ["vts-smoke", "--encoder.name", "swin_tiny_patch4_window7_224", "--encoder.slim", "1"],
            "has stride 32 after 4 stages; use --encoder.output-stride 32",
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


VIT = ("--encoder.name", "test_vit", "--encoder.slim", 1, "--encoder.output-stride", 16)
MIXER = ("--encoder.name", "mixer_s32_224", "--encoder.slim", 1, "--encoder.output-stride", 32)


@pytest.mark.parametrize("how", [[], ["--dry-run"], ["--plan"]])
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--threads", 640), "--threads 640: a cell cannot use more than the "),
        (MIXER, "cannot encode 32-px images"),
        ((*VIT, "--encoder.weights", __file__), "is not a file of weights"),
        (("--losses", "imagenet", "--imagenet-weights", "nowhere.pth"), "nowhere.pth: no such file"),
        (("--textures", "folder"), "name the folder of the images with --data-root FOLDER"),
        (("--data.train", 100, "--probe.batch", 200), "--probe.batch 200 exceeds the 100 training scenes"),
        (("--dataset", "xbd"), "name the folder of the data with --data-root"),
        (("--dataset", "manifest", "--data", "nowhere.csv"), "nowhere.csv: cannot be read"),
    ],
)
def test_what_is_known_without_running_is_refused_before_ray_starts(words, message, how, tmp_path, monkeypatch):
    monkeypatch.setattr("sweep.cluster.session.ray_session", lambda *_, **__: pytest.fail("Ray was started"))
    done = call("vts-smoke", *words, *how, "--out", tmp_path / "out")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert message in done.stderr
    assert ("distinct cells" in done.stdout) == (how == ["--dry-run"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("how", [[], ["--dry-run"], ["--plan"]])
def test_a_folder_of_other_results_is_refused_before_ray_starts(how, tmp_path, monkeypatch):
    monkeypatch.setattr("sweep.cluster.session.ray_session", lambda *_, **__: pytest.fail("Ray was started"))
    (tmp_path / "sweep.yaml").write_text(to_yaml(preset("vts-quick")))
    done = call("vts-smoke", *how, "--out", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "holds records of another recipe" in done.stderr


@pytest.mark.parametrize("how", [[], ["--plan"]])
def test_a_folder_of_results_on_other_data_is_refused_before_ray_starts(how, tmp_path, monkeypatch):
    monkeypatch.setattr("sweep.cluster.session.ray_session", lambda *_, **__: pytest.fail("Ray was started"))
    (tmp_path / "data.txt").write_text("0123456789abcdef\n")
    done = call("vts-smoke", *how, "--out", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "holds records made on other data (fingerprint 0123456789abcdef" in done.stderr


AWAY = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"}
"""A server that does not answer; how often MLflow asks again is its own matter."""


def test_mlflow_that_does_not_answer_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("sweep.cluster.session.ray_session", lambda *_, **__: nullcontext())
    done = call("vts-smoke", "--out", tmp_path / "out", env=AWAY)
    assert done.returncode == 2
    assert "MLflow at http://127.0.0.1:9 cannot be used" in done.stderr
    assert done.stderr.count("\n") == 1


ONE_OF_MANY = pytest.mark.slow  # all import our packages in the same way


@pytest.mark.parametrize(
    "module",
    [
        *("sweep.run", "sweep.lr_search"),
        *(pytest.param(name, marks=ONE_OF_MANY) for name in ("sweep.status", "sweep.sync", "sweep.doctor")),
    ],
)
def test_folders_with_the_names_of_our_packages_change_nothing(module, tmp_path):
    for name in ("analysis", "datasets", "trainables"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('of another project')")
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_another_datasets_that_is_imported_already_is_named(tmp_path):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, "-c", "import datasets, sweep"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert f"'datasets' was imported before from {tmp_path / 'datasets'}, not from {ROOT}" in done.stderr


def test_the_first_line_comes_before_anything_slow(tmp_path):
    """A pipe shows it although nothing fills its buffer: the command is killed while the data are still loaded."""
    code = (
        "import os, sys; from sweep.cli import main; import sweep.driver as driver; "
        "driver.run_sweep = lambda *_, **__: os._exit(0); main(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "vts-smoke", "--out", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == f"vts-smoke in {tmp_path}: checking settings, folder and data ...\n"


def test_the_command_line_imports_nothing_slow():
    """What takes seconds on a busy machine is imported after the first line, and the package itself imports nothing."""
    slow = {"mlflow", "ray", "scipy", "skimage", "timm", "torch"}
    code = (
        "import sys, sweep; early = {'numpy', 'pydantic', 'tyro', 'yaml'} & sys.modules.keys(); "
        f"import sweep.cli; print(sorted({slow!r} & sys.modules.keys() | early))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize(
    ("error", "variables", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), {}, "free space"),
        (OSError(errno.EMFILE, "Too many open files"), {}, "ulimit -n"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/ray/x"), {"RAY_TMPDIR": "/a"}, "RAY_TMPDIR decides"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/ray/x"), {"TMPDIR": "/a"}, "RAY_TMPDIR decides"),
        (PermissionError(errno.EACCES, "Permission denied", "/a/x"), {"TMPDIR": "/a"}, "TMPDIR decides"),
        (PermissionError(errno.EACCES, "Permission denied", "/h/.ray/token"), {"HOME": "/h"}, ": HOME decides"),
        (PermissionError(errno.EACCES, "", "/a/h/.ray/x"), {"HOME": "/a/h", "TMPDIR": "/a"}, ": HOME decides"),
        (PermissionError(errno.EACCES, "Permission denied", "/h/.cache/x"), {"HOME": "/h"}, "XDG_CACHE_HOME decides"),
        (PermissionError(errno.EACCES, "Permission denied", "/h/results/x"), {"HOME": "/h"}, "/h/results/x"),
    ],
)
def test_an_error_of_the_system_says_what_helps(error, variables, words, monkeypatch, capsys):
    for name in ("RAY_TMPDIR", "TMPDIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def fail():
        raise error

    assert run_command("sweep.run", fail) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert ("free space" in said) == (error.errno == errno.ENOSPC)
    assert ("decides" in said) == ("decides" in words)
