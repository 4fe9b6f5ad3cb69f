import numpy as np
import pandas as pd
import pytest

from analysis.findings.base import Finding
from analysis.findings.contrasts import Grid, grid_of
from analysis.findings.paper import FINDINGS
from analysis.findings.verdicts import Judgement, judge_finding
from analysis.records.studies import studies
from tests.helpers.fake_grid import Truth, cells, failed, flat, noise, records

BY_KEY = {finding.key: finding for finding in FINDINGS}
DATASETS = {"vts": "vts", "real": "xbd", "cifar10": "cifar10"}


def study_of(finding: Finding) -> str:
    return DATASETS[finding.about[0]]


def ask(finding: Finding, frame: pd.DataFrame, **options: float) -> Judgement:
    (study,) = studies(frame)
    return judge_finding(finding, study, grid_of(study), **options)


def effect(size: float, *, loss: str = "", pairing: str = "noisy", rho: float = 0, nu: float = -1) -> Truth:
    """A grid with an effect of `size` at this loss, pairing, rho or nu; an omitted one means any."""

    def truth(of: str, made: str, r: float, n: float) -> float:
        here = made == pairing and loss in ("", of) and (not rho or r == rho) and (nu < 0 or n == nu)
        return 0.5 + size * here

    return truth


# For each finding a grid on which its sentence is clearly true and one on which it is clearly false, from the words of
# the paper.
EITHER: dict[str, tuple[Truth, Truth]] = {
    "robust_real": (flat, effect(-0.03, loss="moco")),
    "moco_gains_real": (effect(0.015, loss="moco"), effect(-0.01, loss="moco")),
    "benefit_real": (effect(0.012), effect(-0.01, loss="within_image")),
    "not_sensitive_real": (
        lambda loss, pairing, rho, nu: 0.5 + 0.01 * rho,
        lambda loss, pairing, rho, nu: 0.5 - 0.05 * rho * (loss == "cross_image"),
    ),
    "exposure_real": (effect(0.01), effect(0.01, pairing="exposure")),
    "beats_imagenet": (
        lambda loss, pairing, rho, nu: 0.25 if loss == "imagenet" else 0.28 + 0.01 * rho,
        lambda loss, pairing, rho, nu: 0.35 if loss == "imagenet" else 0.28 + 0.01 * rho,
    ),
    "benefit_partial": (
        lambda loss, pairing, rho, nu: 0.5 + (pairing == "noisy") * (0.02 if nu < 1 else -0.2),
        lambda loss, pairing, rho, nu: 0.5 + (pairing == "noisy") * (0.5 * (nu == 1) - 0.02 * (loss == "moco")),
    ),
    "moco_rises": (
        lambda loss, pairing, rho, nu: 0.5 + 0.03 * rho * (nu < 1) - 0.3 * (nu == 1),
        lambda loss, pairing, rho, nu: 0.5 - 0.03 * rho * (loss == "moco"),
    ),
    "dense_gain_quarter": (effect(0.02, rho=0.25), effect(-0.02, loss="within_image", rho=0.25)),
    "dense_level": (effect(0.03), lambda loss, pairing, rho, nu: 0.5 + 0.06 * rho * (loss == "within_image")),
    "full_noise_no_gain": (effect(0.05, loss="cross_image", nu=1), effect(0.03, loss="within_image", nu=1)),
    "dense_drop": (effect(-0.1, rho=1, nu=1), flat),
    "cross_exception": (
        lambda loss, pairing, rho, nu: 0.5 + 0.02 * (nu == 1) - 0.3 * (rho == 1),
        effect(-0.02, loss="cross_image", nu=1),
    ),
    "full_noise_drops": (effect(-0.03, nu=1), effect(0.03, nu=1)),
    "full_noise_drops_most": (
        lambda loss, pairing, rho, nu: 0.5 - 0.05 * rho * (nu == 1),
        lambda loss, pairing, rho, nu: 0.5 - 0.05 * (1 - rho) * (nu == 1),
    ),
    "moco_exposure": (effect(0.02, loss="moco"), effect(0.02, loss="moco", pairing="exposure")),
    "moco_exposure_rises": (
        lambda loss, pairing, rho, nu: 0.5 + 0.05 * rho * (nu >= 0.5) * (pairing == "noisy"),
        lambda loss, pairing, rho, nu: 0.5 + 0.05 * (1 - rho) * (pairing == "noisy"),
    ),
    "dense_exposure": (effect(0.01), effect(0.01, loss="cross_image", pairing="exposure")),
    "moco_larger": (effect(0.03, loss="moco"), effect(0.03, loss="cross_image")),
    "irrelevant_moco_low": (
        lambda loss, pairing, rho, nu: 0.5 + (pairing == "irrelevant") * (0.01 if nu <= 0.5 else -0.1),
        lambda loss, pairing, rho, nu: 0.5 + (pairing == "irrelevant") * (-0.01 if nu <= 0.5 else 0.1),
    ),
    "irrelevant_moco_high": (effect(-0.02, pairing="irrelevant"), effect(0.02, loss="moco", pairing="irrelevant")),
    "irrelevant_within": (
        lambda loss, pairing, rho, nu: 0.5 + (pairing == "irrelevant") * (0.05 if nu < 1 else -0.1),
        effect(-0.05, loss="within_image", pairing="irrelevant", rho=0.25, nu=0.5),
    ),
    "irrelevant_within_full": (
        effect(-0.05, pairing="irrelevant", nu=1),
        effect(0.05, loss="within_image", pairing="irrelevant", rho=0.5, nu=1),
    ),
    "never_detrimental": (effect(-0.2, nu=1), effect(-0.1, loss="moco", rho=0.75, nu=0.5)),
    "exposure_helps": (effect(0.02, pairing="exposure"), effect(-0.02, pairing="exposure")),
    "false_positives_hurt": (
        lambda loss, pairing, rho, nu: 0.5 - 0.1 * rho,
        lambda loss, pairing, rho, nu: 0.5 + 0.05 * rho,
    ),
    "false_positives_sensitive": (
        lambda loss, pairing, rho, nu: 0.5 - 0.1 * rho,
        lambda loss, pairing, rho, nu: 0.5 - 0.01 * rho,
    ),
    "seed_spread": (flat, flat),
}


def test_each_finding_has_a_grid_of_either_truth():
    assert set(EITHER) == set(BY_KEY)
    assert len(BY_KEY) == len(FINDINGS) >= 10


@pytest.mark.parametrize("key", BY_KEY)
def test_supported_where_it_is_true_and_contradicted_where_it_is_false(key):
    finding = BY_KEY[key]
    dataset = study_of(finding)
    generator = np.random.default_rng(7)
    spreads = (0.0002, 0.05) if key == "seed_spread" else (0.01, 0.01)
    for truth, shared, verdict in zip(EITHER[key], spreads, ("supported", "contradicted"), strict=True):
        errors = noise(len(cells(dataset)), 5, generator, shared=shared, own=0.0002)
        judgement = ask(finding, records(dataset, truth, errors=errors, seeds=5))
        assert judgement.verdict == verdict, (key, judgement.parts)
        assert judgement.decide == ""


@pytest.mark.parametrize("key", BY_KEY)
def test_undecided_where_the_seeds_disagree(key):
    # Errors that cancel over the seeds and differ among cells, so every contrast is 0 on average and very uncertain.
    finding = BY_KEY[key]
    dataset = study_of(finding)
    size = 0.004 if key == "seed_spread" else 1.0
    errors = np.outer(size * np.random.default_rng(4).uniform(1, 2, len(cells(dataset))), (-1, 0, 1))
    judgement = ask(finding, records(dataset, errors=errors))
    assert judgement.verdict == "undecided"
    assert "further seed" in judgement.decide


@pytest.mark.parametrize("key", BY_KEY)
def test_one_seed_gives_an_estimate_and_no_verdict(key):
    finding = BY_KEY[key]
    judgement = ask(finding, records(study_of(finding), EITHER[key][0], seeds=1))
    assert judgement.verdict == "undecided"
    assert "one seed" in judgement.decide
    for part in judgement.parts:
        assert np.isnan([part.estimate.low, part.estimate.high, part.p]).all()
        assert np.isfinite(part.estimate.estimate) == (key != "seed_spread")


@pytest.mark.parametrize("key", BY_KEY)
def test_not_applicable_to_a_grid_without_its_cells(key):
    finding = BY_KEY[key]
    frame = records(study_of(finding))
    baseline = ask(finding, frame[frame["objective"] == "imagenet"])
    assert (baseline.verdict, baseline.decide) == ("not applicable", f"needs {finding.needs}")
    clean = frame[frame["rho"] == 0]
    if key not in ("seed_spread", "beats_imagenet"):
        assert ask(finding, clean).decide == f"needs {finding.needs}"
    for kind, dataset in DATASETS.items():
        if kind not in finding.about:
            other = ask(finding, records(dataset))
            assert (other.verdict, other.parts) == ("not applicable", ())
            assert other.decide.startswith("the paper says this about ")


@pytest.mark.parametrize("key", sorted(set(BY_KEY) - {"beats_imagenet", "seed_spread"}))
def test_a_failed_cell_is_counted_and_the_rest_is_judged(key):
    finding = BY_KEY[key]
    frame = records(
        study_of(finding), errors=noise(len(cells(study_of(finding))), 3, np.random.default_rng(0), shared=0, own=0.01)
    )
    whole = ask(finding, frame)
    for objective in ("moco", "within_image") if finding.about[0] != "cifar10" else ("moco",):
        without = ask(finding, failed(frame, (frame["objective"] == objective) & (frame["rho"] == 0.25)))
        for before, after in zip(whole.parts, without.parts, strict=True):
            assert after.expected == before.expected
            assert after.estimate.cells <= before.estimate.cells
            if after.estimate.cells < after.expected / 2:
                assert after.verdict == "undecided"
                assert "fail" in after.reason or "two seeds" in after.reason


def test_a_cell_that_was_not_run_is_missing_where_another_loss_has_it():
    frame = records("vts")
    lacking = frame[~((frame["objective"] == "moco") & (frame["rho"] == 0.5) & (frame["pairing"] == "noisy"))]
    part = ask(BY_KEY["benefit_partial"], lacking).parts[0]
    assert (part.name, part.estimate.cells, part.expected) == ("moco", 9, 12)


def test_a_slope_needs_every_level_of_its_seed():
    frame = records("cifar10", lambda loss, pairing, rho, nu: 0.5 - 0.1 * rho**3)
    cut = failed(frame, (frame["seed"] == 1) & (frame["rho"] == 1))
    part = ask(BY_KEY["false_positives_hurt"], cut).parts[0]
    rho = np.array([0, 0.25, 0.5, 0.75, 1])
    assert part.estimate.estimate == pytest.approx(np.polyfit(rho, 0.5 - 0.1 * rho**3, 1)[0])
    assert (part.estimate.seeds, part.estimate.values) == (2, 2)


def test_a_missing_loss_leaves_a_claim_about_all_losses_open_but_can_not_save_it():
    for truth, verdict in ((effect(0.02), "undecided"), (effect(-0.02), "contradicted")):
        frame = records("vts", truth)
        judgement = ask(BY_KEY["benefit_partial"], frame[frame["objective"] != "cross_image"])
        assert judgement.verdict == verdict
    frame = records("vts", effect(0.02))
    judgement = ask(BY_KEY["benefit_partial"], frame[frame["objective"] != "cross_image"])
    assert judgement.decide == "cross_image: needs noisy cells with nu < 1 and rho 0"


def test_data_of_ones_own_is_asked_of_the_losses_that_were_run():
    frame = records("manifest", effect(0.01))
    frame = frame[frame["objective"].isin(["moco", "random"])]
    judgement = ask(BY_KEY["robust_real"], frame)
    assert judgement.own_data
    assert [part.name for part in judgement.parts] == ["moco"]
    assert judgement.verdict == "supported"
    assert not ask(BY_KEY["robust_real"], records("xbd")).own_data


def test_the_encoder_is_chosen_by_validation_and_compared_by_test():
    frame = records("xbd", lambda loss, pairing, rho, nu: 0.25 if loss == "imagenet" else 0.3)
    # The cell with the best test score is not the one with the best validation score.
    best_test = (frame["objective"] == "moco") & (frame["rho"] == 1)
    chosen = (frame["objective"] == "cross_image") & (frame["rho"] == 0.5) & (frame["pairing"] == "noisy")
    frame.loc[best_test, "test_f1_macro"] = 0.9
    frame.loc[chosen, ["val_f1_macro", "test_f1_macro"]] = [0.8, 0.27]
    # Exposure is not a candidate, because the paper's best encoder is among noisy cells.
    frame.loc[frame["pairing"] == "exposure", "val_f1_macro"] = 0.99
    part = ask(BY_KEY["beats_imagenet"], frame).parts[0]
    assert part.estimate.estimate == pytest.approx(0.02)
    part = ask(BY_KEY["beats_imagenet"], failed(frame, chosen & (frame["seed"] == 0))).parts[0]
    assert part.estimate.seeds == 2


def test_the_margin_is_what_robust_means():
    frame = records("xbd", effect(-0.02))
    assert ask(BY_KEY["robust_real"], frame).verdict == "contradicted"
    assert ask(BY_KEY["robust_real"], frame, margin=0.03).verdict == "supported"


def test_every_contrast_is_linear_and_no_part_moves_with_what_a_seed_shares():
    for finding in FINDINGS:
        if finding.key in ("seed_spread", "beats_imagenet"):
            continue
        points = cells(study_of(finding))
        generator = np.random.default_rng(1)
        a, b = generator.normal(size=(2, len(points), 2))
        for one, other, both in zip(*(_parts(finding, points, y) for y in (a, b, 2 * a + b + (3, -4))), strict=True):
            np.testing.assert_allclose(both, 2 * one + other, atol=1e-12)


def _parts(finding: Finding, points: list, scores: np.ndarray) -> list[np.ndarray]:
    grid = Grid(
        dataset=study_of(finding),
        seeds=np.arange(scores.shape[1]),
        scores=dict(zip(points, scores, strict=True)),
        validation={},
    )
    return [part.values["value"].to_numpy() for part in finding.parts(grid, 0.01)]
