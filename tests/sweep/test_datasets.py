"""Whole sweeps on real pairs and on CIFAR-10's format, at toy size, and what is refused before anything is run."""

import pickle

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from analysis.records.io import read_records
from datasets.cifar10.files import CHECKSUMS
from sweep.cli import main
from tests.helpers.command import run

SMALL = (
    *("--pretrain.steps", 2, "--pretrain.batch", 4, "--pretrain.warmup", 0, "--pretrain.evaluations", 1),
    *("--probe.steps", 2, "--probe.batch", 4, "--probe.evaluations", 1, "--moco.queue", 16),
    *("--precision", "fp32", "--engine.layout", "channels_last", "--engine.compile", "no", "--threads", 1),
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Twelve pairs of 64 px, four tiles each; in half of them a bright square has gone in the partner."""
    root = tmp_path_factory.mktemp("mine")
    random = np.random.default_rng(0)
    lines = ["image,partner,split,mask,partner_mask,noisy"]
    for number in range(12):
        pixels = random.integers(0, 100, (2, 64, 64, 3), dtype=np.uint8)
        masks = np.zeros((2, 64, 64), np.uint8)
        pixels[0, 8:24, 8:24], masks[0, 8:24, 8:24] = 255, 1
        if noisy := number % 2:
            masks[1, 8:24, 8:24] = 2
        else:
            pixels[1, 8:24, 8:24], masks[1, 8:24, 8:24] = 255, 1
        names = [f"{number}-{what}.png" for what in ("before", "after", "before-mask", "after-mask")]
        for name, array in zip(names, (*pixels, *masks), strict=True):
            Image.fromarray(array).save(root / name)
        split = "train" if number < 6 else "val" if number < 9 else "test"
        lines.append(",".join((names[0], names[1], split, names[2], names[3], str(noisy))))
    (root / "pairs.csv").write_text("\n".join(lines) + "\n")
    return root / "pairs.csv"


@pytest.mark.slow
def test_a_manifest_runs_from_its_rows_to_its_tables_and_goes_on_in_its_folder(manifest, tmp_path):
    torch.manual_seed(0)
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "weights.pth")
    words = ("manifest", "--data", manifest, "--store", tmp_path / "store", "--out", tmp_path / "out", *SMALL)
    words += ("--data.size", 32, "--encoder.slim", 1, "--encoder.output-stride", 32, "--rho", 0, 1)
    words += ("--imagenet-weights", tmp_path / "weights.pth")
    losses = ("--losses", "moco", "cross_image", "random", "imagenet", "supervised")
    done = run(*words, *losses)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pairs.csv (12 pairs, 48 tiles of 32 px)" in done.stdout
    records = read_records(tmp_path / "out").set_index(["objective", "rho", "pairing"])
    assert len(records) == 2 * 3 + 3
    assert set(records.dataset) == {"manifest"}
    assert (records.nu == 0).all()
    assert records.loc[("moco", 1.0, "noisy"), "noisy_pairs"] == 1
    assert records.loc[("moco", 0.0, "none"), "noisy_pairs"] == 0
    assert records.loc[("imagenet", 0.0, "none"), "weights"].startswith("weights.pth ")
    assert records.weights.notna().sum() == 1
    assert records["test_f1_class_2"].notna().all()
    assert "Noisy minus exposure" in done.stdout
    again = run(*words, *losses)
    assert "nothing is run" in again.stdout, again.stdout + again.stderr
    torch.save(timm.create_model("resnet18").state_dict(), tmp_path / "weights.pth")
    other = run(*words, *losses, "--seeds", 1)
    assert other.returncode == 2
    assert "made with other ImageNet weights" in other.stderr


@pytest.mark.slow
def test_cifars_format_runs_and_is_scored_by_accuracy(tmp_path):
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for number, name in enumerate(CHECKSUMS):
        pixels = np.random.default_rng(number).integers(0, 256, (20, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [k % 10 for k in range(20)]}))
    words = ("cifar-quick", "--data-root", tmp_path / "data", "--out", tmp_path / "out", *SMALL, "--rho", 0, 1)
    refused = run(*words)
    assert refused.returncode == 2
    assert "--data.other-files" in refused.stderr
    done = run(*words, "--data.other-files")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "accuracy on test, %" in done.stdout
    records = read_records(tmp_path / "out")
    assert set(records.task) == {"classification"}
    assert set(records.pairing) == {"none", "false_positive"}
    assert records.test_accuracy.notna().all()
    assert "results on them are not results on CIFAR-10" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["xbd-quick"], "--data-root"),
        (["xbd-quick", "--data-root", "nowhere"], "nowhere"),
        (["manifest"], "--data FILE"),
        (["manifest", "--data", "nowhere.csv"], "nowhere.csv"),
        (["cifar-quick"], "--data-root FOLDER"),
        (["cifar-quick", "--losses", "within_image"], "--data-root FOLDER"),
        (["cifar-quick", "--pairings", "noisy"], "--pairings noisy: cifar10 has no such pairs"),
        (["xbd-quick", "--nu", "0.5"], "--nu 0.5: the noise of xbd cannot be set"),
        (["xbd-quick", "--data.regions", "4"], "unknown flag --data.regions"),
        (["manifest", "--data.bands", "4", "--data", "nowhere.csv"], "--augment.hue"),
        (["vts-smoke", "--losses", "imagenet", "--imagenet-weights", "nowhere.pth"], "nowhere.pth: no such file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(words, message, tmp_path, capsys):
    assert main([*words, "--out", str(tmp_path / "out"), "--no-report"]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_every_bad_row_of_a_manifest_is_named_at_once_and_can_be_left_out(manifest, tmp_path):
    text = manifest.read_text().splitlines()
    broken = manifest.with_name("broken.csv")
    broken.write_text("\n".join([*text, "gone.png,0-after.png,train,,,1", "0-before.png,away.png,test,,,0"]) + "\n")
    words = ("manifest", "--data", broken, "--store", tmp_path / "store", "--out", tmp_path / "out", *SMALL)
    words += ("--data.size", 32, "--losses", "random")
    refused = run(*words)
    assert refused.returncode == 2
    assert "gone.png" in refused.stderr
    assert "away.png" in refused.stderr
    assert "--skip-bad" in refused.stderr
    assert "Traceback" not in refused.stderr
    done = run(*words, "--skip-bad")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gone.png" in done.stdout
    assert len(read_records(tmp_path / "out")) == 1
