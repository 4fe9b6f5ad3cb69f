"""xBD as a data set: a store of the tiles of its tree, split into training, validation and test."""

import shlex
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int8

from datasets.errors import InputError
from datasets.files import cache_folder
from datasets.images.read import shape_of
from datasets.source import Demands, Place
from datasets.tiles import splits
from datasets.tiles.change import Changes
from datasets.tiles.cutting import Cut
from datasets.tiles.pairs import PairFiles, Problem, left_out_notes
from datasets.tiles.request import BuildRequest
from datasets.tiles.source import (
    TileSource,
    absence_notes,
    check_tiles,
    contrast_notes,
    scored_classes,
    source_fingerprint,
    used_tiles,
)
from datasets.tiles.store import Store, open_store
from datasets.types import SPLITS
from datasets.xbd import tree
from datasets.xbd.config import CLASSES, DAMAGED, SIDE, XbdSettings

if TYPE_CHECKING:
    import torch

    from datasets.tiles.dataset import TileDataset

VAL_SHARE = 0.3
"""Of the tiles (or images) of train and tier3: 11,002 of 36,672 tiles (paper, IV-A)."""
WHOLE = (9168, 933)
"""Image pairs of the published xBD: of train and tier3, and of test."""
FEW = 100
"""Image pairs below which results mean nothing."""
MANY = 50_000
"""Tiles above which a note warns of long cells: xBD has 40,404 tiles of 512 px, and 16 times as many of 128 px."""
SHOWN = 10
"""Lines of the notes on left-out files; `prepare` lists all files."""
PREPARE = "python -m datasets.xbd prepare --skip-bad"
REMEDY = "repair or unpack these files again, or leave them out with --skip-bad, with which `prepare` lists each"


def load(settings: XbdSettings, place: Place, *, jobs: int = 0) -> TileSource:
    """The tiles of an xBD tree, split into training, validation and test.

    Args:
        settings: how to cut and split.
        place: folders of the tree and of the arrays.
        jobs: threads that decode images; 0: one per core.

    Raises:
        InputError: there is no xBD tree, files cannot be used (all are listed), or a split would be empty.
    """
    request = build_request(settings, place, jobs=jobs)
    root = request.root
    if place.skip_bad or not request.problems:  # otherwise opening the store lists all problems
        check_splits(root, {pair.split for pair in request.pairs}, request.problems)
    store = open_tiles(request)
    check_splits(root, set(store.tiles["split"]), store.left_out)
    splits.check_groups(root, set(store.pairs["group"]), settings.ood)
    split = draw_splits(store.tiles, split_by=settings.split_by, seed=settings.split_seed)
    split = splits.hold_out(root, split, store.tiles["group"].to_numpy(str), settings.ood)
    if not (split == SPLITS.index("train")).any():
        raise InputError(f"{root}: too few pairs in train and tier3 for a training and a validation set; add some")
    source = TileSource(
        store=store,
        split=split,
        classes=CLASSES,
        title=title(store) + scored_classes(store, split, CLASSES),
        notes=(),
        fingerprint=source_fingerprint(store, split, CLASSES),
        dense_labels="binary",
        min_share=settings.min_share,
        noisy_classes=DAMAGED,
        changes=Changes(store=store, damage=DAMAGED),
    )
    left_out = left_out_notes(store.left_out, PREPARE, most=SHOWN)
    return replace(source, title=source.title + used_tiles(source), notes=(*notes(settings, source, root), *left_out))


def notes(settings: XbdSettings, source: TileSource, root: Path) -> list[str]:
    """What a user must know of the tiles, besides the files that were left out."""
    store = source.store
    return [
        *caveats(settings, store),
        *tree.remarks(root),
        *absence_notes(store, source.split, CLASSES),
        *contrast_notes(source),
    ]


def survey(settings: XbdSettings, place: Place, demands: Demands) -> None:
    """Check what is known before images are read.

    Raises:
        InputError: there is no xBD tree, files are missing, or a split would be empty.
    """
    request = build_request(settings, place)
    request.refuse([])
    check_splits(request.root, {pair.split for pair in request.pairs}, request.problems)
    splits.check_groups(request.root, {pair.group for pair in request.pairs}, settings.ood)


def check(settings: XbdSettings, source: TileSource, demands: Demands) -> None:
    """Refuse a grid that needs more or other tiles.

    Raises:
        InputError: says what is missing, and what to do.
    """
    check_tiles(source, demands)


def open_data(settings: XbdSettings, source: TileSource, seed: int, device: "torch.device") -> "TileDataset":
    """The tiles on a device, the same for every seed."""
    from datasets.tiles.dataset import TileDataset  # imports torch, which the driver must not

    return TileDataset(source, device, settings)


def build_request(settings: XbdSettings, place: Place, *, jobs: int = 0, quiet: bool = False) -> BuildRequest:
    """The request for the store of a tree.

    Pairs of `train` and `tier3` have no split yet; those of `test` are the test set. `hold` is not used, because the
    paper tests on the official test set.

    Raises:
        InputError: there is no xBD tree at `place.root`, or its images have 16 bits.
    """
    root = tree.find_root(place.root)
    pairs, problems = tree.list_pairs(root, settings.masks)
    _check_depth(root, pairs)
    return BuildRequest(
        pairs=pairs,
        cut=Cut(size=settings.size, bands=settings.bands, noisy_classes=DAMAGED, unclassified=settings.unclassified),
        folder=place.store or cache_folder() / "stores",
        root=root,
        problems=problems,
        skip_bad=place.skip_bad,
        jobs=jobs or place.cores,
        quiet=quiet,
        remedy=REMEDY,
    )


def open_tiles(request: BuildRequest) -> Store:
    """Open the store of pairs of a tree, or build it.

    Raises:
        InputError: files cannot be used and may not be skipped, no pair is left, or a mask shows unknown classes.
    """
    store = open_store(request)
    classes = store.class_counts.shape[1]
    if classes > len(CLASSES):
        raise InputError(
            f"{request.root}: a file in targets/ shows class {classes - 1}, but xBD has the classes 0 to "
            f"{len(CLASSES) - 1}; use the polygons (--data.masks polygons)"
        )
    return store


def draw_splits(tiles: pd.DataFrame, *, split_by: str, seed: int) -> Int8[np.ndarray, " tiles"]:
    """The index of the split of each tile in `SPLITS`. Tiles without a split are divided, stratified by disaster.

    The draw depends on `seed` and on the names, groups and order of the tiles: "The validation set always contains
    the same 11 002 image pairs" (paper, IV-A).
    """
    split = np.array([SPLITS.index(name) if name else 0 for name in tiles["split"]], np.int8)
    drawn = (tiles["split"] == "").to_numpy(bool)
    split[drawn] = draw_validation(tiles[drawn], split_by=split_by, seed=seed)
    return split


def draw_validation(rows: pd.DataFrame, *, split_by: str, seed: int) -> Bool[np.ndarray, " rows"]:
    """Draw the rows for validation: .3 of them, or all rows of .3 of the images.

    Args:
        rows: tiles or whole pairs, with the columns `pair` and `group`.
        split_by: `tile` or `image`.
        seed: of the draw.
    """
    generator = np.random.default_rng(seed)
    if split_by == "image":
        return splits.stratified_by_owner(rows["pair"].tolist(), rows["group"].tolist(), VAL_SHARE, generator)
    return splits.stratified(rows["group"].to_numpy(str), VAL_SHARE, generator)


def title(store: Store) -> str:
    """A short description, such as `xBD (19 disasters, 9,168 + 933 image pairs)`: train and tier3, then test."""
    test = int((store.pairs["split"] == "test").sum())
    disasters = store.pairs["group"].nunique()
    number = f"{disasters} disaster{'s' if disasters > 1 else ''}"
    return f"xBD ({number}, {_sum((len(store.pairs) - test, test))} image pairs)"


def _sum(pairs: tuple[int, int]) -> str:
    return f"{pairs[0]:,} + {pairs[1]:,}"


def caveats(settings: XbdSettings, store: Store) -> list[str]:
    """Limits of what results mean, and pixels outside all tiles."""
    lines = []
    test = int((store.pairs["split"] == "test").sum())
    if len(store.pairs) < FEW:
        lines.append(
            f"{len(store.pairs)} image pairs are far too few (the paper has {_sum(WHOLE)}): scores on them mean nothing"
        )
    elif (len(store.pairs) - test, test) != WHOLE:
        pairs = _sum((len(store.pairs) - test, test))
        lines.append(
            f"{pairs} image pairs are not the whole of xBD ({_sum(WHOLE)}): results on them are not those on xBD"
        )
    if len(store.tiles) > MANY:
        lines.append(f"{len(store.tiles):,} tiles: cells take long, because each reads all validation and test tiles")
    if rest := SIDE % settings.size:
        lines.append(f"tiles of {settings.size} px leave out {rest} px of each image at the right and at the bottom")
    return lines


def _check_depth(root: Path, pairs: Sequence[PairFiles]) -> None:
    """Refuse images of 16 bits, by the header of the first one of each folder: these settings give them no scale."""
    images = [pair.image for pair in reversed(pairs) if isinstance(pair.image, Path)]
    for image in {image.parent: image for image in images}.values():
        try:
            dtype = shape_of(image).dtype
        except InputError:
            continue  # a problem, which opening the store reports with all others
        if dtype != "uint8":
            raise InputError(
                f"{image}: has 16 bits per value, and the results of the paper are for the PNG files of 8 bits; "
                f"download these from {tree.SITE}, or list the tree for the preset manifest, which scales its values: "
                f"python -m datasets.xbd manifest {shlex.quote(str(root))} --out xbd.csv"
            )


def check_splits(root: Path, present: Collection[str], problems: Sequence[Problem]) -> None:
    """Refuse a tree without training or test pairs, given the splits of its pairs and what is left out.

    Raises:
        InputError: says which folder lacks pairs.
    """
    for split, folders, purpose in (("", "train, tier1 or tier3", "train on"), ("test", "test", "test on")):
        if split not in present:
            first = f" (the first problem is {problems[0].where}: {problems[0].what})" if problems else ""
            raise InputError(
                f"{root}: no pair in {folders} can be used, so there is nothing to {purpose}{first}; unpack xBD "
                f"({tree.SITE}) so that it is {tree.LAYOUT}"
            )
