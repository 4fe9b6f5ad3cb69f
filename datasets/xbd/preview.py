"""Tiles of xBD with their masks drawn over them: do the polygons sit on the houses?"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from datasets.errors import InputError
from datasets.tiles.store import Store
from datasets.types import IGNORED
from datasets.xbd.config import CLASSES

COLORS = {  # Okabe-Ito: safe for the colour-blind, from sky blue over yellow to vermilion as the damage grows
    1: (0.34, 0.71, 0.91),
    2: (0.94, 0.89, 0.26),
    3: (0.90, 0.62, 0.00),
    4: (0.84, 0.37, 0.00),
    IGNORED: (0.80, 0.47, 0.65),
}
FILL = 0.35
"""How much of a colour lies over the image inside an outline."""
PANEL = 3.5
"""Side of a panel, inches."""
DPI = 150

Picture = Float[np.ndarray, "h w 3"]


def choose_tiles(store: Store, number: int, seed: int) -> Int64[np.ndarray, " chosen"]:
    """Tiles that hold buildings, drawn by the seed: noisy ones first, then clean ones, a third if there are as many.

    Raises:
        InputError: no tile holds a building.
    """
    generator = np.random.default_rng(seed)
    built = store.class_counts[:, 1:].sum(axis=1) > 0
    noisy = store.tiles["noisy"].to_numpy(bool)
    kinds = [generator.permutation(np.flatnonzero(built & which)) for which in (noisy, ~noisy)]
    if not built.any():
        raise InputError(
            f"none of the {len(built)} tiles looked at holds a building; try another --seed or more --tiles"
        )
    clean = min(len(kinds[1]), max(number // 3, number - len(kinds[0])))
    return np.concatenate([kinds[0][: number - clean], kinds[1][:clean]])


def window(masks: UInt8[np.ndarray, "sides h w"], zoom: int) -> tuple[slice, slice]:
    """Where 1/zoom of a tile's side shows most building pixels, damaged ones first; rows, then columns."""
    size = masks.shape[-1]
    side = max(1, size // zoom)
    shown = masks[..., : size // side * side, : size // side * side]
    weight = ((shown > 0) + len(CLASSES) * ((shown > 1) & (shown != IGNORED))).sum(axis=0, dtype=np.int64)
    sums = weight.reshape(size // side, side, size // side, side).sum(axis=(1, 3))
    row, column = np.unravel_index(int(sums.argmax()), sums.shape)
    return slice(int(row) * side, (int(row) + 1) * side), slice(int(column) * side, (int(column) + 1) * side)


def overlay(picture: Picture, mask: UInt8[np.ndarray, "h w"]) -> Picture:
    """The picture with each class filled in its colour, and outlined where the class changes."""
    drawn = picture.copy()
    edge = outline(mask)
    for label, color in COLORS.items():
        inside = mask == label
        drawn[inside] = (1 - FILL) * drawn[inside] + FILL * np.array(color)
        drawn[inside & edge] = color
    return drawn


def outline(mask: UInt8[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Pixels that touch another class above, below, left or right."""
    edge = np.zeros(mask.shape, bool)
    down, right = mask[1:] != mask[:-1], mask[:, 1:] != mask[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge


def save_preview(path: Path, store: Store, tiles: Sequence[int], *, zoom: int, caption: str) -> None:
    """A row for each tile: before, after, and both with their masks.

    Args:
        path: picture to write; its ending says the format.
        store: where the tiles lie.
        tiles: numbers of the tiles.
        zoom: 1: whole tiles; above, 1/zoom of a tile's side where most buildings are.
        caption: what the whole picture is.

    Raises:
        InputError: matplotlib knows no such format.
        OSError: the picture cannot be written.
    """
    figure = Figure(figsize=(4 * PANEL, (PANEL + 0.3) * len(tiles) + 1), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(tiles), 4, squeeze=False)
    rows = store.tiles.set_index("number")
    for line, tile in zip(axes, tiles, strict=True):
        images = [np.array(side[tile]) for side in (store.image(), store.partner())]
        masks = [np.array(side[tile]) for side in (store.mask(), store.partner_mask())]
        where = window(np.stack(masks), zoom)
        pictures = [image[where] / np.iinfo(image.dtype).max for image in images]
        drawn = [overlay(picture, mask[where]) for picture, mask in zip(pictures, masks, strict=True)]
        row = rows.loc[tile]
        place = f"row {row['top'] + where[0].start}, column {row['left'] + where[1].start}"
        _show(line[0], pictures[0], f"{row['pair']}, {place}\nbefore")
        _show(line[1], pictures[1], f"tile {tile}, {'noisy' if row['noisy'] else 'clean'}\nafter")
        _show(line[2], drawn[0], "before: buildings")
        _show(line[3], drawn[1], "after: damage")
    names = {**dict(enumerate(CLASSES)), IGNORED: "ignored"}
    keys = [Patch(facecolor=color, label=names[label].replace("_", " ")) for label, color in COLORS.items()]
    figure.legend(handles=keys, loc="outside lower center", ncols=len(keys), frameon=False)
    figure.suptitle(caption, fontsize=11)
    try:
        figure.savefig(path)
    except ValueError as error:  # an ending that matplotlib does not know
        raise InputError(f"--out {path}: {error}") from error


def _show(axis: Axes, picture: Picture, title: str) -> None:
    axis.imshow(picture, interpolation="nearest")
    axis.set_title(title, fontsize=7)
    axis.axis("off")
