"""Image pairs on disk, listed from a tree such as xBD or from a manifest, and problems with them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import InputError


@dataclass(frozen=True, kw_only=True)
class PairFiles:
    """The files of one pair of images, and its metadata."""

    name: str
    """Unique name, for messages and tables."""
    image: Path
    """The first image: the clean one of a noisy pair (xBD: before the disaster)."""
    partner: Path
    """The second: the noisy one of a noisy pair (xBD: after the disaster)."""
    split: str
    """`train`, `val` or `test`; empty if it is drawn later."""
    group: str = ""
    """Group for tables and stratified splits (xBD: the disaster)."""
    mask: Path | None = None
    """Classes of the first image: an image of class numbers, or an xBD label file (.json)."""
    partner_mask: Path | None = None
    """Classes of the second."""
    noisy: bool | None = None
    """Whether all tiles of the pair are noisy; None if the masks of each tile decide."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the pair."""
        return tuple(path for path in (self.image, self.partner, self.mask, self.partner_mask) if path is not None)


@dataclass(frozen=True, kw_only=True, order=True)
class Problem:
    """A problem with the data."""

    where: str
    """The file, or the row of a manifest."""
    what: str
    pair: str = ""
    """Name of the pair that cannot be used because of it; empty if there is none."""


class ProblemsError(InputError):
    """Problems with the data. The message is one line, then one line for each problem."""

    def __init__(self, where: Path, problems: Sequence[Problem], remedy: str) -> None:
        """`remedy` says what the user can do about them."""
        self.problems = tuple(problems)
        number = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        lines = [f"{where}: {number}; {remedy}", *(f"  {problem.where}: {problem.what}" for problem in problems)]
        super().__init__("\n".join(lines))
