"""Change detection by the usual commands: a sweep, a probe of its encoders, its claims; and what is refused."""

from pathlib import Path

import pandas as pd
import pytest

from analysis.claims import main as claims
from analysis.records.io import read_records
from analysis.records.predictions import read_predictions
from sweep import probe
from tests.helpers.command import call
from tests.helpers.fake_pairs import listed, own_store, sound

FIXTURES = (own_store,)  # pytest finds them by their names
SPLITS = ("train", "train", "val", "val", "test", "test")  # one pair of each changes
pytestmark = pytest.mark.usefixtures("torch_settings_stay")


def pairs(folder: Path, **changes: str) -> Path:
    rows = [{**row, "split": split, **changes} for row, split in zip(sound(folder), SPLITS, strict=True)]
    return listed(folder / "pairs.csv", rows)


def words(path: Path, out: Path, *more: str) -> list[str]:
    small = "--data.size 16 --data.min-share 0 --encoder.slim 0.125 --encoder.output-stride 8 --encoder.stages 4"
    steps = "--pretrain.steps 2 --pretrain.warmup 0 --pretrain.batch 4 --probe.steps 2 --probe.batch 4 --moco.queue 8"
    losses = "--losses moco random --rho 0 0.5 --pairings noisy --precision fp32 --engine.threads 1"
    return ["manifest", "--data", str(path), "--out", str(out), *f"{small} {steps} {losses}".split(), *more]


@pytest.mark.parametrize(
    ("dataset", "more", "said"),
    [
        ("vts-quick", "--probe.target change", "needs pairs of images that tell what changed, which vts does not have"),
        ("cifar-quick", "--vary probe.target classes change", "which cifar10 does not have: use classes"),
        ("xbd-quick", "--vary probe.join difference both", "has no effect without --probe.target change: add it"),
        ("xbd-quick", "--probe.target damage", "choose from classes, change, classes_from_pair"),
    ],
)
def test_a_target_without_data_is_refused_in_one_line(dataset: str, more: str, said: str, tmp_path: Path) -> None:
    done = call(dataset, "--out", tmp_path / "out", *more.split(), "--dry-run")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert said in done.stderr
    assert not list(tmp_path.iterdir())


def test_change_without_second_masks_is_refused_before_anything_runs(tmp_path: Path) -> None:
    path = pairs(tmp_path, partner_mask="")
    for more in (["--dry-run"], ["--inline"]):
        done = call(*words(path, tmp_path / "out", "--probe.target", "change", *more))
        *progress, told = done.stderr.splitlines()  # a store is built before
        assert (done.returncode, len(progress)) == (2, int(more == ["--inline"]))
        assert "--probe.target change: no pair of split train tells what changed" in told
        assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_sweep_its_claims_and_a_probe_of_its_encoders_for_other_targets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = pairs(tmp_path), tmp_path / "out"
    done = call(*words(path, out, "--probe.target", "change", "--keep", "encoders", "--inline"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "F1 of change on test" in " ".join(done.stdout.split())
    records = read_records(out)
    assert set(records.task) == {"change"}
    assert records[["test_f1_changed", "test_f1_unchanged", "test_miou"]].notna().all(axis=None)
    assert read_predictions(out, records.key.tolist())[0].before is not None
    assert claims([str(out)]) == 0
    assert "The paper does not predict what changed" in " ".join(capsys.readouterr().out.split())
    targets = ("--vary", "probe.target", "classes", "change", "classes_from_pair")
    again = call(out, "--inline", "--head", "fcn", "knn", *targets, program=probe.main)
    assert again.returncode == 0, again.stdout + again.stderr
    probed = read_records(out / "probe")
    assert probed.groupby("task").size().to_dict() == dict.fromkeys(("change", "classes_from_pair", "segmentation"), 6)
    same = probed[probed.key.isin(records.key)].set_index("key").sort_index()
    columns = ["test_f1_changed", "test_f1_macro", "val_f1_macro"]
    pd.testing.assert_frame_equal(same[columns], records.set_index("key").sort_index()[columns], check_exact=True)
