"""Draws tiles of xBD under their masks, to check that the polygons lie on the buildings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from datasets.errors import InputError
from datasets.misregistration import Misregistration
from datasets.panels import CHANGED, IGNORED_COLOR, Color, overlay, save_panels
from datasets.tiles.change import Changes
from datasets.tiles.store import Store
from datasets.types import IGNORED
from datasets.xbd.config import CLASSES, DAMAGED

COLORS: dict[int, Color] = {  # Okabe-Ito: from sky blue over yellow to vermilion as the damage grows
    1: (0.34, 0.71, 0.91),
    2: (0.94, 0.89, 0.26),
    3: (0.90, 0.62, 0.00),
    4: (0.84, 0.37, 0.00),
    IGNORED: IGNORED_COLOR,
}
CHANGE_COLORS: dict[int, Color] = {1: CHANGED, IGNORED: IGNORED_COLOR}
NAMES = {**dict(enumerate(CLASSES)), IGNORED: "ignored"}


def choose_tiles(store: Store, number: int, seed: int) -> Int64[np.ndarray, " chosen"]:
    """Draw tiles with buildings: noisy ones first, then clean ones, which are a third if there are enough of both.

    Raises:
        InputError: no tile has a building.
    """
    generator = np.random.default_rng(seed)
    built = store.class_counts[:, 1:].sum(axis=1) > 0
    noisy = store.tiles["noisy"].to_numpy(bool)
    kinds = [generator.permutation(np.flatnonzero(built & which)) for which in (noisy, ~noisy)]
    if not built.any():
        raise InputError(f"none of the {len(built)} tiles read has a building; try another --seed or more --tiles")
    clean = min(len(kinds[1]), max(number // 3, number - len(kinds[0])))
    return np.concatenate([kinds[0][: number - clean], kinds[1][:clean]])


def window(masks: UInt8[np.ndarray, "sides h w"], zoom: int) -> tuple[slice, slice]:
    """The rows and columns of the part of a tile, 1/zoom of its side, with most building pixels, damaged ones first."""
    size = masks.shape[-1]
    side = max(1, size // zoom)
    shown = masks[..., : size // side * side, : size // side * side]
    weight = ((shown > 0) + len(CLASSES) * ((shown > 1) & (shown != IGNORED))).sum(axis=0, dtype=np.int64)
    sums = weight.reshape(size // side, side, size // side, side).sum(axis=(1, 3))
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return slice(int(row) * side, (int(row) + 1) * side), slice(int(column) * side, (int(column) + 1) * side)


def save_preview(
    path: Path,
    store: Store,
    tiles: Sequence[int],
    *,
    zoom: int,
    caption: str,
    misregistration: Misregistration | None = None,
) -> None:
    """Draw one row for each tile: before, after, both under their masks, and what changed.

    Args:
        path: picture to write; its suffix selects the format.
        store: the store of the tiles.
        tiles: numbers of the tiles.
        zoom: 1: whole tiles; above, the part of each tile, 1/zoom of its side, with most buildings.
        caption: title of the picture.
        misregistration: also show the image after the disaster displaced; None: do not.

    Raises:
        InputError: matplotlib does not know the format.
        OSError: the picture cannot be written.
    """
    rows, changes = [], Changes(store=store, damage=DAMAGED)
    for tile in tiles:
        masks = [np.array(side[tile]) for side in (store.mask(), store.partner_mask())]
        part = window(np.stack(masks), zoom)
        pictures = [side[tile][part] / np.iinfo(side.dtype).max for side in (store.image(), store.partner())]
        before, after = (overlay(picture, mask[part], COLORS) for picture, mask in zip(pictures, masks, strict=True))
        changed = changes.labels(np.array([tile]))[0][part]
        row = store.tiles.iloc[tile]
        place = f"row {row['top'] + part[0].start}, column {row['left'] + part[1].start}"
        rows.append(
            [
                (f"{row['pair']}, {place}\nbefore", pictures[0]),
                (f"tile {tile}, {'noisy' if row['noisy'] else 'clean'}\nafter", pictures[1]),
                ("before: buildings", before),
                ("after: damage", after),
                (
                    "changed: damaged or not",
                    overlay(pictures[1], changed, CHANGE_COLORS),
                ),
            ]
        )
        if misregistration:
            from datasets.tiles.surroundings import displaced_partner  # imports torch, which takes seconds

            moved = displaced_partner(store, tile, misregistration)[part]
            rows[-1].append((f"after, displaced: {misregistration.text}", moved))
    legend = {NAMES[label].replace("_", " "): color for label, color in COLORS.items()}
    save_panels(path, rows, legend=legend | {"changed": CHANGED}, caption=caption)
