"""Tiles of a store in a worker: pairs undersampled to a noisy-pairs rate, and downstream images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64, Shaped, UInt8
from torch import Tensor

from datasets import pairing
from datasets.dataset import Draws, PairBatch, TransferPool, from_bytes
from datasets.misregistration import Misregistration
from datasets.tiles.sides import Sides, written
from datasets.tiles.source import TileSource, class_pixels, contrasting, labelled
from datasets.tiles.splits import undersample
from datasets.tiles.surroundings import Surroundings
from datasets.transfer import Transfer, together
from datasets.types import EVERY_SPLIT, IGNORED, Pairing

Numbers = Int64[np.ndarray, " n"]

MEASURED = 2**28
"""Pixels of masks that are read to measure nu, at most."""
SPREAD = 3.0
"""A scaled band covers this many standard deviations on either side of the mean; other values are clipped."""


class TileDataset:
    """The tiles of a source, moved to a device in batches; the same for every seed."""

    def __init__(
        self, source: TileSource, device: torch.device, misregistration: Misregistration | None = None
    ) -> None:
        """Open the arrays; nothing is read yet. `misregistration` displaces partners; None: by the default."""
        self.source, self.device = source, device
        self.misregistration = misregistration or Misregistration()
        self.classes = source.classes
        store = source.store
        self._images = Sides(store.image, store.partner, device)
        self._masks = Sides(store.mask, store.partner_mask, device)
        self._scale = None
        if source.mean is not None and source.std is not None:
            mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (source.mean, source.std))
            self._scale = mean, 2 * SPREAD * std
        tiles = store.tiles
        self._number = tiles["number"].to_numpy(np.int64)
        self.noisy = tiles["noisy"].to_numpy(bool)
        self._partner_side = (tiles["labelled"] == "partner").to_numpy(bool)
        self._labelled = labelled(source)
        contrast = contrasting(source)
        self._noisy, self._clean = self.noisy & contrast, ~self.noisy & contrast

    def of_split(self, split: str, chosen: Bool[np.ndarray, " tiles"]) -> Numbers:
        """The chosen tiles of a split."""
        return np.flatnonzero((self.source.split == EVERY_SPLIT.index(split)) & chosen)

    def pool(self, rho: float, nu: float, pairing: Pairing, generator: torch.Generator) -> TransferPool:
        """The largest set of training tiles with the rate rho; the generator selects tiles of the larger kind.

        Misregistered pairs are clean pairs, so their pool is that of rho 0.
        """
        if pairing == "misregistration":
            around = Surroundings(self.source.store, self.misregistration.margin(self.source.store.size))
            return MisregisteredPool(data=self, tiles=self.of_split("train", self._clean), rho=rho, around=around)
        kinds = (self.of_split("train", self._clean), self.of_split("train", self._noisy))
        counts = undersample(len(kinds[0]), len(kinds[1]), rho)
        chosen = [
            kind[torch.randperm(len(kind), generator=generator).numpy()[:count]]
            for kind, count in zip(kinds, counts, strict=True)
        ]
        return TilePool(data=self, tiles=np.sort(np.concatenate(chosen)), pairing=pairing)

    def pairs(
        self, tiles: Numbers, first: Bool[Tensor, " n"], second: Bool[Tensor, " n"], *, labelled: bool
    ) -> Transfer[PairBatch]:
        """Two images of each tile, with their labels if requested.

        `first` and `second` say for which tiles an image is the partner. Each image has the labels of its own mask.
        """
        rows, partner = np.tile(self._number[tiles], 2), torch.cat([first, second]).numpy()
        images = self._images.transfer(rows, partner).then(self._show)
        masks = self._masks.transfer(rows, partner).then(self._dense_labels) if labelled else None

        def make(made: list[Tensor]) -> PairBatch:
            (one, other), *labels = (both.chunk(2) for both in made)
            own: Sequence[Tensor | None] = labels[0] if labels else (None, None)
            return PairBatch(first=one, second=other, first_labels=own[0], second_labels=own[1])

        return together(images, *([masks] if masks else [])).then(make)

    def misregistered(
        self,
        tiles: Numbers,
        around: Surroundings,
        maps: Float[Tensor, "n 2 3"],
        exchange: Bool[Tensor, " n"],
        *,
        labelled: bool,
    ) -> Transfer[PairBatch]:
        """Each tile and its partner, which is displaced by a map; exchanged where asked. Labels are as in `pairs`."""
        rows, size = self._number[tiles], around.side
        images = self._images.transfer(rows, np.zeros(len(rows), bool)).then(self._show)
        partners = self.source.store.partner()
        shape, shown = (len(rows), size, size, partners.shape[-1]), partial(around.patches, partners, tiles)
        patches = written(self.device, shape, partners.dtype, shown).then(self._show)
        moves = Transfer(self.device, [maps, exchange], lambda *sent: sent)
        sides = torch.cat([exchange, ~exchange]).numpy()
        masks = self._masks.transfer(np.tile(rows, 2), sides).then(self._dense_labels) if labelled else None

        def make(made: list[Any]) -> PairBatch:
            image, patch, (maps, exchange), *labels = made
            moved = pairing.displace(patch, maps)[..., around.inner, around.inner]
            exchange = exchange[:, None, None, None]
            own: Sequence[Tensor | None] = labels[0].chunk(2) if labels else (None, None)
            return PairBatch(
                first=moved.where(exchange, image),
                second=image.where(exchange, moved),
                first_labels=own[0],
                second_labels=own[1],
            )

        return together(images, patches, moves, *([masks] if masks else [])).then(make)

    def validation_pairs(self) -> int:
        """Number of clean validation tiles."""
        return len(self.of_split("val", self._clean))

    def validation(self, index: Int[Tensor, " n"], *, labelled: bool) -> PairBatch:
        """Indexed clean validation tiles, each image with its partner."""
        tiles = self.of_split("val", self._clean)[index.numpy()]
        none = torch.zeros(len(index), dtype=torch.bool)
        return self.pairs(tiles, none, ~none, labelled=labelled).sent()

    def count(self, split: str) -> int:
        """Number of tiles of a split whose mask shows a class."""
        return len(self.of_split(split, self._labelled))

    def downstream(
        self, split: str, index: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n *two c h w"], UInt8[Tensor, "n h w"]]:
        """The labelled image of each tile (the partner if it has a mask) and its classes.

        Of a pair, (n, 2, c, h, w), the labelled image is the second one; for `change` it is always the partner.
        """
        tiles = self.of_split(split, self._labelled)[index.numpy()]
        rows, side = self._number[tiles], self._partner_side[tiles]
        if self.source.target == "classes":
            images, classes = together(self._images.transfer(rows, side), self._masks.transfer(rows, side)).sent()
            return self._show(images), classes
        if self.source.target == "change":
            assert self.source.changes is not None, "a recipe refuses this target"
            side = np.ones(len(tiles), bool)
            labels = Transfer(self.device, [torch.from_numpy(self.source.changes.labels(tiles))], lambda sent: sent)
        else:
            labels = self._masks.transfer(rows, side)
        both = self._images.transfer(np.tile(rows, 2), np.concatenate([~side, side]))
        images, classes = together(both, labels).sent()
        return self._show(images).unflatten(0, (2, -1)).transpose(0, 1), classes

    def class_counts(self) -> Int[Tensor, " classes"]:
        """Pixels of each class in the labelled training tiles."""
        return torch.from_numpy(class_pixels(self.source, "train"))

    def noise_pixels(self, nu: float) -> float:
        """The mean share of noisy classes in the partners of noisy training tiles; NaN without noisy classes."""
        noisy, classes = self.of_split("train", self._noisy), list(self.source.noisy_classes)
        if not len(noisy) or not classes:
            return float("nan")
        return float(self.source.store.partner_counts[noisy][:, classes].sum(axis=1).mean() / self.source.store.size**2)

    def measured_nu(
        self, tiles: Numbers, partner_masks: Callable[[Numbers], UInt8[np.ndarray, "n h w"]] | None = None
    ) -> float:
        """The mean share of the pixels of these tiles whose class differs between their two masks.

        A mask of changes counts instead, if a pair has one. Pixels that one mask ignores do not count, tiles without
        both masks are left out, and of very many tiles some at equal distances are read. NaN if no tile is left.

        Args:
            tiles: some tiles.
            partner_masks: those of the partners as they are shown; None: as they are stored.
        """
        store, shares = self.source.store, list[float]()
        if "changed" in store.tiles and partner_masks is None:
            changed = store.tiles["changed"].to_numpy()[tiles]
            shares, tiles = changed[~np.isnan(changed)].tolist(), tiles[np.isnan(changed)]
        tiles = tiles[np.logical_and(*(side[tiles].any(axis=1) for side in (store.image_counts, store.partner_counts)))]
        tiles = tiles[:: 1 + len(tiles) * store.size**2 // MEASURED]
        for part in np.array_split(tiles, 1 + len(tiles) // 64) if len(tiles) else ():
            first = store.mask()[self._number[part]]
            second = partner_masks(part) if partner_masks else store.partner_mask()[self._number[part]]
            known = (first != IGNORED) & (second != IGNORED)
            counted = known.sum(axis=(1, 2))
            shares += (((first != second) & known).sum(axis=(1, 2))[counted > 0] / counted[counted > 0]).tolist()
        return float(np.mean(shares)) if shares else float("nan")

    def _show(self, images: Shaped[Tensor, "n h w c"]) -> Float[Tensor, "n c h w"]:
        """Stored images in [0, 1]."""
        images = images.permute(0, 3, 1, 2)
        if self._scale is None:
            return from_bytes(images)
        mean, width = self._scale
        shown = images.float().sub(mean) if images.is_floating_point() else images.float().sub_(mean)
        shown = shown.div_(width).add_(0.5).clamp_(0, 1)
        return shown.nan_to_num_(nan=0.5) if images.is_floating_point() else shown  # nodata is shown as the mean

    def _dense_labels(self, masks: UInt8[Tensor, "n h w"]) -> UInt8[Tensor, "n h w"]:
        if self.source.dense_labels == "classes":
            return masks
        return (masks > 0).byte().masked_fill(masks == IGNORED, IGNORED)


@dataclass(frozen=True, kw_only=True, eq=False)
class TilePool(TransferPool):
    """The training tiles of one cell; the rate of noisy ones in it is exact."""

    data: TileDataset
    tiles: Numbers
    pairing: Pairing

    def __len__(self) -> int:
        return len(self.tiles)

    def transfer(
        self, index: Int[Tensor, " n"], draws: Draws, *, labelled: bool
    ) -> tuple[Transfer[PairBatch], Bool[Tensor, " n"]]:
        """The pairs of the indexed tiles, and which are noisy.

        A pair is an image and its partner. With mere exposure a noisy pair is the partner twice (paper, V-C).
        """
        tiles = self.tiles[index.numpy()]
        noisy = torch.from_numpy(self.data.noisy[tiles])
        twice = noisy & (self.pairing == "exposure")
        first, second = pairing.swap_sides(twice, torch.ones_like(noisy), draws.swap)
        return self.data.pairs(tiles, first, second, labelled=labelled), noisy

    def measured_nu(self) -> float:
        """See `TransferPool.measured_nu`; of the noisy tiles of the pool."""
        return self.data.measured_nu(self.tiles[self.data.noisy[self.tiles]])


@dataclass(frozen=True, kw_only=True, eq=False)
class MisregisteredPool(TransferPool):
    """The clean training tiles of one cell; each time, the partner of a tile is displaced with probability rho."""

    data: TileDataset
    tiles: Numbers
    rho: float
    around: Surroundings

    def __len__(self) -> int:
        return len(self.tiles)

    def transfer(
        self, index: Int[Tensor, " n"], draws: Draws, *, labelled: bool
    ) -> tuple[Transfer[PairBatch], Bool[Tensor, " n"]]:
        """The pairs of the indexed tiles, and which are misregistered."""
        tiles = self.tiles[index.numpy()]
        noisy = pairing.choose_noisy(draws.noisy, self.rho)
        maps = pairing.displacements(self.data.misregistration, draws.partner, noisy, self.around.side)
        return self.data.misregistered(tiles, self.around, maps, draws.swap < 0.5, labelled=labelled), noisy

    def measured_nu(self) -> float:
        """See `TransferPool.measured_nu`; each tile is displaced in one way, and each way is as frequent."""
        return self.data.measured_nu(self.tiles, self._displaced_masks)

    def _displaced_masks(self, tiles: Numbers) -> UInt8[np.ndarray, "n h w"]:
        patches = np.stack([*self.around.patches(self.data.source.store.partner_mask(), tiles)])
        each, always = torch.from_numpy(tiles % pairing.PLACES) / pairing.PLACES, torch.ones(len(tiles)).bool()
        maps = pairing.displacements(self.data.misregistration, each, always, self.around.side)
        inner = self.around.inner
        return pairing.displace_labels(torch.from_numpy(patches), maps)[:, inner, inner].numpy()
