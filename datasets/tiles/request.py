"""What is to become a store of tiles: which pairs, how they are cut, where the store lies and how it is built."""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

from datasets.errors import InputError
from datasets.tiles.cutting import Cut, relative
from datasets.tiles.pairs import PairFiles, Problem, ProblemsError


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """A store that is wanted; `store.open_store` opens it, and builds it first where there is none.

    Raises:
        InputError: two pairs have one name, or `jobs` is negative.
    """

    pairs: Sequence[PairFiles]
    """The pairs, in the order that their tiles are to have. One that a problem names is not read."""
    cut: Cut
    """How images become tiles."""
    folder: Path
    """Where stores lie, each in a folder of its own by root and cut."""
    root: Path
    """Folder (or file) of the data: messages name files as they lie below it."""
    problems: Sequence[Problem] = ()
    """What is already known to be wrong."""
    skip_bad: bool = False
    """Leave pairs with problems out instead of refusing all."""
    jobs: int = 0
    """Threads that read images; 0: as many as this process has cores."""
    quiet: bool = False
    """Print neither messages nor a progress bar to stderr."""
    remedy: str = "repair or remove what they name, or leave it out with --skip-bad"
    """What a user can do about problems, for the message."""

    def __post_init__(self) -> None:
        """Refuse what builds no store."""
        if self.jobs < 0:
            raise InputError(f"{self.jobs} jobs: give 1 or more, or 0 for one a core")
        if len({pair.name for pair in self.pairs}) < len(self.pairs):
            raise InputError(f"{self.root}: several pairs have the same name; give each its own")

    @cached_property
    def usable(self) -> Sequence[PairFiles]:
        """The pairs without a known problem."""
        lost = {problem.pair for problem in self.problems}
        return [pair for pair in self.pairs if pair.name not in lost]

    @cached_property
    def keys(self) -> Mapping[str, str]:
        """By the name of each usable pair: what changes when one of its files does, or what is made of it."""
        return {pair.name: self._key(pair) for pair in self.usable}

    @cached_property
    def signature(self) -> str:
        """What changes when the store must be built anew."""
        said = [[pair.name, pair.group, pair.split, pair.noisy, self.keys[pair.name]] for pair in self.usable]
        return _digest([asdict(self.cut), said])

    @cached_property
    def home(self) -> Path:
        """Where the store lies: it tells roots, cuts and kinds of masks apart, so that their stores coexist."""
        masks = sorted({path.suffix for pair in self.usable for path in (pair.mask, pair.partner_mask) if path})
        name = re.sub(r"[^\w.-]+", "-", self.root.resolve().name).strip("-.")[:40] or "pairs"
        digest = _digest([asdict(self.cut), str(self.root.resolve()), masks])
        folder = self.folder.expanduser().absolute()  # workers may run elsewhere
        return folder / f"{name}-{self.cut.size}px-{digest[:8]}"

    def hidden_path(self, kind: str) -> Path:
        """A hidden path next to `home`: `making` (work in progress), `old` (a store being replaced), `lock`."""
        return self.home.with_name(f".{self.home.name}.{kind}")

    @property
    def base(self) -> Path:
        """The folder below which messages name files."""
        return self.root.parent if self.root.is_file() else self.root

    @property
    def threads(self) -> int:
        """How many threads read images."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.jobs or cores

    @property
    def progress_bar(self) -> bool:
        """Whether a bar shows how far the building is."""
        return not self.quiet and sys.stderr.isatty()

    def log(self, line: str) -> None:
        """Print a line to stderr, unless the request is quiet."""
        if not self.quiet:
            print(line, file=sys.stderr)

    def refuse(self, problems: Sequence[Problem]) -> None:
        """Refuse known and further problems, unless they may be skipped.

        Raises:
            ProblemsError: names all of them.
        """
        every = sorted({*self.problems, *problems})
        if every and not self.skip_bad:
            raise ProblemsError(self.root, every, self.remedy)

    def _key(self, pair: PairFiles) -> str:
        files = [[relative(path, self.base), *_stamp(path)] for path in pair.files]
        roles = [pair.mask is not None, pair.partner_mask is not None]
        return _digest([pair.name, asdict(self.cut), roles, files])


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of a file; -1 where it cannot be looked at, since reading it then says what is wrong."""
    try:
        status = path.stat()
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _digest(content: Any) -> str:
    return blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()
