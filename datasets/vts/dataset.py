"""VTS in a worker: the splits, positive pairs and downstream images of the synthetic set (paper, IV-B).

`python -m datasets.vts --preview FILE.png` draws Fig. 3 of the paper.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, UInt8
from torch import Tensor

from datasets import pairing
from datasets.dataset import Draws, PairBatch, TransferPool, from_bytes
from datasets.transfer import Transfer, send
from datasets.types import SPLITS, Pairing
from datasets.vts.config import CLASSES, VtsSettings, noisy_regions
from datasets.vts.scenes import (
    IRRELEVANT,
    NOISE,
    Canvas,
    Scenes,
    draw_scenes,
    label_map,
    region_map,
    render,
    shown_categories,
)
from datasets.vts.textures import TextureBank, split_images

KEPT = {"cpu": 2**26, "cuda": 2**31}
"""Bytes of region maps that a device keeps for a split, one per pixel; larger splits compute them in each batch."""


class Vts:
    """The scenes of one seed, rendered in batches on a device."""

    classes: tuple[str, ...] = CLASSES

    def __init__(
        self,
        settings: VtsSettings,
        bank: TextureBank,
        stream: Callable[[str], torch.Generator],
        device: torch.device,
    ) -> None:
        """Split the texture images, then describe every scene; nothing is rendered yet.

        Args:
            settings: counts, size and regions.
            bank: the texture images.
            stream: returns the random stream of a purpose; all cells of a seed get the same scenes.
            device: where scenes are rendered.
        """
        self.settings = settings
        self.device = device
        self.canvas = Canvas.of(bank, device)
        entropy = int(torch.randint(2**62, (), generator=stream("texture split")))
        split = split_images(bank, np.random.default_rng(entropy))
        self.scenes = {
            name: draw_scenes(getattr(settings, name), settings.regions, split[name], stream(f"scenes {name}")).to(
                device
            )
            for name in SPLITS
        }

        self._regions: dict[str, Tensor] = {}

    def count(self, split: str) -> int:
        """Number of scenes in a split; `ood` has those of `test`."""
        return len(self.scenes["test" if split == "ood" else split])

    def pairs(
        self,
        split: str,
        index: Int[Tensor, " n"],
        first_noisy: Bool[Tensor, " n"],
        second_noisy: Bool[Tensor, " n"],
        nu: float,
        *,
        labelled: bool = True,
        noise: int = NOISE,
    ) -> PairBatch:
        """Two images of each indexed scene, with noise-free labels if requested.

        `first_noisy` and `second_noisy` say which images are noisy, `nu` how much, and `noise` which category noisy
        regions show. "For the dense supervised losses, we use the noise-free label for both the noise-free and the
        noisy images" (paper, IV-B1), and for mere-exposure pairs.
        """
        count = noisy_regions(nu, self.settings.regions)
        sent = send(self.device, index, first_noisy * count, second_noisy * count)
        return self.shown_pairs(split, *sent, labelled=labelled, noise=noise)

    def shown_pairs(
        self, split: str, index: Int[Tensor, " n"], *counts: Int[Tensor, " n"], labelled: bool, noise: int
    ) -> PairBatch:
        """See `pairs`. `counts` are the numbers of noisy regions in both images; everything is on the device."""
        chosen, regions = self._scenes(split, index)
        first, second = (self._draw(chosen, regions, shown_categories(chosen, noisy, noise)) for noisy in counts)
        labels = label_map(chosen.classes, regions) if labelled else None
        return PairBatch(first=first, second=second, first_labels=labels, second_labels=labels)

    def false_pairs(self, split: str, index: Int[Tensor, " n"], *shown: Int[Tensor, " n"], labelled: bool) -> PairBatch:
        """Images of two other scenes each, with the labels of the indexed scene; everything is on the device."""
        scenes = [self._scenes(split, one) for one in shown]
        first, second = (self._draw(chosen, regions, chosen.classes) for chosen, regions in scenes)
        labels = self._noise_free_labels(split, index) if labelled else None
        return PairBatch(first=first, second=second, first_labels=labels, second_labels=labels)

    def misregistered_pairs(
        self,
        split: str,
        index: Int[Tensor, " n"],
        maps: Float[Tensor, "n 2 3"],
        exchange: Bool[Tensor, " n"],
        *,
        labelled: bool,
    ) -> PairBatch:
        """Each indexed scene and the same displaced by a map, exchanged where asked; everything is on the device.

        A scene ends at its border, where the displaced image is reflected. Both images have the labels of the scene.
        """
        chosen, regions = self._scenes(split, index)
        image = self._draw(chosen, regions, chosen.classes)
        labels = label_map(chosen.classes, regions) if labelled else None
        moved, exchange = pairing.displace(image, maps), exchange[:, None, None, None]
        return PairBatch(
            first=moved.where(exchange, image),
            second=image.where(exchange, moved),
            first_labels=labels,
            second_labels=labels,
        )

    def pool(self, rho: float, nu: float, pairing: Pairing, generator: torch.Generator) -> "VtsPool":
        """The training scenes; each time, a scene is noisy with probability rho. Nothing is drawn in advance."""
        return VtsPool(data=self, rho=rho, nu=nu, pairing=pairing)

    def validation_pairs(self) -> int:
        """Number of validation scenes."""
        return self.count("val")

    def validation(self, index: Int[Tensor, " n"], *, labelled: bool) -> PairBatch:
        """Validation scenes without noise, each paired with itself."""
        clean = torch.zeros(len(index), dtype=torch.bool)
        return self.pairs("val", index, clean, clean, 0.0, labelled=labelled)

    def class_counts(self) -> Int[Tensor, " classes"]:
        """Pixels of each class in the downstream training images."""
        counts = torch.zeros(len(self.classes), dtype=torch.long, device=self.device)
        for part in torch.arange(self.count("train")).split(256):
            labels = self.downstream("train", part)[1]
            counts += torch.bincount(labels.flatten().long(), minlength=len(self.classes))
        return counts

    def noise_free_labels(self, split: str, index: Int[Tensor, " n"]) -> UInt8[Tensor, "n h w"]:
        """The class of each pixel without noise."""
        return self._noise_free_labels(split, *send(self.device, index))

    def downstream(
        self, split: str, index: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n 3 h w"], UInt8[Tensor, "n h w"]]:
        """Images and true three-class labels of the downstream task; the same for every cell of a seed.

        The split `ood` is `test` with other textures in the regions of the third class: those of the fourth category.
        """
        (index,) = send(self.device, index)
        chosen, regions = self._scenes("test" if split == "ood" else split, index)
        third = IRRELEVANT if split == "ood" else NOISE
        category = shown_categories(chosen, torch.full_like(index, self.settings.downstream_noise), third)
        return self._draw(chosen, regions, category), label_map(category.clamp(max=NOISE), regions)

    def noise_pixels(self, nu: float) -> float:
        """The realised mean share of noise pixels in a noisy training image at per-image noise nu.

        nu is exact for the number of regions. For pixels it holds only on average, because regions differ in size.
        """
        count = noisy_regions(nu, self.settings.regions)
        covered = 0.0
        for part in torch.arange(self.count("train")).split(256):
            (index,) = send(self.device, part)
            noisy = self.shown_labels("train", index, torch.full_like(index, count))
            covered += float((noisy == NOISE).double().mean(dim=(1, 2)).sum())
        return covered / self.count("train")

    def shown_labels(
        self, split: str, index: Int[Tensor, " n"], noisy: Int[Tensor, " n"], noise: int = NOISE
    ) -> UInt8[Tensor, "n h w"]:
        """The category of each pixel if that many regions of each scene are noisy; everything is on the device."""
        chosen, regions = self._scenes(split, index)
        return label_map(shown_categories(chosen, noisy, noise), regions)

    def _noise_free_labels(self, split: str, index: Int[Tensor, " n"]) -> UInt8[Tensor, "n h w"]:
        chosen, regions = self._scenes(split, index)
        return label_map(chosen.classes, regions)

    def _scenes(self, split: str, index: Int[Tensor, " n"]) -> tuple[Scenes, Integer[Tensor, "n h w"]]:
        """The indexed scenes and their region maps; the index is on the device."""
        chosen = self.scenes[split]
        if split in self._regions:
            return chosen[index], self._regions[split][index]
        size = self.settings.size
        if len(chosen) * size**2 > KEPT[self.device.type] or self.settings.regions > 256:
            return chosen[index], region_map(chosen.sites[index], size)
        maps = [region_map(sites, size).to(torch.uint8) for sites in chosen.sites.split(64)]
        self._regions[split] = torch.cat(maps)
        return chosen[index], self._regions[split][index]

    def _draw(
        self, chosen: Scenes, regions: Integer[Tensor, "n h w"], category: Int[Tensor, "n r"]
    ) -> Float[Tensor, "n 3 h w"]:
        return from_bytes(render(chosen, category, regions, self.canvas))


@dataclass(frozen=True, kw_only=True, eq=False)
class VtsPool(TransferPool):
    """The training pairs of one cell."""

    data: Vts
    rho: float
    nu: float
    pairing: Pairing

    def __len__(self) -> int:
        return self.data.count("train")

    def transfer(
        self, index: Int[Tensor, " n"], draws: Draws, *, labelled: bool
    ) -> tuple[Transfer[PairBatch], Bool[Tensor, " n"]]:
        """The pairs of the indexed scenes, and which are noisy.

        The partner of a false positive is another clean scene. It gets the labels of the first scene, because the
        pair is treated as a true one.
        """
        noisy = pairing.choose_noisy(draws.noisy, self.rho)
        if self.pairing == "misregistration":
            settings = self.data.settings
            maps = pairing.displacements(settings, draws.partner, noisy, settings.size)
            show = partial(self.data.misregistered_pairs, "train", labelled=labelled)
            return Transfer(self.data.device, [index, maps, draws.swap < 0.5], show), noisy
        sides = pairing.swap_sides(*pairing.noisy_sides(noisy, self.pairing), draws.swap)
        show = partial(self.data.false_pairs, "train", labelled=labelled)
        if self.pairing == "false_positive":
            other = pairing.draw_partner(index, draws.partner, len(self))
            numbers = [index.where(~is_other, other) for is_other in sides]
        else:
            noise = IRRELEVANT if self.pairing == "irrelevant" else NOISE
            show = partial(self.data.shown_pairs, "train", labelled=labelled, noise=noise)
            count = noisy_regions(self.nu, self.data.settings.regions)
            numbers = [side * count for side in sides]
        return Transfer(self.data.device, [index, *numbers], show), noisy

    def measured_nu(self) -> float:
        """See `TransferPool.measured_nu`; over all scenes. A false positive may be each other scene."""
        count = len(self)
        parts = [send(self.data.device, part)[0] for part in torch.arange(count).split(256)]
        if self.pairing == "false_positive":
            ones = torch.stack([self._clean(index).long().sum(dim=0) for index in parts]).sum(dim=0)
            return float((2.0 * ones * (count - ones)).mean()) / (count * (count - 1))
        differing = (self._shown(index) != self._clean(index) for index in parts)
        return sum(float(part.double().mean(dim=(1, 2)).sum()) for part in differing) / count

    def _clean(self, index: Int[Tensor, " n"]) -> UInt8[Tensor, "n h w"]:
        """The class of each pixel without noise; everything is on the device."""
        return self.data.shown_labels("train", index, torch.zeros_like(index))

    def _shown(self, index: Int[Tensor, " n"]) -> UInt8[Tensor, "n h w"]:
        """The category of each pixel in the noisy partner, displaced in each way in turn; all is on the device."""
        settings = self.data.settings
        if self.pairing == "misregistration":
            each, always = (index.cpu() % pairing.PLACES) / pairing.PLACES, torch.ones(len(index), dtype=torch.bool)
            maps = pairing.displacements(settings, each, always, settings.size)
            return pairing.displace_labels(self._clean(index), *send(self.data.device, maps))
        noise = IRRELEVANT if self.pairing == "irrelevant" else NOISE
        count = torch.full_like(index, noisy_regions(self.nu, settings.regions))
        return self.data.shown_labels("train", index, count, noise)
