"""Records of several sweeps merged into one frame, with notes on every duplicate and conflict.

The key of a cell hashes its coordinates and recipe, not its data. Records with one key and different data belong to
different studies (see `analysis.records.studies`), so all are kept. So do records of a sweep that varies settings and
of one that does not. Of other records with one key and the same data, one is kept.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from os.path import realpath
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.errors import RecordsError
from analysis.names import LEVEL
from analysis.records.io import ORDER, read_records
from analysis.records.plan import interval_level, level_note
from analysis.records.remote import local_copy
from analysis.records.schema import class_columns, schema, varied_settings
from analysis.records.studies import STUDY, studies
from analysis.text import first_few

#: Columns that should have one value in a study: they change what was computed or how it was rounded.
ENGINE = ("commit", "version", "versions", "device", "precision", "layout", "compile", "threads", "weights")

_LINES_SHOWN = 20

_first_few = partial(first_few, limit=3)


@dataclass(frozen=True, kw_only=True, eq=False)
class MergedRecords:
    """Records of one or several sweeps, and notes on how they were merged."""

    records: pd.DataFrame
    """As from `read_records`; a key occurs once for each fingerprint of data, and for a sweep that varies settings."""
    folders: tuple[Path, ...]
    """The distinct folders in the order given; for an address, its copy on this machine."""
    conflicts: tuple[str, ...]
    """One line for each record that contradicts the one used: key, cell, both scores, and which one is used."""
    notes: tuple[str, ...]
    """Lines on duplicates, failures, several engines in a study, and a raised level of intervals."""
    level: float
    """Confidence level of intervals: see `analysis.records.plan.interval_level`."""


def read_sweeps(paths: Iterable[str | PathLike[str]]) -> MergedRecords:
    """The merged records of folders, addresses or summary.parquet files, sorted as by `read_records`.

    If several have a cell (key and data), a done record with a score is used before others, then the first one given.
    Two done records with different scores are a conflict; null is no score. Raises `RecordsError` if no folder is
    given, and as `read_records`.
    """
    given = [local_copy(path) for path in ([paths] if isinstance(paths, str | PathLike) else paths)]
    folders, notes = _distinct(given)
    if not folders:
        raise RecordsError("no folder given: name at least one folder of a sweep, or its summary.parquet")
    frames = [read_records(folder) for folder in folders]
    level = interval_level(folders)
    notes += [level_note(level)] if level > LEVEL else []
    if len(frames) == 1:
        notes += _engine_notes(frames[0])
        return MergedRecords(records=frames[0], folders=folders, conflicts=(), notes=tuple(notes), level=level)
    whole = pd.concat(frames, ignore_index=True)
    settings = dict.fromkeys(varied_settings(whole.columns), str)
    whole = whole[schema(class_columns(list(whole.columns)), settings).names]
    pairs = _duplicates(whole, np.repeat(np.arange(len(frames)), [len(frame) for frame in frames]))
    records = _sorted(whole.drop(index=pairs["loser"]))
    notes += [*_duplicate_notes(pairs, whole, folders), *_data_notes(records), *_engine_notes(records)]
    return MergedRecords(
        records=records,
        folders=folders,
        conflicts=tuple(_conflicts(pairs, whole, folders)),
        notes=tuple(notes),
        level=level,
    )


def print_notes(merged: MergedRecords) -> None:
    """Print conflicts and notes to stderr, the first `_LINES_SHOWN` of each."""
    for word, lines in {"conflict": merged.conflicts, "note": merged.notes}.items():
        more = [f"and {len(lines) - _LINES_SHOWN} more"] if len(lines) > _LINES_SHOWN else []
        for line in [*lines[:_LINES_SHOWN], *more]:
            print(f"{word}: {line}", file=sys.stderr)


def _distinct(paths: Sequence[Path]) -> tuple[tuple[Path, ...], list[str]]:
    known: dict[Path, Path] = {}
    notes = []
    for path in paths:
        place = Path(realpath(path))  # resolve() raises another error for circular links
        if place in known:
            notes.append(f"{path} is given more than once: read once")
        known.setdefault(place, path)
    return tuple(known.values()), notes


def _duplicates(whole: pd.DataFrame, place: np.ndarray) -> pd.DataFrame:
    """The duplicates: records that are not used, each with the record of the same key, data and base that is.

    Columns: `loser` and `winner` (labels of `whole`), `lost` and `won` (positions of their folders), `both` (whether
    both are done), `score` (the first score in which the two differ, null if they agree).
    """
    done = whole["status"] == "done"
    same = ["key", "data", "base"]
    cells = whole[same].fillna("").assign(rank=2 * ~done + whole["test_f1_macro"].isna(), place=place)
    cells = cells[cells.duplicated(same, keep=False)].sort_values(["rank", "place"], kind="stable")
    winner = pd.Series(cells.index, index=cells.index).groupby([cells[name] for name in same]).transform("first")
    loser = winner.index[winner != winner.index].sort_values()
    pairs = pd.DataFrame({"loser": loser, "winner": winner[loser].to_numpy()})
    pairs["lost"], pairs["won"] = place[pairs["loser"]], place[pairs["winner"]]
    pairs["both"] = done[pairs["loser"]].to_numpy() & done[pairs["winner"]].to_numpy()
    scores = [name for name in whole.columns if name.startswith(("test_", "val_"))]
    losing, winning = (whole.loc[pairs[name], scores].to_numpy(float) for name in ("loser", "winner"))
    differ = (losing != winning) & ~np.isnan(losing) & ~np.isnan(winning) & pairs["both"].to_numpy()[:, None]
    first = np.array([*scores, None], dtype=object)[np.where(differ.any(1), differ.argmax(1), len(scores))]
    return pairs.assign(score=first)


def _conflicts(pairs: pd.DataFrame, whole: pd.DataFrame, folders: Sequence[Path]) -> list[str]:
    pairs = pairs[pairs["score"].notna()]
    winners, losers = (whole.loc[pairs[name]].to_dict("records") for name in ("winner", "loser"))
    lines = []
    for score, won, lost, winner, loser in zip(
        pairs["score"], pairs["won"], pairs["lost"], winners, losers, strict=True
    ):
        cell = (
            f"{winner['dataset']} {winner['objective']} rho {winner['rho']:g} nu {winner['nu']:g} {winner['pairing']}"
        )
        values = f"{winner[score]:.6g} in {folders[won]} and {loser[score]:.6g} in {folders[lost]}"
        lines.append(
            f"{winner['key']} ({cell} seed {winner['seed']}): {score} is {values}; that of {folders[won]} is used"
        )
    return lines


def _duplicate_notes(pairs: pd.DataFrame, whole: pd.DataFrame, folders: Sequence[Path]) -> list[str]:
    """One line for each pair of folders and kind of duplicate without a conflict."""
    lost_done, won_done = (whole.loc[pairs[name], "status"].eq("done").to_numpy() for name in ("loser", "winner"))
    scored = whole.loc[pairs["loser"], "test_f1_macro"].notna().to_numpy()
    kinds = pairs.assign(lost_done=lost_done, won_done=won_done, scored=scored, key=pairs["loser"].map(whole["key"]))
    kinds = kinds[kinds["score"].isna()]
    lines = []
    for _, part in kinds.groupby(["lost", "won", "lost_done", "won_done", "scored"]):
        first, keys = part.iloc[0], part["key"]
        there, here, count = folders[first["lost"]], folders[first["won"]], _count(len(part))
        if first["lost_done"]:
            how = "with the same scores" if first["scored"] else "without a score in the former"
            lines.append(f"{count} of {there} also in {here}, {how}: counted once")
        elif first["won_done"]:
            lines.append(f"{count} failed in {there} and done in {here}: counted as done ({_first_few(keys)})")
        else:
            lines.append(f"{count} failed in {there} and in {here}: counted once, as failed ({_first_few(keys)})")
    return lines


def _data_notes(records: pd.DataFrame) -> list[str]:
    again = records[records.duplicated("key", keep=False) & ~records.duplicated(["key", "data"], keep=False)]
    if again.empty:
        return []
    cells = _count(again["key"].nunique())
    prints = _first_few(sorted(set(again["data"].fillna("not recorded"))))
    return [f"{cells} recorded on several sets of data (fingerprints {prints}): each is a separate study"]


def _engine_notes(records: pd.DataFrame) -> list[str]:
    """One line for each study whose records come from several engines, machines or versions."""
    known = records[[*STUDY, "base"]].fillna("")
    spread = records[list(ENGINE)].groupby([known[name] for name in known]).transform("nunique").max(axis=1)
    lines = []
    for study in studies(records[spread > 1]):
        mixed = [name for name in ENGINE if study.records[name].nunique() > 1]
        parts = [f"{name} ({_values(study.records[name])})" for name in mixed]
        lines.append(f"{study.title}, recipe {study.recipe}: its records differ in {', '.join(parts)}")
    return lines


def _values(column: pd.Series) -> str:
    counts = column.value_counts(sort=False)
    if column.name == "versions":
        return _libraries(list(counts.index))
    return _first_few(f"{str(value)[:40]}: {count}" for value, count in sorted(counts.items(), key=lambda i: str(i[0])))


def _libraries(texts: Sequence[str]) -> str:
    """The libraries whose versions differ among JSON objects of name -> version."""
    try:
        sets = [dict(json.loads(text)) for text in texts]
    except (ValueError, TypeError):
        return f"{len(texts)} sets of libraries"
    names = sorted({name for versions in sets for name in versions})
    return _first_few([name for name in names if len({str(versions.get(name)) for versions in sets}) > 1])


def _sorted(records: pd.DataFrame) -> pd.DataFrame:
    by = records[[*ORDER, "key"]].assign(data=records["data"].fillna(""))
    return records.loc[by.sort_values(list(by.columns), kind="stable").index].reset_index(drop=True)


def _count(number: int) -> str:
    return f"{number} cell" if number == 1 else f"{number} cells"
