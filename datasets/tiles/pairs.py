"""Image pairs on disk, as listed from a tree such as xBD's or from a user's manifest, and problems with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import InputError


@dataclass(frozen=True, kw_only=True)
class PairFiles:
    """The files of one pair of images of one place, and its metadata."""

    name: str
    """Unique name of the pair, for messages and tables."""
    image: Path
    """The first image: the clean one of a noisy pair (xBD: before the disaster)."""
    partner: Path
    """The second: the noisy one of a noisy pair (xBD: after the disaster)."""
    split: str
    """`train`, `val`, `test`, or empty if the split is not drawn yet."""
    group: str = ""
    """Group for tables and stratified splits (xBD: the disaster)."""
    mask: Path | None = None
    """Classes of the first image: an image of class numbers, or an xBD label file (.json)."""
    partner_mask: Path | None = None
    """Classes of the second."""
    noisy: bool | None = None
    """Whether the pair is noisy; None if the masks decide for each tile."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the pair."""
        return tuple(path for path in (self.image, self.partner, self.mask, self.partner_mask) if path is not None)


@dataclass(frozen=True, kw_only=True, order=True)
class Problem:
    """A problem with the data, and where it is."""

    where: str
    """A file, or a row of a manifest."""
    what: str
    pair: str = ""
    """Name of the pair that cannot be used because of it; empty if all pairs can."""


class ProblemsError(InputError):
    """Problems with the data. The message is one line, followed by a line per problem."""

    def __init__(self, where: Path, problems: Sequence[Problem], remedy: str) -> None:
        """`remedy` says what to do about them."""
        self.problems = tuple(problems)
        number = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        lines = [f"{where}: {number}; {remedy}", *(f"  {problem.where}: {problem.what}" for problem in problems)]
        super().__init__("\n".join(lines))
