"""DenseCL: MoCo v2 that also contrasts positions, without labels: a position's positive is the most similar one.

Paper: Wang et al. 2021, https://arxiv.org/abs/2011.09157, Eqs. 2 to 4. Reference code:
https://github.com/WXinlong/DenseCL/blob/main/openselfsup/models/densecl.py.
"""

import math
from collections.abc import Iterable
from copy import deepcopy
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from trainables import loss_settings
from trainables.models.encoders import Backbone
from trainables.models.heads import unit_positions, unit_vectors
from trainables.objectives.base import Validation, follow
from trainables.objectives.losses import info_nce
from trainables.objectives.moco import MomentumContrast, all_pairs
from trainables.recipe import Recipe
from trainables.views import Views


class Embedded(NamedTuple):
    """The features of a batch of pairs, all of unit length; those of the second images without gradient."""

    query: Float[Tensor, "n d"]
    """Of the first images."""
    key: Float[Tensor, "n d"]
    """Of the second images."""
    positions: Float[Tensor, "n p d"]
    """Of the positions of the first images."""
    matched: Float[Tensor, "n p d"]
    """Of the position of the second image that each of these has as its positive."""
    pooled: Float[Tensor, "n d"]
    """Of the second images, the mean over their positions: negatives of the positions of others."""


class DenseCl(MomentumContrast):
    """The loss of whole images is MoCo's. That of positions has a head and a queue of its own.

    The dense queue holds one vector of each image, the mean of its projected map, and is as long as MoCo's.
    """

    dense_queue: Tensor

    def __init__(
        self, encoder: Backbone, recipe: Recipe, settings: loss_settings.DenseCl, generator: torch.Generator
    ) -> None:
        """Wrap the encoder; networks and queues are as in `recipe.moco`."""
        super().__init__(encoder, recipe.moco, settings.lr, generator)
        self.share = settings.lam
        self.dense_head = _position_head(encoder.channels, recipe.moco.features)
        self.key_dense_head = deepcopy(self.dense_head).requires_grad_(False)
        self.register_buffer("dense_queue", self._random_keys(generator))

    def compare(
        self, query: Float[Tensor, "n d"], key: Float[Tensor, "n d"], negatives: Float[Tensor, "k d"]
    ) -> Float[Tensor, ""]:
        """`losses.info_nce`, of images or of positions."""
        return info_nce(query, key, negatives, temperature=self.settings.temperature)

    def loss(self, views: Views, generator: torch.Generator) -> Float[Tensor, ""]:
        """(1 - lambda) times MoCo's loss, plus lambda times that of the positions (Eq. 3)."""
        self._update_key_encoder()
        query, key, positions, matched, pooled = self._embed_maps(views)
        images = self.compare(query, key, self.queue.clone())
        dense = self.compare(positions.flatten(0, 1), matched.flatten(0, 1), self.dense_queue.clone())
        with torch.no_grad():
            self.dense_queue[self._slots(pooled)] = pooled
        self._enqueue(key)
        return (1 - self.share) * images + self.share * dense

    @torch.no_grad()
    def validate(self, batches: Iterable[Views], generator: torch.Generator) -> Validation:
        """Both losses with the features of all other validation images as negatives. Their floor is 0."""
        query, key, positions, matched, pooled = map(torch.cat, zip(*map(self._embed_maps, batches), strict=True))
        count, cells = positions.shape[:2]
        dense = 0.0
        for index in torch.arange(count, device=query.device).split(max(1, 512 // cells)):
            positive = (positions[index] * matched[index]).sum(dim=2, keepdim=True) / self.settings.temperature
            logits = positions[index] @ pooled.T / self.settings.temperature
            logits.scatter_(2, index[:, None, None].expand_as(positive), positive)  # instead of the image itself
            dense += float((logits.logsumexp(dim=2) - positive[..., 0]).mean(dim=1).sum()) / count
        images = all_pairs(query, key, self.settings.temperature)
        return Validation((1 - self.share) * images + self.share * dense, math.log(count), 0.0)

    def _embed_maps(self, views: Views) -> Embedded:
        maps = self.encoder(views.first)
        query = unit_vectors(self.head(maps.mean(dim=(2, 3))))
        positions = unit_positions(self.dense_head(maps))
        with torch.no_grad():
            key_maps = self.key_encoder(views.second)
            key = unit_vectors(self.key_head(key_maps.mean(dim=(2, 3))))
            projected = self.key_dense_head(key_maps)
            matched = best_matches(unit_positions(maps), unit_positions(key_maps), unit_positions(projected))
            pooled = unit_vectors(projected.mean(dim=(2, 3)))
        return Embedded(query, key, positions, matched, pooled)

    def _update_key_encoder(self) -> None:
        super()._update_key_encoder()
        follow(self.key_dense_head.parameters(), self.dense_head.parameters(), self.settings.momentum)


def best_matches(
    maps: Float[Tensor, "n p c"], key_maps: Float[Tensor, "n k c"], keys: Float[Tensor, "n k d"]
) -> Float[Tensor, "n p d"]:
    """For each position, the key of the position whose encoder features are most similar (Eq. 4)."""
    best = (maps @ key_maps.transpose(1, 2)).argmax(dim=2, keepdim=True)
    return keys.gather(1, best.expand(-1, -1, keys.shape[2]))


def _position_head(channels: int, features: int) -> nn.Module:
    """MoCo's head at each position: 1x1 convolution, ReLU, 1x1 convolution."""
    return nn.Sequential(nn.Conv2d(channels, channels, 1), nn.ReLU(), nn.Conv2d(channels, features, 1))
