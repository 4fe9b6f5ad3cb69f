"""The front of a report answers, loss by loss, whether noisy pairs hurt."""

import pandas as pd
import pytest

from analysis.report.answers import answers

MARGIN = 0.01


def effects(*rows):
    names = ["objective", "kind", "estimate", "low", "high", "verdict", "grid"]
    return pd.DataFrame(rows, columns=names)


def test_each_verdict_is_a_sentence_with_its_interval():
    found = answers(
        effects(
            ("moco", "noisy", -0.015, -0.029, -0.002, "undecided", "rho 1; nu 0.5"),
            ("within_image", "noisy", 0.029, 0.022, 0.036, "better", "rho 1; nu 0.5"),
            ("cross_image", "noisy", -0.002, -0.008, 0.004, "not worse", "rho 1; nu 0.5"),
            ("moco", "false positive", -0.089, -0.107, -0.072, "worse", "rho 1; nu 1"),
        ),
        MARGIN,
    )
    assert [one.text for one in found] == [
        "MoCo is undecided: -1.5 points [-2.9, -0.2], at rho 1, nu 0.5",
        "within-image gains from noisy pairs: +2.9 points [+2.2, +3.6], at rho 1, nu 0.5",
        "cross-image is robust to noisy pairs: -0.2 points [-0.8, +0.4], at rho 1, nu 0.5",
        "MoCo (false positive) loses from noisy pairs: -8.9 points [-10.7, -7.2], at rho 1, nu 1",
    ]


def test_all_intervals_are_on_one_axis_that_holds_them_and_the_margin():
    (one, other) = answers(
        effects(
            ("moco", "noisy", -0.08, -0.09, -0.07, "worse", ""), ("simclr", "noisy", 0.0, -0.01, 0.01, "undecided", "")
        ),
        MARGIN,
    )
    assert (one.interval.low, one.interval.zero, one.interval.margin) == pytest.approx((0, 85.71, 76.19), abs=0.01)
    assert (one.interval.zero, one.interval.margin) == (other.interval.zero, other.interval.margin)
    assert (other.interval.low, other.interval.high) == pytest.approx((76.19, 95.24), abs=0.01)


def test_one_seed_has_a_number_and_no_picture():
    nan = float("nan")
    (one,) = answers(effects(("moco", "noisy", -0.015, nan, nan, "undecided", "rho 1; nu 0.5")), MARGIN)
    assert one.interval is None
    assert one.text == "MoCo is undecided: -1.5 points, no interval, at rho 1, nu 0.5"


def test_without_losses_there_is_no_answer():
    nan = float("nan")
    assert (
        answers(effects(), MARGIN) == answers(effects(("moco", "noisy", nan, nan, nan, "undecided", "")), MARGIN) == []
    )
