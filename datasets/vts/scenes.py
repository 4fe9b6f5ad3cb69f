"""VTS scenes, described by a few numbers each and rendered in batches at any noise (paper, IV-B and Fig. 3)."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, UInt8
from torch import Tensor

from datasets.vts.textures import TextureBank

NOISE = 2  # the third category, and the third class downstream
IRRELEVANT = 3  # noise that is no downstream class (paper, B3), if there are textures for it


@dataclass(frozen=True, kw_only=True, eq=False)
class Scenes:
    """n scenes of r regions, from which clean images, noisy images at any nu, and labels are rendered."""

    sites: Float[Tensor, "n r 2"]
    """Voronoi sites (row, column), uniform in the unit square."""
    classes: Int[Tensor, "n r"]
    """Class of each region: 0 for half of the regions, 1 for the other half."""
    rank: Int[Tensor, "n r"]
    """The order in which regions become noisy: a region is noisy if its rank is below the number of noisy regions. The
    order is the same for every nu, so that noisy sets are nested."""
    image: Int[Tensor, "n k"]
    """Number of the texture image of each category, in the bank."""
    window: Float[Tensor, "n k 2"]
    """Position of the window in that texture image: share of the possible rows and columns, in [0, 1)."""

    def __len__(self) -> int:
        return self.sites.shape[0]

    def __getitem__(self, index: Int[Tensor, " m"]) -> "Scenes":
        return Scenes(**{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def to(self, device: torch.device) -> "Scenes":
        """The same scenes on another device."""
        return Scenes(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def draw_scenes(count: int, regions: int, images: Sequence[np.ndarray], generator: torch.Generator) -> Scenes:
    """Draw `count` scenes; a fourth category does not change the draws of the others.

    Args:
        count: number of scenes, n.
        regions: Voronoi regions per scene, r; even.
        images: for each of the k categories, the numbers of the images in the bank that this split may use.
        generator: the only source of randomness.
    """
    shuffle = torch.rand(count, regions, generator=generator).argsort(dim=1)
    chosen = torch.rand(count, IRRELEVANT, generator=generator)
    sites = torch.rand(count, regions, 2, generator=generator)
    rank = torch.rand(count, regions, generator=generator).argsort(dim=1)
    window = torch.rand(count, IRRELEVANT, 2, generator=generator)
    if more := len(images) - IRRELEVANT:
        chosen = torch.cat([chosen, torch.rand(count, more, generator=generator)], dim=1)
        window = torch.cat([window, torch.rand(count, more, 2, generator=generator)], dim=1)
    numbers = [
        torch.as_tensor(pool)[(chosen[:, k] * len(pool)).long().clamp_(max=len(pool) - 1)]
        for k, pool in enumerate(images)
    ]
    return Scenes(
        sites=sites,
        classes=(shuffle >= regions // 2).long(),
        rank=rank,
        image=torch.stack(numbers, dim=1).long(),
        window=window,
    )


def region_map(sites: Float[Tensor, "n r 2"], size: int) -> Int[Tensor, "n s s"]:
    """The region of each pixel, (n, size, size): the site nearest to the centre of the pixel."""
    centre = (torch.arange(size, device=sites.device) + 0.5) / size
    # |x - s|^2 without |x|^2, which is the same for every site; separable in rows and columns.
    row, column = sites[..., 0, None], sites[..., 1, None]
    by_row = row * row - 2 * centre * row
    by_column = column * column - 2 * centre * column
    # Not argmin, which takes five times as long on a CPU along any axis but the last.
    return (by_row[..., None] + by_column[..., None, :]).min(dim=1).indices


@dataclass(frozen=True, kw_only=True, eq=False)
class Canvas:
    """The texture bank on a device."""

    pixels: UInt8[Tensor, "total 3"]
    offset: Int[Tensor, " images"]
    height: Int[Tensor, " images"]
    width: Int[Tensor, " images"]

    @property
    def narrow(self) -> bool:
        """Whether pixels are counted in 32 bits: on a GPU, if they are not too many."""
        return self.pixels.is_cuda and len(self.pixels) < 2**31

    @staticmethod
    def of(bank: TextureBank, device: torch.device) -> "Canvas":
        """Copy the bank to the device; on the CPU its memory is shared."""
        with warnings.catch_warnings():
            # Arrays from Ray are read-only, of which torch warns; nothing here writes to them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            pixels = torch.from_numpy(bank.pixels).to(device)
        offset, height, width = (torch.tensor(array, device=device) for array in (bank.offset, bank.height, bank.width))
        return Canvas(pixels=pixels, offset=offset, height=height, width=width)


def shown_categories(scenes: Scenes, noisy_regions: Int[Tensor, " n"], noise: int = NOISE) -> Int[Tensor, "n r"]:
    """The category that each region shows if the first `noisy_regions` of each scene, by rank, show `noise`."""
    return scenes.classes.masked_fill(scenes.rank < noisy_regions[:, None], noise)


def label_map(category: Int[Tensor, "n r"], regions: Integer[Tensor, "n s s"]) -> UInt8[Tensor, "n s s"]:
    """The category of each pixel, from that of each region: the labels of the image that `render` draws."""
    return _spread(category.to(torch.uint8), _numbers(regions, category.shape[1])).view_as(regions)


def render(
    scenes: Scenes, category: Int[Tensor, "n r"], regions: Integer[Tensor, "n s s"], canvas: Canvas
) -> UInt8[Tensor, "n 3 s s"]:
    """Render each scene: a region shows the window of the texture image of its category.

    Args:
        scenes: n scenes.
        category: of each region, from `shown_categories`.
        regions: their `region_map`.
        canvas: the textures.
    """
    size = regions.shape[-1]
    height, width = canvas.height[scenes.image], canvas.width[scenes.image]
    top = (scenes.window[..., 0] * (height - size + 1)).long()
    left = (scenes.window[..., 1] * (width - size + 1)).long()
    start = (canvas.offset[scenes.image] + top * width + left).gather(1, category)
    stride = width.gather(1, category)
    if canvas.narrow:
        start, stride = start.int(), stride.int()
    # One gather for the whole batch: each pixel reads from the window of the category of its region.
    numbers = _numbers(regions, category.shape[1])
    line = torch.arange(size, device=numbers.device, dtype=start.dtype)
    first = _spread(start, numbers).view_as(regions) + _spread(stride, numbers).view_as(regions) * line[:, None]
    place = first + line
    if not canvas.narrow:
        return canvas.pixels[place].permute(0, 3, 1, 2)
    return canvas.pixels.index_select(0, place.flatten()).view(*place.shape, 3).permute(0, 3, 1, 2)


def _numbers(regions: Integer[Tensor, "n s s"], each: int) -> Integer[Tensor, "n pixels"]:
    """The region of each pixel, as `_spread` needs it: on a GPU numbered over all scenes, which have `each` regions.

    A GPU writes and reads a number for each pixel several times, and those of 32 bits in half the time; but `gather`
    accepts only those of 64 bits.
    """
    if not regions.is_cuda:
        return regions.flatten(1).long()
    first = torch.arange(0, each * len(regions), each, device=regions.device, dtype=torch.int32)
    return ((regions if regions.dtype == torch.uint8 else regions.int()) + first[:, None, None]).flatten(1)


def _spread(values: Integer[Tensor, "n r"], numbers: Integer[Tensor, "n pixels"]) -> Integer[Tensor, "n pixels"]:
    """The value of the region of each pixel, from that of each region."""
    if not numbers.is_cuda:
        return values.gather(1, numbers)
    return values.flatten().index_select(0, numbers.flatten()).view_as(numbers)
