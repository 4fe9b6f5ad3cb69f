"""Scenes: how fast they are described and rendered, compared with the speed of the encoder."""

from dataclasses import replace
from functools import partial

import torch

from benchmarks.speed.common import Table, best_engine, device, in_turn, main, scenes, time_it, vts
from benchmarks.speed.pretrain import settings
from datasets.seeding import stream
from datasets.vts.config import VtsSettings
from datasets.vts.dataset import Vts
from datasets.vts.textures import load_textures
from trainables.profiling.bare_step import bare_step


def run() -> list[Table]:
    """Describing, by number of scenes; rendering, compared with the encoder at 64, 128 and 256 px."""
    return [describing(), rendering()]


def describing() -> Table:
    """Seconds to describe a set of 256-px scenes, as each cell does at its start."""
    table = Table("Describing scenes at 256 px (6/12 to train, 3.6/12 to validate, 2.4/12 to test)", ("scenes", "s"))
    bank = load_textures(VtsSettings(size=64), None)  # any textures, because nothing is rendered
    for count in (1500, 3000, 6000, 12000):
        counts = VtsSettings(train=count // 2, val=count * 3 // 10, test=count // 5)
        make = partial(Vts, counts, bank, partial(stream, 0), device())
        table.add(count, time_it(make, device()).median)
    table.show()
    return table


def rendering() -> Table:
    """The rate of rendering a batch of positive pairs, and its ratio to the rate of the encoder."""
    table = Table(
        "Rendering pairs (both images, without labels) and the bare MoCo step with ResNet-18 on them",
        ("px", "batch", "regions", "pairs/s", "encoder, pairs/s", "times faster"),
    )
    for size, batch in ((64, 64), (128, 64), (256, 16)):
        recipe = settings(size, batch)
        recipe = replace(recipe, data=replace(vts(recipe), train=1000, texture_scale=1.0))
        bank = load_textures(vts(recipe), None)
        step = bare_step("moco", recipe, best_engine(), device())
        index = torch.arange(batch)
        noisy = index % 2 == 0
        for kept in (True, False):
            data = scenes(recipe, bank)
            if not kept:  # as for a set that is too large to keep its region maps
                data = scenes(replace(recipe, data=replace(vts(recipe), train=2**26 // size**2 + 1)), bank)
            render = partial(data.pairs, "train", index, ~noisy, noisy, 0.5, labelled=False)
            rendered, encoded = in_turn([render, step], device(), rounds=5)
            regions = "kept" if kept and 1000 * size**2 <= 2**26 else "found each time"
            times = encoded.median / rendered.median
            table.add(size, batch, regions, batch / rendered.median, batch / encoded.median, times)
    table.show()
    return table


if __name__ == "__main__":
    main("benchmarks.speed.scenes", run)
