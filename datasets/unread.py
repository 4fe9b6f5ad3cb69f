"""Says which files of a folder look like images and are not read, so that none is left out in silence."""

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".gif", ".jp2", ".heic", ".ppm", ".pgm"),
    *(".npy", ".npz"),
)
"""Ends of the names of images and arrays, read or not, in lower case."""
DEPTH = 3  # levels of folders: a root may hold much else
SHOWN = 4  # folders that a note names


def folders_below(root: Path, depth: int | None = DEPTH) -> Iterator[Path]:
    """A folder and those in it, at most so many levels down, without hidden ones and those that cannot be opened.

    Links are followed, but not back to a folder that they are in.
    """
    above: dict[str, tuple[str, ...]] = {}  # the real places of each folder and of those that it is in
    for place, inside, _ in os.walk(root, followlinks=True):
        folder, real = Path(place), os.path.realpath(place)
        outer = above.get(os.path.dirname(place), ())
        if real in outer:
            inside[:] = []
            continue
        above[place] = (*outer, real)
        yield folder
        deep = depth is not None and len(folder.relative_to(root).parts) >= depth
        inside[:] = [] if deep else sorted(name for name in inside if not name.startswith("."))


def unread_notes(root: Path, folders: Iterable[Path], read: Collection[Path]) -> list[str]:
    """At most one line, which counts the files that look like images and are not read, by folder.

    Args:
        root: folder that the line names others relative to.
        folders: where to look, but not in what is inside them. They need not exist.
        read: files that are read, and folders whose files all are.
    """
    unread = {folder: names for folder in sorted(folders) if folder not in read and (names := _names(folder, read))}
    if not unread:
        return []
    counts = [
        f"{len(names):,} in {_relative(folder, root)} (such as {names[0]})"
        for folder, names in list(unread.items())[:SHOWN]
    ]
    if rest := list(unread.values())[SHOWN:]:
        counts.append(f"{sum(map(len, rest)):,} in {len(rest):,} more folder{'s' * (len(rest) > 1)}")
    return [f"images that are not read: {', '.join(counts)}"]


def _names(folder: Path, read: Collection[Path]) -> list[str]:
    with suppress(OSError), os.scandir(folder) as entries:  # absent, or not listable
        names = [entry.name for entry in entries if entry.name.lower().endswith(IMAGE_SUFFIXES)]
        return sorted(name for name in names if not name.startswith(".") and folder / name not in read)
    return []


def _relative(folder: Path, root: Path) -> str:
    return folder.relative_to(root).as_posix() if folder.is_relative_to(root) else folder.as_posix()
