"""Builds the arrays of a store: cuts each pair into a file of its own, then joins these files.

Both steps run in threads. An interrupted build resumes: it uses the files of pairs that are already there.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from datasets.errors import InputError
from datasets.images.read import Shape
from datasets.tiles import cutting
from datasets.tiles.cutting import CHANGES, IMAGES, MASKS, PARTNER_MASKS, PARTNERS, PairTiles
from datasets.tiles.earlier import EarlierStore
from datasets.tiles.pair_file import load_tiles, save_tiles
from datasets.tiles.pairs import PairFiles, Problem
from datasets.tiles.request import BuildRequest

SPARE = 2**24  # bytes that must be free besides the tiles, for tables

Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True, eq=False)
class JoinedPair:
    """A pair whose tiles are in the arrays."""

    pair: PairFiles
    across: int
    """Tiles in one row of the image's grid."""
    tiles: PairTiles
    """Its tiles without the blocks."""


def survey(request: BuildRequest) -> tuple[dict[str, Shape], list[Problem]]:
    """The shapes of usable pairs, by name, from the headers of their images, and the problems of the others."""
    with ThreadPoolExecutor(request.threads) as pool:
        surveys = list(pool.map(lambda pair: cutting.survey_pair(pair, request.cut, request.base), request.usable))
    problems = [problem for survey in surveys for problem in survey.problems]
    shapes = {pair.name: survey.shape for pair, survey in zip(request.usable, surveys, strict=True) if survey.shape}
    if shapes:
        ((usual, _),) = Counter(shape.dtype for shape in shapes.values()).most_common(1)
        for pair in request.usable:
            if pair.name in shapes and (dtype := shapes[pair.name].dtype) != usual:
                what = f"is {dtype}, where most images are {usual}; all must have the same depth"
                problems.append(Problem(where=cutting.relative(pair.image, request.base), what=what, pair=pair.name))
                del shapes[pair.name]
    return shapes, problems


def cut_pairs(request: BuildRequest, shapes: Mapping[str, Shape], earlier: EarlierStore) -> list[Problem]:
    """Cut the pairs of `shapes` into files in the work folder, except those whose files or tiles are there.

    Returns:
        The problems of pairs that could not be read.

    Raises:
        OSError: the tiles cannot be written.
        InputError: there is too little space for them.
    """
    layout = _layout(request, shapes)
    files = {name: request.work / request.pair_file(name) for name in shapes}
    request.work.mkdir(parents=True, exist_ok=True)
    for path in set(request.work.iterdir()).difference(files.values()):
        path.unlink()  # of pairs that changed, or of a join that was interrupted
    tile = sum(row.itemsize for row in layout.values())
    needed = tile * sum(request.cut.tiles(shape) for shape in shapes.values()) + SPARE
    _check_space(request, needed - sum(path.stat().st_size for path in files.values() if path.exists()))

    def cut(pair: PairFiles) -> tuple[Problem, ...]:
        path, shape = files[pair.name], shapes[pair.name]
        number = request.cut.tiles(shape)
        known = earlier.tiles(request.keys[pair.name], number, layout, verify=True)
        if not known and not load_tiles(path, number, layout, verify=True):
            try:
                save_tiles(path, cutting.cut_pair(pair, shape, request.cut, tuple(layout), request.base))
            except cutting.UnusablePair as error:
                path.unlink(missing_ok=True)
                return error.problems
        return ()

    return [problem for problems in _for_each(request, shapes, cut) for problem in problems]


def join_pairs(request: BuildRequest, shapes: Mapping[str, Shape], earlier: EarlierStore) -> list[JoinedPair]:
    """Move the tiles of the pairs of `shapes` from their files to arrays in the work folder, in order.

    Tiles of an earlier store are copied. Each file is deleted once its tiles are in the arrays, so that the disk never
    holds all tiles twice.

    Raises:
        OSError: the arrays cannot be written.
        InputError: a file is damaged.
    """
    layout = _layout(request, shapes)
    first_rows, number = {}, 0
    for pair in request.usable:
        if pair.name in shapes:
            first_rows[pair.name] = number
            number += request.cut.tiles(shapes[pair.name])
    starts = {name: _start_array(request.work / f"{name}.npy", tile, number) for name, tile in layout.items()}

    def join(pair: PairFiles) -> JoinedPair:
        path, shape = request.work / request.pair_file(pair.name), shapes[pair.name]
        number = request.cut.tiles(shape)
        tiles = load_tiles(path, number, layout, verify=False)
        tiles = tiles or earlier.tiles(request.keys[pair.name], number, layout, verify=False)
        if not tiles:
            raise InputError(f"{path} was damaged after it was written; check the disk, then run the same command")
        for name, tile in layout.items():
            with open(request.work / f"{name}.npy", "r+b") as file:
                file.seek(starts[name] + first_rows[pair.name] * tile.itemsize)
                file.write(tiles.blocks[name].data)  # unlike a memory map, this raises an error on a full disk
        path.unlink(missing_ok=True)
        return JoinedPair(pair=pair, across=shape.width // request.cut.size, tiles=replace(tiles, blocks={}))

    return _for_each(request, shapes, join)


def _layout(request: BuildRequest, shapes: Mapping[str, Shape]) -> dict[str, np.dtype]:
    """The arrays of the store, each with the dtype and shape of one tile; masks only if a pair has one."""
    size, (depth,) = request.cut.size, {shape.dtype for shape in shapes.values()}
    pixels, classes = np.dtype((depth, (size, size, request.cut.bands))), np.dtype((np.uint8, (size, size)))
    layout = {IMAGES: pixels, PARTNERS: pixels}
    if any(pair.mask for pair in request.usable):
        layout[MASKS] = classes
    if any(pair.partner_mask for pair in request.usable):
        layout[PARTNER_MASKS] = classes
    if any(pair.change_mask for pair in request.usable):
        layout[CHANGES] = classes
    return layout


def _check_space(request: BuildRequest, needed: int) -> None:
    free = shutil.disk_usage(request.work).free
    if free < needed:
        raise InputError(
            f"the tiles need {needed / 1e9:.2f} GB in {request.work.parent}, where {free / 1e9:.2f} GB are free; "
            "free some, or name a folder on another disk for them"
        )


def _start_array(path: Path, tile: np.dtype, number: int) -> int:
    """Begin a .npy file of so many tiles; returns where they start."""
    with open(path, "wb") as file:
        kind = np.lib.format.dtype_to_descr(tile.base)
        header = {"descr": kind, "fortran_order": False, "shape": (number, *tile.shape)}
        np.lib.format.write_array_header_1_0(file, header)
        return file.tell()


def _for_each(request: BuildRequest, shapes: Mapping[str, Shape], task: Callable[[PairFiles], Result]) -> list[Result]:
    """The results of a task for each pair of `shapes`, in order, run in threads under a progress bar."""
    pairs = [pair for pair in request.usable if pair.name in shapes]
    pool = ThreadPoolExecutor(request.threads)
    try:
        return list(tqdm(pool.map(task, pairs), total=len(pairs), unit="pair", disable=not request.progress_bar))
    finally:
        pool.shutdown(cancel_futures=True)  # after a full disk or Ctrl-C, do not work through all pairs
