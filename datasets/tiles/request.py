"""Describes a store of tiles: its pairs, how they are cut, where it is and how it is built."""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from datasets.allocation import usable_cores
from datasets.errors import InputError
from datasets.images.read import Embedded, Picture
from datasets.tiles.cutting import Cut, relative
from datasets.tiles.pairs import PairFiles, Problem, ProblemsError

FORMAT = 1
"""Version of stores and of the files of unfinished ones; files of another version are not used."""


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """A store to be opened by `store.open_store`, which builds it first if it is absent.

    Raises:
        InputError: two pairs have one name, or `jobs` is negative.
    """

    pairs: Sequence[PairFiles]
    """The pairs, in the order of their tiles. A pair with a known problem is not read."""
    cut: Cut
    """How images become tiles."""
    folder: Path
    """Parent folder of the stores."""
    root: Path
    """Folder of the data, or the file that lists them; messages name files relative to it."""
    problems: Sequence[Problem] = ()
    """Known problems."""
    skip_bad: bool = False
    """Leave out pairs with problems instead of raising an error."""
    jobs: int = 0
    """Threads that read images; 0: one for each core of this process."""
    quiet: bool = False
    """Print neither messages nor a progress bar to stderr."""
    remedy: str = "repair or remove these files, or leave them out with --skip-bad"
    """What a user can do about problems, for messages."""

    def __post_init__(self) -> None:
        """Check the values."""
        if self.jobs < 0:
            raise InputError(f"--jobs {self.jobs}: must be 1 or more, or 0 for one per core")
        if len({pair.name for pair in self.pairs}) < len(self.pairs):
            raise InputError(f"{self.root}: several pairs have the same name; names must be unique")

    @cached_property
    def usable(self) -> Sequence[PairFiles]:
        """The pairs without a known problem."""
        lost = {problem.pair for problem in self.problems}
        return [pair for pair in self.pairs if pair.name not in lost]

    @cached_property
    def keys(self) -> Mapping[str, str]:
        """A digest for each usable pair, by name; it changes with the files (names, sizes, times) and with the cut."""
        return {pair.name: self._key(pair) for pair in self.usable}

    @cached_property
    def signature(self) -> str:
        """A digest that changes whenever the store must be rebuilt."""
        pairs = [[pair.name, pair.group, pair.split, pair.noisy, self.keys[pair.name]] for pair in self.usable]
        return _digest([self.cut.described, pairs])

    @cached_property
    def home(self) -> Path:
        """Folder of the store: one for each root, cut and kind of masks, so that such stores coexist."""
        masks = sorted({path.suffix for pair in self.usable for path in (pair.mask, pair.partner_mask) if path})
        name = re.sub(r"[^\w.-]+", "-", self.root.resolve().name).strip("-.")[:40] or "pairs"
        digest = _digest([self.cut.described, str(self.root.resolve()), masks])
        folder = self.folder.expanduser().absolute()  # workers may run elsewhere
        return folder / f"{name}-{self.cut.size}px-{digest[:8]}"

    @property
    def work(self) -> Path:
        """Folder where the store is built."""
        return self.hidden_path("making")

    def pair_file(self, name: str) -> str:
        """Name of the file in `work` with the tiles of a pair."""
        return f"{self.keys[name]}-{FORMAT}.tiles"

    def hidden_path(self, kind: str) -> Path:
        """A hidden path next to `home`: `making` (the work folder), `old` (a store being replaced) or `lock`."""
        return self.home.with_name(f".{self.home.name}.{kind}")

    @property
    def base(self) -> Path:
        """The folder that messages name files relative to."""
        return self.root.parent if self.root.is_file() else self.root

    @property
    def threads(self) -> int:
        """Number of threads that read images."""
        return self.jobs or usable_cores()

    @property
    def progress_bar(self) -> bool:
        """Whether to show a progress bar."""
        return not self.quiet and sys.stderr.isatty()

    def log(self, line: str) -> None:
        """Print a line to stderr, unless the request is quiet."""
        if not self.quiet:
            print(line, file=sys.stderr)

    def refuse(self, problems: Sequence[Problem]) -> None:
        """Raise an error for these and the known problems, unless they may be skipped.

        Raises:
            ProblemsError: lists all of them.
        """
        every = sorted({*self.problems, *problems})
        if every and not self.skip_bad:
            raise ProblemsError(self.root, every, self.remedy)

    def _key(self, pair: PairFiles) -> str:
        files = [self._identity(picture) for picture in pair.files]
        # `ignored`: earlier versions did not leave pixels without data out of masks of changes.
        change = ["change", "ignored"] if pair.change_mask else []
        roles = [pair.mask is not None, pair.partner_mask is not None, *change]
        return _digest([pair.name, self.cut.described, roles, files])

    def _identity(self, picture: Picture) -> list[str | int]:
        """What changes with a file (name, size, time), or with the bytes in a cell of a table."""
        if isinstance(picture, Embedded):
            return ["embedded", picture.digest]
        return [relative(picture, self.base), *_stamp(picture)]


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file; -1 if they cannot be read, because reading the file will report why."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _digest(content: Any) -> str:
    return blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()
