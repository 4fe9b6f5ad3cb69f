"""Builds the arrays of a store: pairs are read in parallel, and their tiles written to where they belong.

The arrays are built in a folder of their own. An interrupted build resumes there: what the journal lists is verified
instead of read again, and moved where pairs before it were added or left out since.
"""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from datasets.errors import InputError
from datasets.images.read import Shape
from datasets.tiles import cutting
from datasets.tiles.arrays import Rows
from datasets.tiles.cutting import ARRAYS, IMAGES, MASKS, PARTNER_MASKS, PARTNERS, Cut
from datasets.tiles.journal import Journal, Note
from datasets.tiles.pairs import PairFiles, Problem
from datasets.tiles.request import BuildRequest

FORMAT = 1
"""Of the journal and of finished stores; other formats are built anew."""
SPARE = 2**24  # bytes that must be free besides the arrays, for tables

Plan = Mapping[str, int]  # by the name of each pair, in order of the rows: the first of its rows


@dataclass(frozen=True, kw_only=True)
class Filled:
    """Arrays with the tiles of all usable pairs; there may be gaps between them."""

    request: BuildRequest
    rows: Rows
    journal: Journal
    shapes: Mapping[str, Shape]
    """By the name of each pair that could be used."""
    problems: Sequence[Problem]

    @property
    def dtype(self) -> str:
        """Of the images."""
        return self.rows.dtypes[IMAGES]

    def close(self) -> list[Note]:
        """Close the gaps, turn the arrays into .npy files, and return the notes of all pairs in order.

        Raises:
            OSError: the arrays cannot be written.
            InputError: what was written is not what is there.
        """
        keys = self.request.keys
        plan, number = _plan(self.request, self.shapes)
        _arrange(self.rows, self.journal, {keys[name]: first for name, first in plan.items()}, number)
        notes = {name: self.journal.notes[keys[name]] for name in plan}
        for name, first in plan.items():
            if notes[name].first != first:
                work = self.rows.folder
                raise InputError(f"the tiles of {name} in {work} have changed; is the disk sound? Start again")
        self.rows.seal(number)
        return list(notes.values())


def fill(request: BuildRequest, work: Path, shapes: Mapping[str, Shape]) -> Filled:
    """Fill arrays in the folder `work` with the tiles of the pairs of `shapes`, which `survey` gave.

    Raises:
        OSError: the arrays cannot be written.
        InputError: there is too little space for them.
    """
    rows, journal = _open(request, work, next(iter(shapes.values())).dtype)
    plan, number = _plan(request, shapes)
    _check_space(work, rows.bytes_needed(number) + SPARE)
    _arrange(rows, journal, {request.keys[name]: first for name, first in plan.items()}, number)
    problems = _read_all(request, rows, journal, shapes, plan)
    lost = {problem.pair for problem in problems}
    usable = {name: shape for name, shape in shapes.items() if name not in lost}
    return Filled(request=request, rows=rows, journal=journal, shapes=usable, problems=problems)


def arrays_of(pairs: Sequence[PairFiles]) -> tuple[str, ...]:
    """The arrays that these pairs need: masks only if a pair has one."""
    absent = set()
    if all(pair.mask is None for pair in pairs):
        absent.add(MASKS)
    if all(pair.partner_mask is None for pair in pairs):
        absent.add(PARTNER_MASKS)
    return tuple(name for name in ARRAYS if name not in absent)


def survey(request: BuildRequest) -> tuple[dict[str, Shape], list[Problem]]:
    """The shapes of usable pairs, by name, from the headers of their images, and the problems of the others."""
    with ThreadPoolExecutor(request.threads) as pool:
        surveys = list(pool.map(lambda pair: cutting.survey_pair(pair, request.cut, request.base), request.usable))
    problems = [problem for survey in surveys for problem in survey.problems]
    shapes = {pair.name: survey.shape for pair, survey in zip(request.usable, surveys, strict=True) if survey.shape}
    if shapes:
        ((usual, _),) = Counter(shape.dtype for shape in shapes.values()).most_common(1)
        for pair in request.usable:
            if pair.name in shapes and (dtype := shapes[pair.name].dtype) != usual:
                what = f"is {dtype}, where most images are {usual}; all must have the same depth"
                problems.append(Problem(where=cutting.relative(pair.image, request.base), what=what, pair=pair.name))
                del shapes[pair.name]
    return shapes, problems


def _open(request: BuildRequest, work: Path, dtype: str) -> tuple[Rows, Journal]:
    """The arrays in the work folder and their journal, those of an earlier build if it was alike."""
    arrays = arrays_of(request.usable)
    size = request.cut.size
    pixels, numbers = (size, size, request.cut.bands), (size, size)
    rows = Rows(
        folder=work,
        shapes={name: pixels if name in (IMAGES, PARTNERS) else numbers for name in arrays},
        dtypes={name: dtype if name in (IMAGES, PARTNERS) else "uint8" for name in arrays},
    )
    head = {"format": FORMAT, "dtype": dtype, "arrays": list(arrays)}  # the cut is part of each note's key
    journal = Journal.resume(work / "journal.jsonl", head)
    if journal is None:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        journal = Journal.start(work / "journal.jsonl", head)
    return rows, journal


def _plan(request: BuildRequest, shapes: Mapping[str, Shape]) -> tuple[Plan, int]:
    """The first row of each pair, in the order of the pairs, and the number of rows."""
    plan, number = {}, 0
    for pair in request.usable:
        if pair.name in shapes:
            plan[pair.name] = number
            number += _count_tiles(shapes[pair.name], request.cut)
    return plan, number


def _count_tiles(shape: Shape, cut: Cut) -> int:
    return (shape.height // cut.size) * (shape.width // cut.size)


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"the tiles need {needed / 1e9:.2f} GB in {folder.parent}, where {free / 1e9:.2f} GB are free; "
            "free some, or name a folder on another disk for them"
        )


def _arrange(rows: Rows, journal: Journal, plan: Mapping[str, int], number: int) -> None:
    """Move the rows that the journal lists to their places in the plan (by key); then resize to `number` rows."""
    moves = [(journal.notes[key], first) for key, first in plan.items() if key in journal.notes]
    moves = sorted(((note, first) for note, first in moves if note.first != first), key=lambda move: move[0].first)
    down = [(note, first) for note, first in moves if first < note.first]
    up = [(note, first) for note, first in moves if first > note.first]
    rows.resize(max(number, rows.number()))
    # In this order no move overwrites rows that are still to be moved, if the order of pairs is unchanged. Otherwise
    # the digest of overwritten rows differs, and their pair is read again.
    for note, first in down + up[::-1]:
        if rows.move(note.first, first, note.tiles, note.digest):
            journal.add(note.at(first))
    rows.resize(number)


def _read_all(
    request: BuildRequest, rows: Rows, journal: Journal, shapes: Mapping[str, Shape], plan: Mapping[str, int]
) -> list[Problem]:
    """Write the tiles of all pairs of the plan; returns the problems of pairs that could not be read."""
    problems: list[Problem] = []
    pool = ThreadPoolExecutor(request.threads)
    futures: list[Future[Note]] = []
    try:
        for pair in request.usable:
            if pair.name in plan:
                known = journal.notes.get(request.keys[pair.name])
                target = _Target(rows=rows, first=plan[pair.name], shape=shapes[pair.name])
                futures.append(pool.submit(_write_pair, request, pair, target, known))
        for future in tqdm(as_completed(futures), total=len(futures), unit="pair", disable=not request.progress_bar):
            try:
                note = future.result()
            except cutting.UnusablePair as error:
                problems += error.problems
                continue
            _add_note(journal, note)
    except BaseException:  # a full disk or Ctrl-C
        pool.shutdown(cancel_futures=True)  # stop now, not after all pairs
        with suppress(OSError):  # keep what was finished meanwhile
            for future in futures:
                if not future.cancelled() and future.exception() is None:
                    _add_note(journal, future.result())
        raise
    pool.shutdown()
    return problems


def _add_note(journal: Journal, note: Note) -> None:
    if journal.notes.get(note.key) is not note:
        journal.add(note)


@dataclass(frozen=True, kw_only=True)
class _Target:
    """Where the tiles of a pair go."""

    rows: Rows
    first: int
    """Their first row."""
    shape: Shape
    """Of the pair's images."""


def _write_pair(request: BuildRequest, pair: PairFiles, target: _Target, note: Note | None) -> Note:
    """Write the tiles of a pair, unless they are there, as `note` says."""
    rows, first, shape = target.rows, target.first, target.shape
    across, number = shape.width // request.cut.size, _count_tiles(shape, request.cut)
    there = note is not None and (note.first, note.tiles, note.across) == (first, number, across)
    if note and there and rows.holds(first, number, note.digest):
        return note
    tiles = cutting.cut_pair(pair, shape, request.cut, tuple(rows.shapes), request.base)
    rows.write(first, tiles.blocks)
    return Note(
        key=request.keys[pair.name],
        first=first,
        tiles=number,
        across=across,
        digest=rows.digest(tiles.blocks),
        counts={
            name: [{str(number): pixels for number, pixels in tile.items()} for tile in of_mask]
            for name, of_mask in tiles.counts.items()
        },
        buildings=dict(tiles.buildings),
    )
