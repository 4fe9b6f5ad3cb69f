"""Metrics against scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, jaccard_score

from trainables.metrics import confusion, segmentation_metrics

NAMES = ("a", "b", "c")


@pytest.mark.parametrize("seed", range(5))
def test_metrics_agree_with_scikit_learn(seed):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(3, (4, 9, 9), generator=generator)
    predicted = torch.where(torch.rand(truth.shape, generator=generator) < 0.6, truth, truth.flip(0))
    # Summed over two batches, as a probe does it: F1 is of the global matrix and not a mean over images.
    matrix = confusion(truth[:1], predicted[:1], 3) + confusion(truth[1:], predicted[1:], 3)
    found = segmentation_metrics(matrix, NAMES, "test_")
    y, z = truth.flatten().numpy(), predicted.flatten().numpy()
    assert found["test_f1_macro"] == pytest.approx(f1_score(y, z, average="macro"))
    assert [found[f"test_f1_{n}"] for n in NAMES] == pytest.approx(f1_score(y, z, average=None))
    assert found["test_miou"] == pytest.approx(jaccard_score(y, z, average="macro"))
    assert found["test_accuracy"] == pytest.approx(accuracy_score(y, z))


def test_a_class_never_met_scores_zero_as_in_scikit_learn():
    truth = torch.tensor([0, 0, 1])
    found = segmentation_metrics(confusion(truth, truth, 3), NAMES, "")
    expected = f1_score(truth.numpy(), truth.numpy(), labels=[0, 1, 2], average="macro", zero_division=np.float64(0))
    assert found["f1_macro"] == pytest.approx(expected)
    assert found["f1_c"] == 0


def test_confusion_counts_truth_in_rows():
    assert confusion(torch.tensor([0, 0, 2]), torch.tensor([1, 1, 2]), 3).tolist() == [
        [0, 2, 0],
        [0, 0, 0],
        [0, 0, 1],
    ]
