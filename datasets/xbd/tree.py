"""Lists the pairs of an unpacked xBD tree, and problems with its file names. No file is opened."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datasets.errors import InputError
from datasets.tiles.cutting import relative
from datasets.tiles.pairs import PairFiles, Problem
from datasets.unread import IMAGE_SUFFIXES, folders_below, unread_notes

SPLIT_OF = {"train": "", "tier1": "", "tier3": "", "test": "test"}
"""The folders that are read, and the split of their pairs; empty: drawn later. The geotiff release says `tier1` for
`train`. `hold`, the second test set of the challenge, is not read, because the paper tests on `test`."""
Side = Literal["pre", "post"]
SIDES: tuple[Side, ...] = ("pre", "post")
Masks = Literal["polygons", "targets"]

NAME = re.compile(r"(?P<disaster>[^_]+)_(?P<number>\d{8})_(?P<side>pre|post)_disaster")
CHALLENGE = re.compile(r"(?P<split>test|hold)_(?P<side>pre|post)_\d{5}(_target)?")
PATTERN = "<disaster>_<8 digits>_{pre,post}_disaster"
LAYOUT = f"{{train,tier3,test}}/{{images,labels}}/{PATTERN}.{{png,json}} (also tier1 for train, and tif for png)"
SITE = "https://xview2.org"
PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
TARGETS = ("_target.png", "_target.tif", "_target.tiff")
LABELS = (".json",)


@dataclass(frozen=True, kw_only=True)
class Files:
    """The files of one folder whose names follow the pattern of xBD."""

    folder: str
    """Relative to the root, such as `train/images`."""
    suffix: str
    """The end of the official names after the pattern, such as `.png`."""
    sides: dict[str, dict[Side, str]]
    """The file of each side that exists, by the name of the pair, `<disaster>_<8 digits>`."""

    def path(self, pair: str, side: Side) -> str:
        """Path of a file of a pair, relative to the root: the official name if it does not exist."""
        return f"{self.folder}/{self.sides.get(pair, {}).get(side) or f'{pair}_{side}_disaster{self.suffix}'}"

    def has(self, pair: str, side: Side) -> bool:
        """Whether the file exists."""
        return side in self.sides.get(pair, ())


def list_pairs(root: Path, masks: Masks) -> tuple[list[PairFiles], list[Problem]]:
    """The complete pairs of an xBD tree, sorted by name, and all problems with its file names.

    Args:
        root: folder with `train` (or `tier1`), `tier3` and `test`, or some of them, from `find_root`.
        masks: `polygons`: the label files; `targets`: the images in `targets` if a folder has them.

    Raises:
        InputError: `targets` are requested, and no folder has them.
    """
    if masks == "targets" and not any((root / split / "targets").is_dir() for split in SPLIT_OF):
        raise InputError(f"{root} has no folder targets; use the polygons (--data.masks polygons)")
    listings = [_list_split(root, split, masks) for split in SPLIT_OF if (root / split).is_dir()]
    pairs, twice = _drop_duplicates(root, [pair for complete, _ in listings for pair in complete])
    problems = [*twice, *(problem for _, wrong in listings for problem in wrong)]
    return sorted(pairs, key=lambda pair: pair.name), sorted(problems)


def find_root(root: Path | None) -> Path:
    """The root, if it is an xBD tree.

    Raises:
        InputError: says where to download xBD, and its layout.
    """
    download = f"download xBD from {SITE} after registering there; its layout is {LAYOUT}"
    if root is None:
        raise InputError(f"xbd: name the folder of the data with --data-root FOLDER; {download}")
    if not root.is_dir():
        raise InputError(f"{root} {'is a file' if root.exists() else 'does not exist'}; {download}")
    if any((root / split / "images").is_dir() for split in SPLIT_OF):
        return root
    if (root / "images").is_dir():
        raise InputError(f"{root} is one folder of an xBD tree; name its parent folder; {download}")
    inside = [path for path in sorted(root.iterdir()) if any((path / split / "images").is_dir() for split in SPLIT_OF)]
    if inside:
        raise InputError(f"{root} is not an xBD tree, but {inside[0]} is: name that folder")
    raise InputError(f"{root} is not an xBD tree; {download}")


def remarks(root: Path) -> list[str]:
    """Lines on folders of xBD that are missing, and on images in folders that are not read, such as `hold`."""
    lines = [
        f"there is no {' or '.join(f'{name}/images' for name in names)}, where xBD has {number:,} pairs"
        for names, number in ((("train", "tier1"), 2799), (("tier3",), 6369))
        if not any((root / name / "images").is_dir() for name in names)
    ]
    read = {root / split / folder for split in SPLIT_OF for folder in ("images", "labels", "targets")}
    return [*lines, *unread_notes(root, folders_below(root), read)]


def _list_split(root: Path, split: str, masks: Masks) -> tuple[list[PairFiles], list[Problem]]:
    """The complete pairs of one folder, and problems with it."""
    images, strange_images = _list_files(root, f"{split}/images", PICTURES)
    labels, strange_labels = _list_files(root, f"{split}/labels", LABELS)
    shown: Files = labels
    strange_targets: list[Problem] = []
    if masks == "targets" and (root / split / "targets").is_dir():
        shown, strange_targets = _list_files(root, f"{split}/targets", TARGETS)
    problems = [*strange_images, *strange_labels, *strange_targets]
    for files in (images, shown):
        if not (root / files.folder).is_dir() and (images.sides or labels.sides):  # one problem, not one per file
            what = f"is missing, so no pair of {split} can be used; unpack it too"
            return [], [*problems, Problem(where=files.folder, what=what)]
    pairs = []
    for pair in images.sides:
        missing = [*_missing_images(images, pair), *_missing_masks(images, shown, pair)]
        problems += missing
        if not missing:
            pairs.append(_pair_files(root, split, images, shown, pair))
    return pairs, [*problems, *_missing_both(images, labels)]


def _list_files(root: Path, folder: str, ends: Sequence[str]) -> tuple[Files, list[Problem]]:
    """List a folder, if it exists; what looks like such a file but cannot be used becomes a problem.

    Args:
        root: the root of the tree.
        folder: relative to the root.
        ends: valid ends of the names after the pattern, in upper or lower case, the official one first.
    """
    sides: dict[str, dict[Side, str]] = defaultdict(dict)
    challenge, problems = [], []
    official, path = ends[0], root / folder
    names = [entry.name for entry in path.iterdir() if not entry.name.startswith(".")] if path.is_dir() else []
    for name in sorted(names, key=lambda name: (not name.endswith(official), name)):
        end = next((end for end in ends if name.lower().endswith(end)), "")
        match = NAME.fullmatch(name[: -len(end)]) if end else None
        if match:
            side: Side = "pre" if match["side"] == "pre" else "post"
            before = sides[f"{match['disaster']}_{match['number']}"].setdefault(side, name)
            if before != name:
                problems.append(Problem(where=f"{folder}/{name}", what=f"is {folder}/{before} again; keep one of them"))
        elif not name.lower().endswith(LABELS if ends is LABELS else IMAGE_SUFFIXES):
            continue
        elif CHALLENGE.fullmatch(Path(name).stem):
            challenge.append(name)
        else:
            what = f"is not named {PATTERN} with {', '.join(ends)} at the end; convert or rename it, or remove it"
            problems.append(Problem(where=f"{folder}/{name}", what=what))
    if challenge:  # one problem, because there are a thousand such files or none
        what = (
            f"is named as in the xView2 challenge, like {len(challenge):,} files here; there are no labels for such "
            f"names: download the current release from {SITE}"
        )
        problems.append(Problem(where=f"{folder}/{challenge[0]}", what=what))
    return Files(folder=folder, suffix=official, sides=dict(sides)), problems


def _pair_files(root: Path, split: str, images: Files, shown: Files, pair: str) -> PairFiles:
    return PairFiles(
        name=pair,
        image=root / images.path(pair, "pre"),
        partner=root / images.path(pair, "post"),
        split=SPLIT_OF[split],
        group=pair.rpartition("_")[0],
        mask=root / shown.path(pair, "pre"),
        partner_mask=root / shown.path(pair, "post"),
    )


def _missing_images(images: Files, pair: str) -> list[Problem]:
    """Problems with images of a pair that are missing."""
    return [
        Problem(
            where=images.path(pair, side),
            what="is missing, but the other image of the pair exists; unpack this one too, or remove the other",
            pair=pair,
        )
        for side in SIDES
        if not images.has(pair, side)
    ]


def _missing_masks(images: Files, shown: Files, pair: str) -> list[Problem]:
    """Problems with images of a pair that have no labels."""
    return [
        Problem(
            where=shown.path(pair, side),
            what=f"is missing, but {images.path(pair, side)} exists; unpack it too",
            pair=pair,
        )
        for side in SIDES
        if images.has(pair, side) and not shown.has(pair, side)
    ]


def _missing_both(images: Files, labels: Files) -> list[Problem]:
    """Labels of pairs without any image."""
    return [
        Problem(
            where=labels.path(pair, side),
            what=f"labels {images.path(pair, side)}, which is missing; unpack that too, or remove the label",
        )
        for pair in labels.sides.keys() - images.sides.keys()
        for side in SIDES
        if labels.has(pair, side)
    ]


def _drop_duplicates(root: Path, pairs: list[PairFiles]) -> tuple[list[PairFiles], list[Problem]]:
    """The pairs without those in two folders, which could be used for both training and test."""
    by_name: dict[str, list[PairFiles]] = defaultdict(list)
    for pair in pairs:
        by_name[pair.name].append(pair)
    problems = [
        Problem(
            where=_where(root, other), what=f"is also at {_where(root, found[0])}; keep only one of them", pair=name
        )
        for name, found in by_name.items()
        for other in found[1:]
    ]
    return [found[0] for found in by_name.values() if len(found) == 1], problems


def _where(root: Path, pair: PairFiles) -> str:
    return relative(pair.image, root)
