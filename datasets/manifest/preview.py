"""Some pairs of a manifest as they will be seen: a tile of each, its partner, their masks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from datasets.errors import InputError
from datasets.manifest.rows import Listing
from datasets.tiles.cutting import MASKS, PARTNER_MASKS
from datasets.tiles.pairs import PairFiles
from datasets.tiles.store import Store
from datasets.types import IGNORED

COLORS = (  # Okabe-Ito: safe for the colour-blind; of the classes from 1 on, in turn
    (0.90, 0.62, 0.00),
    (0.34, 0.71, 0.91),
    (0.00, 0.62, 0.45),
    (0.94, 0.89, 0.26),
    (0.00, 0.45, 0.70),
    (0.84, 0.37, 0.00),
)
UNCOUNTED = (0.80, 0.47, 0.65)
COVER = 0.5
"""How much of a class's colour lies over the image."""
PANEL = 2.6
"""Side of a panel, inches."""
DPI = 120

Picture = Float[np.ndarray, "h w 3"]


def sample_pairs(pairs: Sequence[PairFiles], number: int, seed: int) -> list[PairFiles]:
    """So many pairs, drawn by the seed: as many that the manifest calls noisy as others, as far as there are."""
    order = [pairs[place] for place in np.random.default_rng(seed).permutation(len(pairs)).tolist()]
    noisy, others = [pair for pair in order if pair.noisy], [pair for pair in order if not pair.noisy]
    of_noisy = min(len(noisy), max((number + 1) // 2, number - len(others)))
    chosen = [*noisy[:of_noisy], *others[: number - of_noisy]]
    return sorted(chosen, key=pairs.index)


def representative_tiles(store: Store) -> list[int]:
    """For each pair the number of its tile that tells most: a noisy one, and then one that is not all background."""
    tiles = store.tiles
    beyond = (store.image_counts + store.partner_counts)[:, 1:].sum(axis=1)
    best = tiles.assign(beyond=beyond).sort_values(["noisy", "beyond", "number"], ascending=[False, False, True])
    return best.groupby("pair", sort=False)["number"].first().reindex(store.pairs["pair"]).tolist()


def save_preview(path: Path, listing: Listing, store: Store, names: Sequence[str]) -> None:
    """A row for each pair of the store: image, partner, and both under their masks, where there are any.

    Args:
        path: picture to write; its ending says the format.
        listing: the manifest, for the rows' numbers.
        store: the tiles of the pairs.
        names: of the classes; empty: their numbers.

    Raises:
        InputError: matplotlib knows no format of the ending of `path`.
        OSError: the picture cannot be written.
    """
    numbers = representative_tiles(store)
    masked = [name for name in (MASKS, PARTNER_MASKS) if (store.path / f"{name}.npy").exists()]
    width, height = PANEL * (2 + len(masked)), (PANEL + 0.35) * len(numbers) + 0.8
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    axes = figure.subplots(len(numbers), 2 + len(masked), squeeze=False)
    shown: set[int] = set()
    for line, number in zip(axes, numbers, strict=True):
        shown |= _draw_row(list(line), listing, store, number, masked)
    keys = [Patch(facecolor=color(label), label=_label(label, names)) for label in sorted(shown - {0})]
    if keys:
        figure.legend(handles=keys, loc="outside lower center", ncols=min(len(keys), 2 * len(axes[0])), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        figure.savefig(path)
    except ValueError as error:  # an ending that matplotlib does not know
        raise InputError(f"--out {path}: {error}") from error


def _draw_row(line: Sequence[Axes], listing: Listing, store: Store, number: int, masked: Sequence[str]) -> set[int]:
    """Draw one tile's panels; returns the labels that its masks show."""
    tile = store.tiles.iloc[number]
    pictures = stretch_contrast(np.stack([store.image()[number], store.partner()[number]]))
    kind = "noisy" if tile["noisy"] else "clean"
    group = f", {tile['group']}" if tile["group"] else ""
    _show(line[0], pictures[0], f"row {listing.row[tile['pair']]}: {_short(tile['pair'])}\nimage")
    _show(line[1], pictures[1], f"{tile['split']}, {kind}{group}; tile at {tile['left']}, {tile['top']} px\npartner")
    labels: set[int] = set()
    sides = {MASKS: (0, store.mask, "mask of the image"), PARTNER_MASKS: (1, store.partner_mask, "mask of the partner")}
    for axis, name in zip(line[2:], masked, strict=True):
        side, array, title = sides[name]
        mask = np.array(array()[number])
        labels |= set(np.unique(mask).tolist())
        _show(axis, overlay_classes(pictures[side], mask), title)
    return labels


def stretch_contrast(pixels: UInt8[np.ndarray, "two h w bands"] | np.ndarray) -> Float[np.ndarray, "two h w 3"]:
    """Image and partner as RGB in [0, 1]: 8-bit RGB as it is, others from their 2nd to their 98th percentile.

    Of more bands than three the first three are shown, of fewer the first in grey. Both are stretched alike, so that
    what differs between them shows.
    """
    bands = pixels.shape[-1]
    if bands == 3 and pixels.dtype == np.uint8:
        return pixels / 255
    chosen = pixels[..., :3] if bands >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)
    low, high = np.percentile(chosen, (2, 98), axis=(0, 1, 2))
    return np.clip((chosen - low) / np.maximum(high - low, 1), 0, 1)


def overlay_classes(picture: Picture, mask: UInt8[np.ndarray, "h w"]) -> Picture:
    """The picture under the colours of its classes; class 0 shows through."""
    drawn = picture.copy()
    for label in np.unique(mask[mask > 0]).tolist():
        where = mask == label
        drawn[where] = (1 - COVER) * drawn[where] + COVER * np.array(color(label))
    return drawn


def color(label: int) -> tuple[float, float, float]:
    """Of a class from 1 on, or of pixels that do not count."""
    return UNCOUNTED if label == IGNORED else COLORS[(label - 1) % len(COLORS)]


def _label(label: int, names: Sequence[str]) -> str:
    if label == IGNORED:
        return "not counted (255)"
    return names[label] if label < len(names) else f"class {label}"


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"...{name[-25:]}"


def _show(axis: Axes, picture: Picture, title: str) -> None:
    axis.imshow(picture, interpolation="nearest")
    axis.set_title(title, fontsize=7)
    axis.axis("off")
