"""The spread of features has its closed forms, and a cell that learnt nothing is marked."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.collapse import Spread, feature_spread, is_collapsed
from trainables.engine import PLAIN
from trainables.models.encoders import Backbone, make_encoder
from trainables.pretrain import Pretrained
from trainables.run_cell import run_cell


class Fixed(nn.Module):
    """A network whose maps hold the given features in turn, whatever the images."""

    def __init__(self, features):
        super().__init__()
        self.features, self.num_features = torch.tensor(features), len(features[0])

    def forward_features(self, images):
        repeated = self.features.repeat(len(images), 1, 1)
        return repeated.transpose(1, 2)[..., None]


AXES = torch.eye(4)


@pytest.mark.parametrize(
    ("features", "std", "rank"),
    [
        ([[1.0, 2.0], [2.0, 4.0]], 0, 1),  # one direction: unit features are equal
        ([[1.0, 0.0], [-3.0, 0.0]], 1, 1),  # opposite: on a line
        (torch.cat([AXES, -AXES]).tolist(), 1, 4),  # all directions alike
        ([[1.0, 0.0], [0.0, 1.0]], math.sqrt(0.5), 1),  # two classes, orthogonal
    ],
)
def test_spread_has_closed_forms(features, std, rank, data, recipe):
    found = feature_spread(Backbone(Fixed(features), PLAIN), data, recipe)
    assert found.std == pytest.approx(std, abs=1e-6)
    if std:
        assert found.rank == pytest.approx(rank, rel=1e-3)


def test_spread_is_that_of_all_positions_of_clean_images(data, recipe):
    torch.manual_seed(0)
    encoder = make_encoder(recipe.encoder).eval()
    with torch.no_grad():
        maps = encoder(data.validation(torch.arange(data.validation_pairs()), labelled=False).first)
    features = maps.movedim(1, -1).flatten(0, -2).double().numpy()
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    centred = features - features.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    shares = singular[singular > 1e-9] / singular.sum()
    found = feature_spread(encoder, data, recipe)
    assert found.std == pytest.approx(math.sqrt((centred**2).sum(axis=1).mean()))
    assert found.rank == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-4)


def pretrained(val_loss, plateau, floor):
    return Pretrained(
        train_loss=1.0, val_loss=val_loss, plateau=plateau, floor=floor, best_step=1, noisy_pairs=0.0, seconds=1.0
    )


@pytest.mark.parametrize(
    ("val_loss", "plateau", "floor", "std", "collapsed"),
    [
        (4.159, 4.159, 3.466, 0.3, True),  # at the plateau
        (4.153, 4.159, 3.466, 0.3, True),  # .9 % of the range
        (4.151, 4.159, 3.466, 0.3, False),  # 1.2 %
        (4.2, 4.159, 3.466, 0.3, True),  # above
        (3.7, 4.159, 3.466, 0.01, True),  # equal features
        (0.4, math.nan, math.nan, 0.3, False),  # a loss whose plateau is not known
        (0.4, math.nan, math.nan, 0.01, True),
        (4.158, 4.159, math.nan, 0.3, False),  # a loss whose floor is not known
        (4.16, 4.159, math.nan, 0.3, True),
    ],
)
def test_what_counts_as_collapsed(val_loss, plateau, floor, std, collapsed):
    assert is_collapsed(pretrained(val_loss, plateau, floor), Spread(std=std, rank=9.0)) is collapsed


def measures(recipe, bank, objective, **changes):
    job = CellJob(recipe=recipe, source=bank)
    found = run_cell(Cell(objective=objective, **changes), job, torch.device("cpu"), report=lambda *point: None)
    return {name: found.get(name) for name in ("collapsed", "feature_std", "feature_rank", "pretrain_floor")}


def test_a_record_holds_the_measures_of_every_encoder(recipe, bank):
    moco, random, supervised = (measures(recipe, bank, name) for name in ("moco", "random", "supervised"))
    assert (moco["pretrain_floor"], random["pretrain_floor"]) == (0, None)
    assert math.isnan(supervised["pretrain_floor"])
    assert (random["collapsed"], supervised["collapsed"]) == (None, False)
    for one in (moco, random, supervised):
        assert 0 < one["feature_std"] < 1
        assert one["feature_rank"] > 1
