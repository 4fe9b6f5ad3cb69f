"""A store of tiles with splits and classes, which a sweep passes to its workers. No torch here."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int8, Int64

from datasets.errors import InputError
from datasets.source import Demands
from datasets.tiles.change import Changes
from datasets.tiles.splits import undersample
from datasets.tiles.store import Store
from datasets.types import CHANGE, EVERY_SPLIT, SPLITS, Target

SCORED = ("val", "test")
"""The splits that the probe is scored on."""
NO_CHANGE = (
    "--probe.target change: no pair of split {split} tells what changed; fill in change_mask, or mask and "
    "partner_mask, or use --probe.target classes"
)
NAMED = 5
"""Classes that a note names."""
USUAL_SHARE = 0.01
"""The `min_share` of our presets."""
ENOUGH = 240
"""Training tiles with two classes, below which a note warns: on so many (4 pairs of xBD in tiles of 64 px) the
within-image loss of `xbd-quick` learnt; see METHOD.md."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TileSource:
    """A store of tiles with splits and classes. Picklable; pixels stay on disk."""

    store: Store
    split: Int8[np.ndarray, " tiles"]
    """Index of the split of each tile in `EVERY_SPLIT`: 0 train, 1 val, 2 test, 3 ood."""
    classes: tuple[str, ...]
    """Downstream classes in label order."""
    title: str
    notes: tuple[str, ...]
    fingerprint: str
    """16 hex digits of the content, the same on every machine."""
    dense_labels: Literal["classes", "binary"]
    """What the dense losses compare: the classes, or class 0 against all others."""
    min_share: float = 0.0
    """Pretraining uses the tiles whose masks have this share of pixels outside their most frequent class; 0: all."""
    noisy_classes: tuple[int, ...] = ()
    """Classes that make a tile noisy if only its partner shows them; empty if the list of pairs decides alone."""
    mean: tuple[float, ...] | None = None
    """Of each band, in the units of the files; None: 8-bit values 0 to 255 become 0 to 1."""
    std: tuple[float, ...] | None = None
    """As `mean`."""
    no_classes: str = ""
    """Why a probe cannot predict classes, if there are masks of changes instead; empty if it can."""
    changes: Changes | None = None
    """What changed in each tile; None if that is no target of the probe."""
    target: Target = "classes"
    """What the probe predicts: see `aimed`."""

    def __post_init__(self) -> None:
        if len(self.split) != len(self.store.tiles):
            raise ValueError(f"{len(self.split)} splits for {len(self.store.tiles)} tiles")
        if len(self.split) and not 0 <= self.split.min() <= self.split.max() < len(EVERY_SPLIT):
            raise ValueError(f"splits from {self.split.min()} to {self.split.max()}, not 0 to {len(EVERY_SPLIT) - 1}")

    @property
    def files(self) -> tuple[Path, ...]:
        """The folder of the arrays."""
        return (self.store.path,)

    def aimed(self, target: Target) -> "TileSource":
        """The same tiles for another target of the probe: pretraining and fingerprint are the same."""
        if target != "change" or target == self.target:
            return replace(self, target=target)
        title = self.title.replace(scored_classes(self.store, self.split, self.classes), "")
        absent = absence_notes(self.store, self.split, self.classes)
        notes = tuple(note for note in self.notes if note not in absent)
        source = replace(self, target=target, classes=CHANGE, title=title, notes=notes)
        unchanged, changed = class_pixels(source, "train").tolist()
        share = f"{changed / max(1, unchanged + changed):.2%} of the pixels of the training tiles have changed"
        return replace(source, notes=(*notes, f"{share}, of those for which this is known"))


def source_fingerprint(store: Store, split: Int8[np.ndarray, " tiles"], classes: Sequence[str]) -> str:
    """16 hex digits of the tiles' content and splits; the same on every machine.

    Records of earlier versions must not be compared with others if masks lack classes, which scores counted as 0,
    or have ignored pixels, which were negatives of the dense losses. So the fingerprint depends on these, if any.
    """
    content = store.fingerprint.encode() + split.tobytes()
    left_out = [_absent(store, split, classes, name) for name in SCORED]
    if any(left_out):
        content += json.dumps(left_out).encode()
    counted = [store.image_counts.sum(axis=1), store.partner_counts.sum(axis=1)]  # 0 where there is no mask
    if any(((pixels > 0) & (pixels < store.size**2)).any() for pixels in counted):
        content += b"ignored"
    return blake2b(content, digest_size=8).hexdigest()


def scored_classes(store: Store, split: Int8[np.ndarray, " tiles"], classes: Sequence[str]) -> str:
    """What is added to the title of a source whose test scores leave out classes; else empty."""
    absent = len(_absent(store, split, classes, "test"))
    if absent == len(classes):  # there are masks of changes alone
        return ""
    return f", test scores over {len(classes) - absent} of {len(classes)} classes" if absent else ""


def used_tiles(source: TileSource) -> str:
    """What is added to the title of a source that pretrains on a part of the tiles; else empty."""
    train, held_out = (source.split == EVERY_SPLIT.index(name) for name in ("train", "ood"))
    used = int((contrasting(source) & train).sum())
    text = f", pretraining on {used:,} of {train.sum():,} training tiles" if source.min_share else ""
    groups = sorted(set(source.store.tiles["group"][held_out]))
    return text + (f", {held_out.sum():,} tiles held out ({', '.join(groups)})" if groups else "")


def absence_notes(store: Store, split: Int8[np.ndarray, " tiles"], classes: Sequence[str]) -> list[str]:
    """A line for the classes that no mask of a split shows, for each set of splits."""
    present = present_splits(split)
    absent = {name: _absent(store, split, classes, name) for name in present}
    lacking: dict[tuple[str, ...], list[str]] = {}
    for name in classes:
        if splits := tuple(key for key, names in absent.items() if name in names):
            lacking.setdefault(splits, []).append(name)
    notes = []
    for splits, names in lacking.items():
        shown = names if len(names) <= NAMED else [*names[:NAMED], f"{len(names) - NAMED} more"]
        scored = " and ".join(name for name in splits if name != "train")
        effect = f"; {scored} scores are means over the other classes" if scored else ""
        where = "" if splits == present else f" of split {' or '.join(splits)}"
        notes.append(f"no mask{where} shows {', '.join(shown)}{effect}")
    return notes


def _absent(store: Store, split: Int8[np.ndarray, " tiles"], classes: Sequence[str], name: str) -> list[str]:
    """The classes that no labelled mask of a split shows."""
    pixels = _class_pixels(store.class_counts, split, len(classes), name)
    return [label for label, count in zip(classes, pixels.tolist(), strict=True) if not count]


def contrast_notes(source: TileSource) -> list[str]:
    """A line: how many training tiles show two classes, and whether these are enough."""
    share = source.min_share or USUAL_SHARE
    train = source.split == SPLITS.index("train")
    number = int((contrasting(source, share) & labelled(source) & train).sum())
    note = f"{number:,} of {train.sum():,} training tiles show two classes (at least {100 * share:g} % in each mask)"
    if source.min_share:
        note += ", and only these are used to pretrain"
    if number < ENOUGH:
        note += f": perhaps too few; {ENOUGH} were enough in our trials on xBD, fewer were not tried (METHOD.md)"
    return [note]


def contrasting(source: TileSource, share: float | None = None) -> Bool[np.ndarray, " tiles"]:
    """The tiles in whose masks at least a share of the pixels is not of their most frequent class.

    Args:
        source: the tiles. Classes are those of its dense losses: all, or class 0 and the rest.
        share: of both masks; one that is absent, or shows no class, is not asked. None: the source's own.
    """
    share = source.min_share if share is None else share
    absent = np.stack([counts.sum(axis=1) == 0 for counts in (source.store.image_counts, source.store.partner_counts)])
    return np.asarray((absent | (_rarer(source) >= share * source.store.size**2)).all(axis=0))


def _rarer(source: TileSource) -> Int64[np.ndarray, "2 tiles"]:
    """Pixels of both masks that are not of the most frequent class of the dense losses."""
    counts = np.stack([source.store.image_counts, source.store.partner_counts])
    every, first = counts.sum(axis=2), counts[:, :, 0]
    most = np.maximum(first, every - first) if source.dense_labels == "binary" else counts.max(axis=2)
    return np.asarray(every - most)


def split_counts(source: TileSource, chosen: Bool[np.ndarray, " tiles"] | None = None) -> pd.DataFrame:
    """Tiles of each split, all or the chosen ones: `tiles`, `clean`, `noisy`."""
    every = np.ones(len(source.split), bool) if chosen is None else chosen
    noisy = source.store.tiles["noisy"].to_numpy(bool) & every
    names = present_splits(source.split)
    tiles, of_them = (np.bincount(source.split[which], minlength=len(names)) for which in (every, noisy))
    return pd.DataFrame({"tiles": tiles, "clean": tiles - of_them, "noisy": of_them}, index=pd.Index(names))


def present_splits(split: Int8[np.ndarray, " tiles"]) -> tuple[str, ...]:
    """`SPLITS`, and `ood` if there are such tiles."""
    return EVERY_SPLIT if (split == EVERY_SPLIT.index("ood")).any() else SPLITS


def class_pixels(source: TileSource, split: str) -> Int64[np.ndarray, " classes"]:
    """Pixels of each class in the labelled masks of a split; ignored pixels are not counted."""
    return _class_pixels(_counts(source), source.split, len(source.classes), split)


def _class_pixels(
    counts: Int64[np.ndarray, "tiles some"], split: Int8[np.ndarray, " tiles"], classes: int, name: str
) -> Int64[np.ndarray, " classes"]:
    found = counts[split == EVERY_SPLIT.index(name)].sum(axis=0)
    pixels = np.zeros(classes, np.int64)
    pixels[: len(found)] = found
    return pixels


def format_tables(source: TileSource) -> str:
    """Two tables: the tiles of each split, and the frequency of each class in the training tiles."""
    pixels = class_pixels(source, "train")
    width = max(map(len, (*source.classes, "class")))
    lines = [split_counts(source).to_string(formatters=dict.fromkeys(("tiles", "clean", "noisy"), "{:,}".format)), ""]
    lines.append(f"{'class':<{width}}  {'training pixels':>15}  {'share':>8}  1/share")
    for name, count in zip(source.classes, pixels.tolist(), strict=True):
        share = count / max(1, int(pixels.sum()))
        inverse = f"{1 / share:.2f}" if count else "none"
        lines.append(f"{name:<{width}}  {count:>15,}  {share:>8.3%}  {inverse:>7}")
    return "\n".join(lines)


def labelled(source: TileSource) -> Bool[np.ndarray, " tiles"]:
    """The tiles that the probe can learn from: their mask has at least one pixel with a class."""
    return np.asarray(_counts(source).any(axis=1))


def _counts(source: TileSource) -> Int64[np.ndarray, "tiles classes"]:
    """Pixels of each class that the probe predicts."""
    if source.target != "change":
        return source.store.class_counts
    assert source.changes is not None, "a recipe refuses this target"
    return source.changes.counts


def check_tiles(source: TileSource, demands: Demands) -> None:
    """Refuse a grid that needs more or other tiles.

    Raises:
        InputError: no tiles are left at a rate, a batch is larger than the set it is drawn from, fewer than two clean
            tiles validate pretraining, or the dense losses lack labels.
    """
    _check_pairs(source, demands)
    for aimed in map(source.aimed, demands.targets):
        if aimed.target == "change":
            check_change(aimed)
        elif source.no_classes:
            raise InputError(source.no_classes)
        masked = int((labelled(aimed) & (aimed.split == SPLITS.index("train"))).sum())
        for flag, batch in (("probe", demands.probe_batch), ("pretrain", demands.supervised_batch)):
            if masked < batch:
                raise InputError(f"--{flag}.batch {batch}: {masked} training tiles have a mask; lower the batch")


def check_change(source: TileSource) -> None:
    """Check that each split shows what changed and, in its training tiles, what did not.

    Raises:
        InputError: a split has no pixel whose change is known, or none that changed.
    """
    for split in present_splits(source.split):
        unchanged, changed = class_pixels(source, split).tolist()
        if not unchanged and not changed:
            raise InputError(NO_CHANGE.format(split=split))
        if not changed or (split == "train" and not unchanged):
            what = "nothing changed in" if unchanged else "everything changed in"
            raise InputError(
                f"--probe.target change: {what} the {unchanged + changed:,} px of split {split} that have a mask, so "
                "there is nothing to distinguish; add other pairs to it, or use --probe.target classes"
            )


def _check_pairs(source: TileSource, demands: Demands) -> None:
    """Refuse tiles that contrastive losses cannot be trained on. A sweep without rates has no such losses."""
    if not demands.rho:
        return
    if demands.labels and (lacking := count_unlabelled(source)):
        raise InputError(
            f"the dense losses need the labels of both images, but {lacking:,} training or validation pairs lack mask "
            "or partner_mask; fill them in, or run --losses moco"
        )
    counts = split_counts(source, contrasting(source))
    (clean, clean_validating), (noisy, _) = counts["clean"].tolist()[:2], counts["noisy"].tolist()[:2]
    remedy = f", or lower --data.min-share {source.min_share:g}" if source.min_share else ""
    # A misregistered pair is a clean one, displaced with probability rho, so its pool is that of rho 0.
    others = set(demands.pairings) != {"misregistration"}
    for rho in (*(demands.rho if others else ()), *((0.0,) if "misregistration" in demands.pairings else ())):
        kept = undersample(clean, noisy, rho)
        if 0 < rho < 1 and not all(kept):
            raise InputError(
                f"--rho {rho:g}: {clean} clean and {noisy} noisy training tiles are too few for this rate (the nearest "
                f"set has {kept[0]} and {kept[1]}); leave the rate out{remedy}"
            )
        if sum(kept) < demands.batch:
            raise InputError(
                f"--pretrain.batch {demands.batch}: at rho {rho:g} there are {sum(kept)} training pairs ({clean} clean "
                f"and {noisy} noisy tiles); lower the batch, or leave the rate out{remedy}"
            )
    if clean_validating < 2:
        raise InputError(
            f"split val has {clean_validating} clean tiles; pretraining needs at least 2 for validation: draw another "
            f"split (xBD: --data.split-seed), or add pairs{remedy}"
        )
    if demands.labels and not _rarer(source)[:, source.split == SPLITS.index("train")].any():
        kinds = "class 0 and another" if source.dense_labels == "binary" else "two classes"
        raise InputError(
            f"the dense losses compare classes within an image, but no mask of a training tile of {source.store.size} "
            f"px shows {kinds}: use larger tiles (--data.size), or run --losses moco"
        )


def count_unlabelled(source: TileSource) -> int:
    """Number of training and clean validation pairs with a mask that is absent or shows no class anywhere."""
    counts = (source.store.image_counts, source.store.partner_counts)
    both = pd.DataFrame({side: found.any(axis=1) for side, found in enumerate(counts)})
    clean = ~source.store.tiles["noisy"].to_numpy(bool)
    used = (source.split == SPLITS.index("train")) | ((source.split == SPLITS.index("val")) & clean)
    return int((~both[used].groupby(source.store.tiles["pair"][used]).any().all(axis=1)).sum())
