"""How a store comes to be there: it is found, or made by one process while others wait for it."""

import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from datasets.errors import InputError
from datasets.tiles import build, index
from datasets.tiles.cutting import Cut, relative
from datasets.tiles.index import About
from datasets.tiles.pairs import PairFiles, Problem, ProblemsError


@dataclass(frozen=True, kw_only=True)
class Request:
    """What `store.ensure` was asked for; the fields are its arguments."""

    pairs: Sequence[PairFiles]
    cut: Cut
    folder: Path
    root: Path
    problems: tuple[Problem, ...]
    skip_bad: bool
    jobs: int
    quiet: bool
    remedy: str

    @property
    def home(self) -> Path:
        """Where the store lies: it tells roots, cuts and kinds of masks apart, so that their stores coexist."""
        masks = sorted({path.suffix for pair in self.pairs for path in (pair.mask, pair.partner_mask) if path})
        name = re.sub(r"[^\w.-]+", "-", self.root.resolve().name).strip("-.")[:40] or "pairs"
        digest = _digest([asdict(self.cut), str(self.root.resolve()), masks])
        return self.folder / f"{name}-{self.cut.size}px-{digest[:8]}"

    def fulfil(self) -> About:
        """Find the store in `home` or make it there.

        Raises:
            ProblemsError: there are problems, and `skip_bad` is false.
            InputError: no pair can be used, or too little space is free.
            OSError: the store cannot be written.
        """
        keys = {pair.name: self._key(pair) for pair in self.pairs}
        said = [[pair.name, pair.group, pair.split, pair.noisy, keys[pair.name]] for pair in self.pairs]
        signature = _digest([asdict(self.cut), said])
        found = self._found(signature)
        if isinstance(found, str):  # only now a lock, so that a finished store may lie in a folder that is read-only
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._lock():
                found = self._found(signature)
                if isinstance(found, str):
                    found = self._made(keys, signature, found)
        return found

    def _found(self, signature: str) -> About | str:
        """What the store says of itself, or why it must be made."""
        about = index.look(self.home)
        if isinstance(about, str):
            return about
        if about.signature != signature:
            return "the files it was made from, or what is said of them, have changed"
        self._refuse(about.left_out)
        return about

    def _refuse(self, found: Sequence[Problem]) -> None:
        every = sorted({*self.problems, *found})
        if every and not self.skip_bad:
            raise ProblemsError(self.root, every, self.remedy)

    def _made(self, keys: Mapping[str, str], signature: str, reason: str) -> About:
        work, old = (self.folder / f".{self.home.name}.{kind}" for kind in ("making", "old"))
        shutil.rmtree(old, ignore_errors=True)
        again = f", anew since {reason}" if self.home.exists() else ""
        self._say(f"making the store {self.home} ({len(self.pairs):,} pairs of images){again}")
        filled, problems = self._filled(keys, work)
        self._refuse(problems)
        pairs = [pair for pair in self.pairs if filled and pair.name in filled.shapes]
        if not filled or not pairs:
            first = min((*self.problems, *problems), default=None)
            why = f"the first problem is {first.where}: {first.what}" if first else "none is there"
            raise InputError(f"{self.root}: no pair of images can be used; {why}")
        notes = filled.close()
        index.finish(work, pairs, notes, self.cut, signature=signature, dtype=filled.dtype, problems=problems)
        if self.home.exists():
            self.home.rename(old)
        work.rename(self.home)
        index.sync(self.folder)
        (self.home / filled.journal.path.name).unlink()
        shutil.rmtree(old, ignore_errors=True)
        about = index.look(self.home)
        if isinstance(about, str):
            raise InputError(f"{self.home} was just made and cannot be trusted: {about}; is the disk sound?")
        return about

    def _filled(self, keys: Mapping[str, str], work: Path) -> tuple[build.Filled | None, list[Problem]]:
        """The arrays (None if no pair can be used), and what was wrong on the way."""
        job = build.Job(
            pairs=self.pairs,
            keys=keys,
            cut=self.cut,
            root=self._base,
            work=work,
            jobs=self.jobs,
            bar=not self.quiet and sys.stderr.isatty(),
        )
        shapes, problems = build.survey(job)
        if not shapes:  # as when a disk is not mounted: what was made before stays
            return None, problems
        filled = build.fill(job, shapes)
        return filled, [*problems, *filled.problems]

    @property
    def _base(self) -> Path:
        """The folder below which files are named."""
        return self.root.parent if self.root.is_file() else self.root

    def _key(self, pair: PairFiles) -> str:
        """Changes when one of the pair's files does, or what is made of it."""
        files = [[relative(path, self._base), *_stamp(path)] for path in pair.files]
        roles = [pair.mask is not None, pair.partner_mask is not None]
        return _digest([pair.name, asdict(self.cut), roles, files])

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """One maker at a time; the system frees the lock of one that was killed."""
        lock = FileLock(self.folder / f".{self.home.name}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            self._say(f"waiting for another process that makes the store {self.home}")
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _say(self, line: str) -> None:
        if not self.quiet:
            print(line, file=sys.stderr)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:  # the reading says what is wrong with it
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _digest(content: Any) -> str:
    return blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()
