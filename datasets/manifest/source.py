"""A manifest as a data set: a store of the tiles of its rows, with their splits and classes."""

import os
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int8

from datasets.errors import InputError
from datasets.files import cache_folder
from datasets.images.read import Embedded
from datasets.manifest.batches import address_of
from datasets.manifest.config import ManifestSettings
from datasets.manifest.rows import BITS, Listing, read_manifest
from datasets.source import Demands, Place
from datasets.tiles.change import Changes
from datasets.tiles.cutting import Cut
from datasets.tiles.pairs import PairFiles, ProblemsError, left_out_notes
from datasets.tiles.request import BuildRequest
from datasets.tiles.source import (
    NO_CHANGE,
    TileSource,
    absence_notes,
    check_tiles,
    class_pixels,
    contrast_notes,
    present_splits,
    scored_classes,
    source_fingerprint,
    split_counts,
    used_tiles,
)
from datasets.tiles.splits import check_groups, hold_out
from datasets.tiles.store import Store, open_store
from datasets.types import EVERY_SPLIT, SPLITS, Target

if TYPE_CHECKING:
    import torch

    from datasets.tiles.dataset import TileDataset

FEW = 100
"""Training pairs below which a note warns that they are few."""
SHOWN = 5
"""Lines of the notes on left-out rows; `check` lists all rows."""
CHECK = "python -m datasets.manifest check --skip-bad"


def load(settings: ManifestSettings, place: Place) -> TileSource:
    """Check the rows of the manifest `place.root`, and open or build the store of its tiles.

    Raises:
        InputError: the file or its rows cannot be used (`ProblemsError` lists all rows), mean and std are missing, or
            the tiles are insufficient (see `tile_source`).
    """
    listing = _checked_listing(settings, place)
    return tile_source(listing, settings, build_store(listing, settings, place))


def survey(settings: ManifestSettings, place: Place, demands: Demands) -> None:
    """Check what is known before images are read, which may take long.

    Raises:
        InputError: the file or its rows cannot be used, mean and std are missing, or no row of a split tells what a
            probe predicts.
    """
    listing = _checked_listing(settings, place)
    for target in demands.targets:
        tells: dict[str, bool] = {}
        for pair in listing.pairs:
            split = "ood" if pair.group in settings.ood else pair.split
            tells[split] = tells.get(split, False) or _tells(pair, target)
        for split in (name for name, told in tells.items() if not told):
            raise InputError(NO_CHANGE.format(split=split) if target == "change" else _no_mask(listing, split))


def _tells(pair: PairFiles, target: Target) -> bool:
    """Whether the files of a pair tell what a probe predicts."""
    if target == "change":
        return pair.change_mask is not None or (pair.mask is not None and pair.partner_mask is not None)
    return pair.mask is not None or pair.partner_mask is not None


def _no_mask(listing: Listing, split: str) -> str:
    """Why a probe cannot predict classes, if no pair of a split has a mask of them."""
    use = {"train": "trained", "val": "validated"}.get(split, "tested")
    return (
        f"{listing.path}: no row of split {split} has a mask, but the probe is {use} on masks; fill in partner_mask or "
        f"mask{_or_change(listing)}"
    )


def _or_change(listing: Listing) -> str:
    return ", or predict what changed (--probe.target change)" * any(pair.change_mask for pair in listing.pairs)


def _checked_listing(settings: ManifestSettings, place: Place) -> Listing:
    listing = read_listing(place.root, settings)
    # `python -m datasets.manifest check` reads the images anyway, to list all problems at once.
    if listing.problems and not place.skip_bad:
        raise listing.refusal(listing.problems)
    if needs_scale(settings, listing.dtype) and not settings.mean:
        raise InputError(
            f"{listing.path}: images of {settings.bands} band{'s' * (settings.bands > 1)} and {BITS[listing.dtype]} "
            "need --data.mean and --data.std; `python -m datasets.manifest check FILE` prints them"
        )
    check_groups(listing.path, {pair.group for pair in listing.pairs}, settings.ood)
    # Refuses what leaves a split without pairs, before their images are read.
    split = np.array([SPLITS.index(pair.split) for pair in listing.pairs], np.int8)
    hold_out(listing.path, split, np.array([pair.group for pair in listing.pairs], str), settings.ood)
    _check_apart(listing, settings.ood)
    return listing


def _check_apart(listing: Listing, held_out: Collection[str]) -> None:
    """Refuse groups that share an image with the others, which would not be unseen."""
    row: dict[str, int] = {}
    for pair in sorted(listing.pairs, key=lambda pair: pair.group in held_out):
        for picture in (pair.image, pair.partner):
            image = picture.digest if isinstance(picture, Embedded) else os.path.realpath(picture)
            if pair.group not in held_out:
                row[image] = listing.row[pair.name]
            elif image in row:
                raise InputError(
                    f"{listing.path}: row {listing.row[pair.name]}: --data.ood {pair.group}: {picture.name} is also "
                    f"in row {row[image]}, which is not held out; correct the groups, or name that of both"
                )


def check(settings: ManifestSettings, source: TileSource, demands: Demands) -> None:
    """Refuse a grid that needs more or other pairs.

    Raises:
        InputError: says what is missing, and what to do.
    """
    check_tiles(source, demands)


def open_data(settings: ManifestSettings, source: TileSource, seed: int, device: "torch.device") -> "TileDataset":
    """The tiles on a device, the same for every seed."""
    from datasets.tiles.dataset import TileDataset  # imports torch, which the driver must not

    return TileDataset(source, device, settings)


def read_listing(root: Path | None, settings: ManifestSettings) -> Listing:
    """The rows, checked by file names and image headers.

    Raises:
        InputError: no file is given, it cannot be read, or no image has the alpha that `settings.nodata` names.
    """
    if root is None:
        raise InputError("manifest: name the CSV or Parquet file that lists or holds the pairs, with --data FILE")
    root = root.expanduser()
    listing = read_manifest(
        Path("/", root) if address_of(root) else root,  # an address is the same from every folder
        size=settings.size,
        bands=settings.bands,
        select=settings.select,
        align=settings.align,
        columns=settings.column_names,
        holdout=settings.drawn_splits,
    )
    if "alpha" in settings.nodata and listing.opaque:
        raise InputError(f"{listing.path}: --data.nodata alpha, but no image has a band of alpha; leave it out")
    return listing


def needs_scale(settings: ManifestSettings, dtype: str) -> bool:
    """Whether the user must give mean and std: for all but 8-bit images of three bands."""
    return settings.bands != 3 or dtype not in ("", "uint8")


def build_store(
    listing: Listing, settings: ManifestSettings, place: Place, *, jobs: int = 0, quiet: bool = False
) -> Store:
    """Open the store of tiles, or build it with `jobs` threads (0: one per core).

    Raises:
        ProblemsError: files cannot be used, and may not be skipped. It lists all of them.
        InputError: no pair can be used, or the store cannot be written.
    """
    if not listing.pairs and place.skip_bad:
        first = listing.in_rows(listing.problems)[0]
        raise InputError(f"{listing.path}: no row can be used; the first problem is {first.where}: {first.what}")
    request = BuildRequest(
        pairs=listing.pairs,
        cut=Cut(
            size=settings.size,
            bands=settings.bands,
            noisy_classes=settings.noisy_classes,
            select=settings.select,
            nodata=settings.nodata,
            align=settings.align,
        ),
        folder=place.store or cache_folder() / "stores",
        root=listing.path.absolute(),  # so that other names of the same file find the same store
        problems=listing.problems,
        skip_bad=place.skip_bad,
        jobs=jobs or place.cores,
        quiet=quiet,
    )
    try:
        return open_store(request)
    except ProblemsError as error:
        raise listing.refusal(error.problems) from error


def tile_source(listing: Listing, settings: ManifestSettings, store: Store) -> TileSource:
    """The tiles with their splits and classes.

    Raises:
        InputError: a split has no tile, val has no clean tile, or a mask shows a class without a name. Or a split has
            no mask, or training masks show a single class, and no pair has a mask of changes.
    """
    split = np.array([SPLITS.index(name) for name in store.tiles["split"]], np.int8)
    split = hold_out(listing.path, split, store.tiles["group"].to_numpy(str), settings.ood)
    _check_splits(listing, store, split)
    classes = _classes(listing, settings, store)
    source = TileSource(
        store=store,
        split=split,
        classes=classes,
        title=f"{listing.path.name} ({len(store.pairs):,} pairs, {len(split):,} tiles of {store.size} px)"
        + scored_classes(store, split, classes),
        notes=(),
        fingerprint=source_fingerprint(store, split, classes),
        dense_labels=settings.dense_labels,
        min_share=settings.min_share,
        noisy_classes=settings.noisy_classes,
        mean=settings.mean or None,
        std=settings.std or None,
        changes=Changes(store=store),
    )
    source = replace(source, no_classes=_no_classes(listing, source))
    if source.no_classes and not any(pair.change_mask for pair in listing.pairs):
        raise InputError(source.no_classes)
    return replace(source, title=source.title + used_tiles(source), notes=tuple(_notes(listing, settings, source)))


def _check_splits(listing: Listing, store: Store, numbers: Int8[np.ndarray, " tiles"]) -> None:
    tiles = store.tiles.assign(split=np.array(EVERY_SPLIT)[numbers])
    for split in present_splits(numbers):
        if (tiles["split"] != split).all():
            raise InputError(f"{listing.path}: no row of split {split} can be used; add rows, or correct them")
    if tiles.loc[tiles["split"] == "val", "noisy"].all():
        raise InputError(
            f"{listing.path}: all tiles of split val are noisy, but pretraining is validated on clean ones; add clean "
            "pairs to it"
        )


def _no_classes(listing: Listing, source: TileSource) -> str:
    """Why a probe cannot predict classes; empty if it can."""
    for number, split in enumerate(present_splits(source.split)):
        if not (source.store.tiles["labelled"][source.split == number] != "").any():
            return _no_mask(listing, split)
        shown = np.flatnonzero(class_pixels(source, split))
        if len(shown) < (2 if split == "train" else 1):
            what = f"only {source.classes[shown[0]]}" if len(shown) else "no class"
            return (
                f"{listing.path}: the masks of split {split} show {what}, so there is nothing to distinguish; a mask "
                f"has the class number of each pixel (255 means none){_or_change(listing)}"
            )
    return ""


def _classes(listing: Listing, settings: ManifestSettings, store: Store) -> tuple[str, ...]:
    """A name for each class in any mask, including masks that only the dense losses use."""
    counts = store.image_counts + store.partner_counts
    largest = int(np.flatnonzero(counts.any(axis=0)).max(initial=0))
    if settings.classes and largest >= len(settings.classes):
        row = listing.row[store.tiles["pair"].iloc[int(counts[:, largest].argmax())]]
        raise InputError(
            f"{listing.path}: row {row}: a mask shows class {largest}, but --data.classes names only "
            f"{len(settings.classes)} (0 to {len(settings.classes) - 1}); name all classes, or correct the mask"
        )
    if not settings.classes and max(settings.noisy_classes, default=0) > largest:
        raise InputError(
            f"--data.noisy-classes {max(settings.noisy_classes)}: no mask shows it; the largest class is {largest}: "
            "correct it, or name all classes with --data.classes"
        )
    return settings.classes or tuple(f"class_{label}" for label in range(largest + 1))


# --- notes


def _notes(listing: Listing, settings: ManifestSettings, source: TileSource) -> Iterator[str]:
    """Rows left out, assumptions, and limits of the tiles."""
    store = source.store
    yield from left_out_notes(listing.in_rows(store.left_out), CHECK, most=SHOWN)
    yield from listing.unread
    if outside := listing.outside:
        yield f"tiles of {store.size} px leave out {outside:.1%} of the pixels, at the right and at the bottom"
    if listing.alpha:
        keep = f"--data.bands {settings.bands + 1} keeps it"
        yield (
            f"{listing.alpha:,} images have {settings.bands} band{'s' * (settings.bands > 1)} and one that their files "
            f"declare to be alpha, which is left out; {keep} (if it is a band like the others, such as near infrared)"
        )
    if number := _count_undecided(listing, settings, set(store.pairs["pair"])):
        why = "and they lack a mask" if settings.noisy_classes else "and --data.noisy-classes is not given"
        yield f"{number:,} of {len(store.pairs):,} pairs are assumed to be clean: their column noisy is empty, {why}"
    if not split_counts(source).loc["train", "noisy"]:
        yield "no pair of split train is noisy: only --rho 0 is possible, or --pairings misregistration"
    if store.class_counts.any():
        yield from absence_notes(store, source.split, source.classes)
        yield from contrast_notes(source)
    if (pairs := int((store.pairs["split"] == "train").sum())) < FEW:
        yield f"{pairs} training pairs are few: differences may be chance, so run several seeds (--seeds 0 1 2)"


def _count_undecided(listing: Listing, settings: ManifestSettings, used: Collection[str]) -> int:
    """Number of pairs for which neither the manifest nor the masks say whether they are noisy."""
    unknown = [pair for pair in listing.pairs if pair.name in used and pair.noisy is None and not pair.change_mask]
    return sum(not (settings.noisy_classes and pair.mask and pair.partner_mask) for pair in unknown)
