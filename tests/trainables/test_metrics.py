"""Metrics against scikit-learn."""

import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, jaccard_score

from trainables.metrics import confusion, metrics, xview2

NAMES = ("a", "b", "c")


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_scikit_learn(seed):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(3, (4, 9, 9), generator=generator)
    predicted = torch.where(torch.rand(truth.shape, generator=generator) < 0.6, truth, truth.flip(0))
    # Summed over two batches, as in a probe: F1 comes from the global matrix and is not a mean over images.
    matrix = confusion(truth[:1], predicted[:1], 3) + confusion(truth[1:], predicted[1:], 3)
    found = metrics(matrix, NAMES, "test_")
    y, z = truth.flatten().numpy(), predicted.flatten().numpy()
    assert found["test_f1_macro"] == pytest.approx(f1_score(y, z, average="macro"))
    assert [found[f"test_f1_{n}"] for n in NAMES] == pytest.approx(f1_score(y, z, average=None))
    assert found["test_miou"] == pytest.approx(jaccard_score(y, z, average="macro"))
    assert found["test_accuracy"] == pytest.approx(accuracy_score(y, z))


def test_a_class_that_the_truth_does_not_show_changes_no_mean():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(2, (9, 9), generator=generator)
    predicted = torch.randint(2, (9, 9), generator=generator)
    dense = metrics(confusion(truth, predicted, 2), ("a", "b"), "")
    names = [f"class_{number}" for number in range(21)]
    gaps = metrics(confusion(10 + 10 * truth, 10 + 10 * predicted, 21), names, "")
    assert gaps == {name.replace("_a", "_class_10").replace("_b", "_class_20"): v for name, v in dense.items()}


def test_predictions_of_a_class_that_the_truth_does_not_show_cost_the_true_class():
    truth, predicted = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 2, 2, 1, 2])
    found = metrics(confusion(truth, predicted, 3), NAMES, "")
    y, z = truth.numpy(), predicted.numpy()
    assert found == pytest.approx(
        {
            "f1_macro": f1_score(y, z, labels=[0, 1], average="macro"),
            "f1_a": 0.5,
            "f1_b": 2 / 3,
            "miou": jaccard_score(y, z, labels=[0, 1], average="macro"),
            "accuracy": 0.4,
        }
    )


def test_a_class_that_occurs_and_is_never_predicted_counts_as_zero():
    truth = torch.tensor([0, 0, 1])
    assert metrics(confusion(truth, torch.zeros(3, dtype=torch.long), 3), NAMES, "")["f1_macro"] == pytest.approx(0.4)


def test_confusion_counts_truth_in_rows():
    assert confusion(torch.tensor([0, 0, 2]), torch.tensor([1, 1, 2]), 3).tolist() == [
        [0, 2, 0],
        [0, 0, 0],
        [0, 0, 1],
    ]


def test_ignored_pixels_count_nowhere():
    truth = torch.tensor([0, 1, 255, 1, 255])
    predicted = torch.tensor([0, 1, 0, 0, 2])
    assert torch.equal(confusion(truth, predicted, 3), confusion(truth[[0, 1, 3]], predicted[[0, 1, 3]], 3))
    assert confusion(truth, predicted, 3).sum() == 3


def slow_xview2(truth, predicted):
    """The score of the challenge, pixel by pixel: F1 from counts of hits, false alarms and misses."""

    def f1(pairs, wanted):
        hit = sum(wanted(t) and wanted(p) for t, p in pairs)
        false = sum(not wanted(t) and wanted(p) for t, p in pairs)
        missed = sum(wanted(t) and not wanted(p) for t, p in pairs)
        return 2 * hit / (2 * hit + false + missed) if hit + false + missed else 0.0

    everywhere = list(zip(truth, predicted, strict=True))
    buildings = [(t, p) for t, p in everywhere if t > 0]
    damage = [f1(buildings, lambda value, number=number: value == number) for number in (1, 2, 3, 4)]
    harmonic = 4 / sum(1 / (score + 1e-6) for score in damage)
    return 0.3 * f1(everywhere, lambda value: value > 0) + 0.7 * harmonic


@pytest.mark.parametrize("seed", range(4))
def test_the_xview2_score_is_that_of_its_definition(seed):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(5, (400,), generator=generator)
    predicted = torch.where(torch.rand(400, generator=generator) < 0.7, truth, truth.roll(3))
    found = xview2(confusion(truth, predicted, 5))
    assert found == pytest.approx(slow_xview2(truth.tolist(), predicted.tolist()))


def test_the_xview2_score_of_a_perfect_map_is_one_and_of_none_is_zero():
    truth = torch.arange(5).repeat(3)
    assert xview2(confusion(truth, truth, 5)) == pytest.approx(1, abs=1e-5)
    assert xview2(confusion(truth, torch.zeros_like(truth), 5)) == pytest.approx(0, abs=1e-5)
