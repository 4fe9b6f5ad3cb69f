"""A list of image pairs on disk: what a tree such as xBD's, or a user's own manifest, is brought into first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import InputError


@dataclass(frozen=True, kw_only=True)
class PairFiles:
    """One pair of images of one place, and what is known of it."""

    name: str
    """Names the pair in messages and tables; no two pairs of a list share it."""
    image: Path
    """The first image: the clean one of a noisy pair (xBD: before the disaster)."""
    partner: Path
    """The second: the noisy one of a noisy pair (xBD: after the disaster)."""
    split: str
    """`train`, `val`, `test`, or empty where the split is yet to be drawn."""
    group: str = ""
    """What tables and stratified splits group by (xBD: the disaster)."""
    mask: Path | None = None
    """Classes of the first image: an image of class numbers, or an xBD label file (.json)."""
    partner_mask: Path | None = None
    """Classes of the second."""
    noisy: bool | None = None
    """Whether the pair is noisy; None where each tile's masks tell."""

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the pair."""
        return tuple(path for path in (self.image, self.partner, self.mask, self.partner_mask) if path is not None)


@dataclass(frozen=True, kw_only=True, order=True)
class Problem:
    """One thing that is wrong with the data, and where."""

    where: str
    """A file, or a row of a manifest."""
    what: str
    pair: str = ""
    """Name of the pair that cannot be used for it; empty where no pair is lost."""


class ProblemsError(InputError):
    """Data that cannot be used as they are; the message is one line, then a line for each problem."""

    def __init__(self, where: Path, problems: Sequence[Problem], remedy: str) -> None:
        """`remedy` says what to do about them."""
        self.problems = tuple(problems)
        number = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        lines = [f"{where}: {number}; {remedy}", *(f"  {problem.where}: {problem.what}" for problem in problems)]
        super().__init__("\n".join(lines))
