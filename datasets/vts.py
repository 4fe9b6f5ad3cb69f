"""VTS: the splits, positive pairs and downstream images of the synthetic set (paper, IV-B).

`python -m datasets.vts --preview FILE.png` draws the paper's Fig. 3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from datasets import textures, voronoi
from datasets.errors import InputError
from datasets.settings import SPLITS, VtsSettings, noisy_regions
from datasets.textures import TextureBank

CLASSES = ("texture_a", "texture_b", "noise")
"""Downstream classes in label order. Named by their role, since the textures behind them are a setting."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PairBatch:
    """n positive pairs before augmentation: images in [0, 1] and noise-free labels."""

    first: Float[Tensor, "n 3 h w"]
    second: Float[Tensor, "n 3 h w"]
    first_labels: UInt8[Tensor, "n h w"]
    second_labels: UInt8[Tensor, "n h w"]


def load_textures(settings: VtsSettings, root: Path | None, *, download: bool = False) -> TextureBank:
    """The texture images that the settings name, ready for scenes of the settings' size.

    Args:
        settings: which source, which categories, which scale.
        root: folder of a `folder` or `dtd` source.
        download: let torchvision download DTD into `root`; nothing is downloaded otherwise.

    Raises:
        InputError: no root was given where one is needed, or what lies there cannot be used.
    """
    if settings.textures == "procedural":
        return textures.procedural(settings.size)
    if root is None:
        raise InputError(f"--vts.textures {settings.textures}: say where the images lie with --data-root FOLDER")
    if settings.textures == "dtd":
        return textures.dtd(root, min_side=settings.size, scale=settings.texture_scale, download=download)
    return textures.folder(root, settings.categories, min_side=settings.size, scale=settings.texture_scale)


class Vts:
    """The scenes of one seed, rendered in batches on a device when asked for."""

    classes = CLASSES

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
            stream: gives the random stream of a purpose; the same seed gives the same scenes to every cell.
            device: where scenes are rendered.
        """
        self.settings = settings
        self.device = device
        self.canvas = voronoi.Canvas.of(bank, device)
        entropy = int(torch.randint(2**62, (), generator=stream("texture split")))
        split = textures.split_images(bank, np.random.default_rng(entropy))
        self.scenes = {
            name: voronoi.draw(getattr(settings, name), settings.regions, split[name], stream(f"scenes {name}")).to(
                device
            )
            for name in SPLITS
        }

    def count(self, split: str) -> int:
        """Scenes in a split."""
        return len(self.scenes[split])

    def pairs(
        self,
        split: str,
        index: Int[Tensor, " n"],
        first_noisy: Bool[Tensor, " n"],
        second_noisy: Bool[Tensor, " n"],
        nu: float,
    ) -> PairBatch:
        """Two images of each indexed scene, each clean or noisy at per-image noise `nu`, with noise-free labels.

        "For the dense supervised losses, we use the noise-free label for both the noise-free and the noisy images"
        (paper, IV-B1); so do mere-exposure pairs.
        """
        scenes = self.scenes[split][index.to(self.device)]
        count = noisy_regions(nu, self.settings.regions)
        regions = voronoi.region_map(scenes.sites, self.settings.size)
        first, second, labels = (
            self._render(scenes, regions, noisy * count)
            for noisy in (first_noisy, second_noisy, torch.zeros_like(second_noisy))
        )
        return PairBatch(first=first[0], second=second[0], first_labels=labels[1], second_labels=labels[1])

    def downstream(
        self, split: str, index: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n 3 h w"], UInt8[Tensor, "n h w"]]:
        """Images and true three-class labels of the downstream task: the same for every cell of the grid."""
        scenes = self.scenes[split][index.to(self.device)]
        noise = torch.full_like(index, self.settings.downstream_noise)
        return self._render(scenes, voronoi.region_map(scenes.sites, self.settings.size), noise)

    def noise_pixels(self, nu: float) -> float:
        """The realised mean share of pixels that noise covers in a noisy training image at per-image noise nu.

        nu is exact in regions and holds for pixels on average only, since regions differ in size.
        """
        scenes, size = self.scenes["train"], self.settings.size
        count = noisy_regions(nu, self.settings.regions)
        covered = 0.0
        for part in torch.arange(len(scenes), device=self.device).split(256):
            regions = voronoi.region_map(scenes.sites[part], size).flatten(1)
            covered += float((scenes.rank[part].gather(1, regions) < count).double().mean(dim=1).sum())
        return covered / len(scenes)

    def _render(
        self, scenes: voronoi.Scenes, regions: Int[Tensor, "n h w"], noise: Int[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n 3 h w"], UInt8[Tensor, "n h w"]]:
        images, labels = voronoi.render(scenes, regions, self.canvas, noise.to(self.device))
        return images.float().div_(255), labels


if __name__ == "__main__":
    from datasets.preview import main

    main()
