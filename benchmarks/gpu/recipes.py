"""What the parts train: recipes of the presets for GPUs, with data made here, and small ones for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np

from benchmarks.gpu.report import Setting
from benchmarks.gpu.xbd_tree import make_tree
from datasets.augment.config import MOCO_V2
from datasets.registry import load
from datasets.source import Demands, Place, Source
from datasets.tiles import sides
from datasets.vts.config import FAMILIES, VtsSettings
from datasets.vts.textures import TextureBank, pack
from datasets.xbd.config import SIDE, XbdSettings
from sweep.presets import preset
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.engine import Engine
from trainables.recipe import Recipe

ENGINE = Engine(precision="bf16", layout="channels_last", compile="no", threads=1)
"""The engine of the presets for GPUs."""
IMAGES = 120
"""Texture images of each family, as many as DTD has."""

PAPER, MOCO_VIEWS, SMALL = "vts-paper", "vts-paper, MoCo's views", "vts-gpu"
XBD, XBD_HOST = "xbd-paper", "xbd-paper, tiles on the host"
"""Names of recipes. The tiles of the last one are not kept on the GPU: those of the whole xBD are too many."""
TREE = {"train": 120, "test": 8, "side": SIDE}
"""Half of the tiles of 120 pairs are noisy, and 30 % validate: 336 train, more than a batch."""
TINY_TREE = {"train": 16, "test": 4, "side": 64}


def recipe_of(name: str, *, tiny: bool) -> Recipe:
    """A recipe by its name; tiny: with the same settings at small sizes."""
    recipe = preset(name.partition(",")[0]).recipe
    if isinstance(recipe.data, VtsSettings):
        recipe = replace(recipe, data=replace(recipe.data, textures="procedural"))
    if name == MOCO_VIEWS:
        recipe = replace(recipe, augment=MOCO_V2)
    return shrunk(recipe) if tiny else recipe


def shrunk(recipe: Recipe) -> Recipe:
    """A recipe whose steps take milliseconds on a CPU."""
    if isinstance(recipe.data, VtsSettings):
        recipe = replace(recipe, data=replace(recipe.data, size=32, train=32, val=8, test=8))
    if isinstance(recipe.data, XbdSettings):
        recipe = replace(recipe, data=replace(recipe.data, size=32))
    return replace(
        recipe,
        encoder=replace(recipe.encoder, slim=0.125, output_stride=8),
        moco=replace(recipe.moco, queue=64),
        pretrain=replace(recipe.pretrain, steps=4, batch=4, warmup=0, evaluations=2),
        probe=replace(recipe.probe, steps=4, batch=4, evaluations=2),
    )


def job_of(name: str, setting: Setting, engine: Engine = ENGINE) -> CellJob:
    """The job of cells with a recipe, with its data.

    Raises:
        InputError: the xBD tree of the user cannot be used.
    """
    recipe = recipe_of(name, tiny=setting.tiny)
    return CellJob(recipe=recipe, source=source_of(recipe, setting), engine=engine)


def cell_of(recipe: Recipe, objective: str) -> Cell:
    """A cell with noisy pairs; of seed 0."""
    return Cell(dataset=recipe.data.dataset, objective=objective, rho=0.5, nu=0.5)


def source_of(recipe: Recipe, setting: Setting) -> Source:
    """The data of a recipe.

    Raises:
        InputError: as `job_of`.
    """
    if isinstance(recipe.data, VtsSettings):
        return random_textures(recipe.data.size)
    folder = Path(setting.folder)
    root = Path(setting.xbd or folder / "xbd")
    if not setting.xbd:
        make_tree(root, **(TINY_TREE if setting.tiny else TREE))
    demands = Demands(
        rho=(0.5,), pairings=("noisy",), labels=True, batch=recipe.pretrain.batch, supervised_batch=0, probe_batch=2
    )
    return load(recipe.data, Place(root=root, store=None if setting.xbd else folder / "stores"), demands)


def random_textures(size: int) -> TextureBank:
    """Texture images of random pixels, as many and as large as the procedural ones, whose generation takes a minute."""
    side = round(1.5 * size)
    draws = np.random.default_rng(0)
    images = [[draws.integers(0, 256, (side, side, 3), np.uint8) for _ in range(IMAGES)] for _ in FAMILIES]
    return pack("procedural", FAMILIES, images)


@contextmanager
def tiles_of(name: str) -> Iterator[None]:
    """Context manager in which the data of this recipe are opened: it decides whether a GPU keeps tiles."""
    with patch.object(sides, "KEPT", 0.0 if name == XBD_HOST else sides.KEPT):
        yield
