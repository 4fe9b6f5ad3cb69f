"""Which cells have collapsed, and how much of the attainable range a loss has covered."""

import pandas as pd
import pytest

from analysis.findings.verdicts import judge
from analysis.stats.collapse import attained, is_collapsed, older_note, without_collapsed
from tests.helpers import fake_grid


def test_the_record_decides_and_the_loss_if_the_record_does_not_say(row):
    old = {"pretrain_plateau": 4.0, "pretrain_floor": None, "collapsed": None}
    rows = [
        row(seed=0, collapsed=True, pretrain_plateau=4.0, pretrain_val_loss=1.0),  # its features are alike
        row(seed=1, collapsed=False, pretrain_plateau=4.0, pretrain_val_loss=3.99),
        row(seed=2, pretrain_val_loss=3.99, **old),
        row(seed=3, pretrain_val_loss=3.97, **old),
        row(seed=4, status="failed", collapsed=None, pretrain_plateau=4.0, pretrain_val_loss=4.0),
        row("random", seed=5),
    ]
    records = pd.DataFrame(rows)
    assert is_collapsed(records).tolist() == [True, False, True, False, False, False]
    assert older_note(records).startswith("2 of 6 records are older")
    assert older_note(records[:2]) == ""
    assert without_collapsed(records)["status"].eq("done").tolist() == [False, True, False, True, False, True]


def test_the_share_is_of_what_the_labels_allow(row):
    # With two balanced classes of 64 positions the loss can only fall from log 64 to log 32.
    within = row(pretrain_plateau=4.16, pretrain_floor=3.47, pretrain_val_loss=3.97)
    moco = row(pretrain_plateau=4.16, pretrain_floor=0.0, pretrain_val_loss=3.97)
    old = row(pretrain_plateau=4.16, pretrain_floor=None, pretrain_val_loss=3.97)
    shares = attained(pd.DataFrame([within, moco, old]))
    assert shares.tolist()[:2] == pytest.approx([0.19 / 0.69, 0.19 / 4.16])
    assert pd.isna(shares[2])


def test_a_verdict_says_how_many_of_its_values_rest_on_collapsed_cells():
    records = fake_grid.records("vts", seeds=3)
    before = {j.finding.key: j for j in judge(records)}
    moco, full = records["objective"] == "moco", records["nu"] == 1
    records["collapsed"] = moco & full & (records["pairing"] == "noisy") & (records["seed"] == 0)
    after = {j.finding.key: j for j in judge(records)}
    assert {key: (j.verdict, j.values) for key, j in after.items()} == {
        key: (j.verdict, j.values) for key, j in before.items()
    }
    assert not any(j.collapsed for j in before.values())
    # Four rho and three seeds: at nu 1 of MoCo and within-image, at the four nu of MoCo.
    assert (after["full_noise_no_gain"].collapsed, after["full_noise_no_gain"].values) == (4, 24)
    assert (after["moco_exposure"].collapsed, after["moco_exposure"].values) == (4, 48)
    assert after["moco_rises"].collapsed == 0  # nu below 1


def test_a_clean_cell_that_collapsed_counts_for_all_that_is_compared_with_it():
    records = fake_grid.records("vts", seeds=3)
    records["collapsed"] = (records["objective"] == "moco") & (records["rho"] == 0) & (records["seed"] == 1)
    found = {j.finding.key: j for j in judge(records)}
    assert found["full_noise_no_gain"].collapsed == 4
    assert found["moco_exposure"].collapsed == 0
