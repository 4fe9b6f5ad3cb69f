"""Draws some pairs of a manifest: one tile of each, its partner, and both under their masks."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from datasets.manifest.rows import Listing
from datasets.misregistration import Misregistration
from datasets.panels import CHANGED, IGNORED_COLOR, Color, overlay, save_panels
from datasets.tiles.change import Changes
from datasets.tiles.cutting import CHANGES, MASKS, PARTNER_MASKS
from datasets.tiles.pairs import PairFiles
from datasets.tiles.store import Store
from datasets.types import IGNORED

COLORS: tuple[Color, ...] = (  # Okabe-Ito: of the classes from 1 on, in turn
    (0.90, 0.62, 0.00),
    (0.34, 0.71, 0.91),
    (0.00, 0.62, 0.45),
    (0.94, 0.89, 0.26),
    (0.00, 0.45, 0.70),
    (0.84, 0.37, 0.00),
)


def sample_pairs(pairs: Sequence[PairFiles], number: int, seed: int) -> list[PairFiles]:
    """Draw pairs: as many that the manifest calls noisy as others, if there are enough of both."""
    order = [pairs[place] for place in np.random.default_rng(seed).permutation(len(pairs)).tolist()]
    noisy, others = [pair for pair in order if pair.noisy], [pair for pair in order if not pair.noisy]
    of_noisy = min(len(noisy), max((number + 1) // 2, number - len(others)))
    chosen = [*noisy[:of_noisy], *others[: number - of_noisy]]
    return sorted(chosen, key=pairs.index)


def representative_tiles(store: Store) -> list[int]:
    """The number of one tile of each pair: a noisy one if there is one, then the one with least background."""
    foreground = (store.image_counts + store.partner_counts)[:, 1:].sum(axis=1)
    tiles = store.tiles.assign(foreground=foreground)
    best = tiles.sort_values(["noisy", "foreground", "number"], ascending=[False, False, True])
    return best.groupby("pair", sort=False)["number"].first().reindex(store.pairs["pair"]).tolist()


def save_preview(
    path: Path,
    listing: Listing,
    store: Store,
    names: Sequence[str],
    misregistration: Misregistration | None = None,
) -> None:
    """Draw one row for each pair of the store: image, partner, and both under their masks, if any pair has masks.

    Args:
        path: picture to write; its suffix selects the format.
        listing: the manifest, for the numbers of its rows.
        store: the tiles of the pairs.
        names: of the classes; empty: their numbers.
        misregistration: also show the partner displaced; None: do not.

    Raises:
        InputError: matplotlib does not know the format.
        OSError: the picture cannot be written.
    """
    masks = {
        name: array()
        for name, array in ((MASKS, store.mask), (PARTNER_MASKS, store.partner_mask))
        if (store.path / f"{name}.npy").exists()
    }
    changes = Changes(store=store)
    rows, labels = [], set[int]()
    for number in representative_tiles(store):
        shown = {name: np.array(mask[number]) for name, mask in masks.items()}
        if (changes.by_mask | changes.by_classes).any():
            shown[CHANGES] = changes.labels(np.array([number]))[0]
        labels.update(*(np.unique(mask).tolist() for name, mask in shown.items() if name != CHANGES))
        rows.append(_panels(listing, store, number, shown))
        if misregistration:
            from datasets.tiles.surroundings import displaced_partner  # imports torch, which takes seconds

            largest = np.iinfo(store.dtype).max
            moved = (displaced_partner(store, number, misregistration) * largest).round().astype(store.dtype)
            _, picture = stretch_contrast(np.stack([store.partner()[number], moved]))
            rows[-1].append((f"partner, displaced: {misregistration.text}", picture))
    legend = {_label(label, names): color(label) for label in sorted(labels - {0})}
    save_panels(path, rows, legend=legend | ({"changed": CHANGED} if CHANGES in shown else {}))


def _panels(
    listing: Listing, store: Store, number: int, masks: dict[str, UInt8[np.ndarray, "h w"]]
) -> list[tuple[str, np.ndarray]]:
    """The panels of one tile."""
    tile = store.tiles.iloc[number]
    image, partner = stretch_contrast(np.stack([store.image()[number], store.partner()[number]]))
    kind = "noisy" if tile["noisy"] else "clean"
    group = f", {tile['group']}" if tile["group"] else ""
    panels = [
        (f"row {listing.row[tile['pair']]}: {_short(tile['pair'])}\nimage", image),
        (f"{tile['split']}, {kind}{group}; tile at {tile['left']}, {tile['top']} px\npartner", partner),
    ]
    for name, title, picture in ((MASKS, "mask of the image", image), (PARTNER_MASKS, "mask of the partner", partner)):
        if name in masks:
            colors = {label: color(label) for label in np.unique(masks[name]).tolist()}
            panels.append((title, overlay(picture, masks[name], colors)))
    if CHANGES in masks:
        changed = masks[CHANGES]
        if (changed == IGNORED).all():
            panels.append(("what changed is not known", partner))
        else:
            colors = {1: CHANGED, IGNORED: IGNORED_COLOR}
            panels.append((f"changed: {(changed == 1).mean():.1%}", overlay(partner, changed, colors)))
    return panels


def stretch_contrast(pixels: UInt8[np.ndarray, "two h w bands"] | np.ndarray) -> Float[np.ndarray, "two h w 3"]:
    """Image and partner as RGB in [0, 1]: 8-bit RGB as it is, others from their 2nd to their 98th percentile.

    The first three bands are shown; if there are fewer, the first in grey. Both images are stretched alike, so that
    their differences show.
    """
    bands = pixels.shape[-1]
    if bands == 3 and pixels.dtype == np.uint8:
        return pixels / 255
    chosen = pixels[..., :3] if bands >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)
    if chosen.dtype.kind != "f":
        low, high = np.percentile(chosen, (2, 98), axis=(0, 1, 2))
        return np.clip((chosen - low) / np.maximum(high - low, 1), 0, 1)
    known = np.isfinite(chosen).all(axis=-1)
    low, high = np.percentile(chosen[known], (2, 98), axis=0) if known.any() else (np.zeros(3), np.ones(3))
    stretched = (chosen - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
    return np.clip(np.nan_to_num(stretched), 0, 1)  # nodata is black


def color(label: int) -> tuple[float, float, float]:
    """The colour of a class from 1 on, or of ignored pixels."""
    return IGNORED_COLOR if label == IGNORED else COLORS[(label - 1) % len(COLORS)]


def _label(label: int, names: Sequence[str]) -> str:
    if label == IGNORED:
        return "not counted (255)"
    return names[label] if label < len(names) else f"class {label}"


def _short(name: str) -> str:
    return name if len(name) <= 28 else f"...{name[-25:]}"
