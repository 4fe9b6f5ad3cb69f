"""Collapse: how far apart an encoder's features lie, and whether pretraining ended without learning anything."""

import math
from dataclasses import dataclass

import torch

from datasets.dataset import Dataset
from trainables.models.encoders import Backbone
from trainables.models.heads import unit_positions
from trainables.pretrain import Pretrained
from trainables.probe import Wrap, encode
from trainables.recipe import Recipe
from trainables.views import parts

LEAST_RANGE = 0.01
"""A loss that has covered less of its attainable range, from plateau to floor, is at its plateau."""
LEAST_SPREAD = 0.05
"""Features with a smaller standard deviation are practically equal."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The spread of unit features over all positions (or images) of a set; NaN if it is empty."""

    std: float
    """Root of their total variance: 0 if all are equal, 1 if their mean is zero (channels added up, so that the value
    does not depend on their number; Chen and He 2021, https://arxiv.org/abs/2011.10566, look at each channel)."""
    rank: float
    """Effective rank of the centred features (Roy and Vetterli 2007): the exponential of the entropy of their
    normalised singular values; from 1, all on a line, to the number of channels."""


@torch.no_grad()
def feature_spread(encoder: Backbone, data: Dataset, recipe: Recipe, wrap: Wrap = iter) -> Spread:
    """The spread of the encoder's features, as the probe sees them, on the noise-free validation pairs.

    Args:
        encoder: after pretraining; ends in eval mode.
        data: the first image of each of its validation pairs is encoded, without augmentation.
        recipe: everything that is held fixed.
        wrap: returns the same batches.
    """
    if not data.validation_pairs():
        return Spread(std=math.nan, rank=math.nan)
    encoder.eval()
    count, channels = 0, encoder.channels
    total = torch.zeros(channels, dtype=torch.float64, device=data.device)
    products = torch.zeros(channels, channels, dtype=torch.float64, device=data.device)
    for index in wrap(parts(data.validation_pairs(), recipe.probe.batch)):
        images = data.validation(index, labelled=False).first
        features = unit_positions(encode(encoder, images, recipe.data.task)).flatten(0, 1).double()
        count += len(features)
        total += features.sum(dim=0)
        products += features.T @ features
    mean = total / count
    covariance = (products / count - mean.outer(mean)).cpu()
    singular = torch.linalg.eigvalsh(covariance).clamp(min=0).sqrt()
    shares = singular / singular.sum().clamp(min=1e-300)
    return Spread(
        std=float(singular.square().sum().sqrt()),
        rank=float(torch.special.entr(shares).sum().exp()),
    )


def is_collapsed(pretrained: Pretrained, spread: Spread) -> bool:
    """Whether the kept encoder's loss is at its plateau, or its features are practically equal (METHOD.md)."""
    bound = pretrained.plateau - LEAST_RANGE * (pretrained.plateau - pretrained.floor)
    return pretrained.val_loss >= bound or spread.std < LEAST_SPREAD
