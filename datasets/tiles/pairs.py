"""Image pairs on disk, listed from a tree such as xBD or from a manifest, and problems with them."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import InputError
from datasets.images.read import Picture

ALIKE = 3
"""Problems of one cause that get a line each. More share a line with their number, which names this many others."""
# What differs between problems of one cause: quoted values, numbers, names of files.
_PARTICULARS = re.compile(r"'[^']*'|(?<!\S)(?=\S*[\d/\\]|\S+\.\w+:)\S+")


@dataclass(frozen=True, kw_only=True)
class PairFiles:
    """The files of one pair of images, and its metadata."""

    name: str
    """Unique name, for messages and tables."""
    image: Picture
    """The first image: the clean one of a noisy pair (xBD: before the disaster)."""
    partner: Picture
    """The second: the noisy one of a noisy pair (xBD: after the disaster)."""
    split: str
    """`train`, `val` or `test`; empty if it is drawn later."""
    group: str = ""
    """Group for tables and stratified splits (xBD: the disaster)."""
    mask: Picture | None = None
    """Classes of the first image: an image of class numbers, or an xBD label file (.json)."""
    partner_mask: Picture | None = None
    """Classes of the second."""
    noisy: bool | None = None
    """Whether all tiles of the pair are noisy; None if the masks of each tile decide."""
    change_mask: Picture | None = None
    """An image of what changed, which decides which tiles are noisy instead of the other masks."""

    @property
    def files(self) -> tuple[Picture, ...]:
        """All files of the pair, or the cells of a table that stand for them."""
        files = (self.image, self.partner, self.mask, self.partner_mask, self.change_mask)
        return tuple(path for path in files if path is not None)


@dataclass(frozen=True, kw_only=True, order=True)
class Problem:
    """A problem with the data."""

    where: str
    """The file, or the row of a manifest."""
    what: str
    pair: str = ""
    """Name of the pair that cannot be used because of it; empty if there is none."""


class ProblemsError(InputError):
    """Problems with the data. The message is one line, then a line for each problem, or for many of one cause."""

    def __init__(self, where: Path | str, problems: Sequence[Problem], remedy: str) -> None:
        """`remedy` says what the user can do about them."""
        self.problems = tuple(problems)
        number = f"{len(problems):,} problems" if len(problems) > 1 else "1 problem"
        super().__init__("\n  ".join([f"{where}: {number}; {remedy}", *problem_lines(problems)]))


def problem_lines(problems: Sequence[Problem]) -> list[str]:
    """A line for each problem, but for many of one cause only one, where the first of them is."""
    causes = [_PARTICULARS.sub("#", problem.what) for problem in problems]
    by_cause: dict[str, list[Problem]] = defaultdict(list)
    for cause, problem in zip(causes, problems, strict=True):
        by_cause[cause].append(problem)
    lines = []
    for cause, problem in zip(causes, problems, strict=True):
        alike = by_cause[cause]
        line = f"{problem.where}: {problem.what}"
        if len(alike) <= ALIKE:
            lines.append(line)
        elif problem is alike[0]:
            names = ", ".join(other.where for other in alike[1 : 1 + ALIKE])
            rest = ", ..." if len(alike) > 1 + ALIKE else ""
            lines.append(f"{line} (and {len(alike) - 1:,} more like this: {names}{rest})")
    return lines


def left_out_notes(problems: Sequence[Problem], command: str, *, most: int | None = None) -> list[str]:
    """What was skipped: a line for each problem, or at most `most` lines, in which many of one cause share one.

    Args:
        problems: those of the files or rows that were left out.
        command: lists all of them.
        most: lines before a last one that says how many problems there are.
    """
    if most is None:
        return [f"left out: {problem.where}: {problem.what}" for problem in problems]
    lines = problem_lines(problems)
    notes = [f"left out: {line}" for line in lines[:most]]
    if len(problems) > min(len(lines), most):
        notes.append(f"left out: {len(problems):,} problems in all, which `{command}` lists")
    return notes
