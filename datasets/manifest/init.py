"""Writes the list of pairs from folders: matches files of both folders and their masks, and draws the splits."""

import csv
import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets.errors import InputError, describe_error, one_line
from datasets.files import write_text_atomically
from datasets.manifest.batches import is_pattern
from datasets.manifest.holdout import HoldOut, hold_out
from datasets.types import SPLITS
from datasets.unread import folders_below

IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".jp2", ".j2k")
LABELS = (*IMAGES, ".json")
SHOWN = 10
"""Names of files without a match that are listed of each folder; of the others the number is."""
WORDS = re.compile(r"\d+|[A-Z]?[a-z]+|[^\W\d_]+|.", re.DOTALL)
"""Numbers, words (also within `kyivPre`) and other signs of a name."""
HERE = "{split}"
"""Stands for train, val and test in the names of folders."""


@dataclass(frozen=True, kw_only=True)
class Folders:
    """What to list. Each name may hold `{split}`."""

    image: Path
    partner: Path
    mask: Path | None = None
    partner_mask: Path | None = None

    @property
    def given(self) -> dict[str, Path]:
        """The folders by column."""
        return {column: path for column, path in vars(self).items() if path is not None}


@dataclass(frozen=True, kw_only=True)
class Listed:
    """The rows of a list, and what to tell the user."""

    rows: Sequence[Mapping[str, str]]
    lines: Sequence[str]


def list_pairs(folders: Folders, out: Path, *, holdout: HoldOut, group: str = "", noisy: Path | None = None) -> Listed:
    """Match the files of the folders.

    Args:
        folders: of both images and their masks.
        out: the list to be written; names of files are relative to its folder where possible.
        holdout: what is drawn for validation and test, unless a folder is named by that split.
        group: pattern whose first group, or whole match, in the name of a first image is the group of its pair; empty:
            the folder of the image below `folders.image`.
        noisy: file with the names of the noisy pairs, one in each line; without one, masks decide.

    Raises:
        InputError: `out` does not end in .csv, a folder is absent, has no image or is given twice, nothing matches, or
            a name of `noisy` matches none or several.
    """
    if out.suffix.lower() != ".csv":
        raise InputError(f"{out}: the list is a CSV file; let its name end in .csv")
    pattern = _pattern(group)
    if folders.image.absolute() == folders.partner.absolute():
        raise InputError(
            f"{folders.image} was given twice: name the folder of the first images, and that of the partners"
        )
    rows, names, lines = list[dict[str, str]](), list[str](), list[str]()
    for split, places in _places(folders):
        files = {column: _files(place, column) for column, place in places.items()}
        matches = {"image": {key: key for key in files["image"]}}
        for column in list(places)[1:]:
            matches[column], how = _match(files["image"], files[column])
            if not matches[column] and column == "partner":
                such = f"{_first(files['image'])} and {_first(files[column])}"
                raise InputError(
                    f"no file of {places['image']} matches one of {places[column]} by name, stem or number, such as "
                    f"{such}; rename them, or write the list yourself"
                )
            lines.append(f"{len(matches[column]):,} {column.replace('_', ' ')}s matched by {how}: {places[column]}")
            lines += _unmatched(places[column], set(files[column]) - set(matches[column].values()))
        partnered = [name for name in files["image"] if name in matches["partner"]]
        lines += _unmatched(places["image"], set(files["image"]) - set(partnered))
        for name in partnered:
            row = {column: _cell(files[column][found[name]], out) for column, found in matches.items() if name in found}
            rows.append({**row, "split": split, "group": _group(name, pattern)})
            names.append(name)
    number = _mark_noisy(rows, names, noisy) if noisy else None
    there = {row["split"] for row in rows}
    lacking = HoldOut(holdout.val * ("val" not in there), holdout.test * ("test" not in there), holdout.seed)
    training = [row for row in rows if row["split"] in ("", "train")]
    for row, split in zip(training, _draw(training, lacking), strict=True):
        row["split"] = split
    counts = ", ".join(f"{sum(row['split'] == split for row in rows):,} {split}" for split in SPLITS)
    groups = len({row["group"] for row in rows} - {""})
    told = f"; {number:,} noisy" if number is not None else ""
    lines.append(f"{len(rows):,} pairs: {counts}{told}" + (f"; {groups:,} groups" if groups else ""))
    return Listed(rows=rows, lines=lines)


def _draw(rows: Sequence[Mapping[str, str]], holdout: HoldOut) -> list[str]:
    groups = [row["group"] for row in rows]
    try:
        return hold_out(groups, holdout, [row.get("noisy") == "yes" for row in rows])
    except InputError as error:
        raise InputError(
            f"{error}; with --group '.+' each pair is a group of its own" if any(groups) else error
        ) from None


def write_list(out: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write the rows as CSV; columns that are empty everywhere are left out.

    Raises:
        InputError: the file exists, or cannot be written.
    """
    columns = [
        name
        for name in ("image", "partner", "split", "mask", "partner_mask", "noisy", "group")
        if any(row.get(name) for row in rows)
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    if out.exists():
        raise InputError(f"{out} exists; name another file with --out, or delete it")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(out, text.getvalue())
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from error


# --- files


def _places(folders: Folders) -> list[tuple[str, dict[str, Path]]]:
    """The folders of each split; of an empty split if their names do not tell it."""
    with_split = [HERE in str(path) for path in folders.given.values()]
    if not any(with_split):
        return [("", folders.given)]
    if not all(with_split):
        raise InputError(f"{HERE} must be in all folders, or in none")
    every = {
        split: {column: Path(str(path).replace(HERE, split)) for column, path in folders.given.items()}
        for split in SPLITS
    }
    found = [(split, places) for split, places in every.items() if _folder(places["image"]).is_dir()]
    if not found or found[0][0] != "train":
        raise InputError(f"{every['train']['image']} is not a folder; {HERE} stands for {', '.join(SPLITS)}")
    return found


def _folder(place: Path) -> Path:
    return place.parent if is_pattern(place) else place


def _files(place: Path, column: str) -> dict[str, Path]:
    """The files of a folder and of those in it, or those of a pattern such as `images/*_pre.png`, by name, sorted.

    Names are relative to the folder. Hidden files, as of macOS, are left out.
    """
    endings = IMAGES if column in ("image", "partner") else LABELS
    folder, pattern = _folder(place), place.name if is_pattern(place) else "*"
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder" if folder.exists() else f"{folder} does not exist")
    try:
        places = [folder] if is_pattern(place) else folders_below(folder, depth=None)
        inside = (path for one in places for path in one.glob(pattern))
        found = [path for path in inside if path.suffix.lower() in endings and path.is_file()]
    except OSError as error:
        raise InputError(f"{folder}: cannot be read ({error.strerror})") from error
    names = {path.relative_to(folder).as_posix(): path for path in found}
    files = {name: path for name, path in sorted(names.items()) if not any(p.startswith(".") for p in name.split("/"))}
    if not files:
        raise InputError(f"{place}: no file there ends in {', '.join(endings)}")
    return files


def _cell(path: Path, out: Path) -> str:
    folder, path = out.parent.absolute(), path.absolute()
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


# --- what matches

Keys = Mapping[str, object]


def _match(ours: Sequence[str] | Mapping[str, Path], theirs: Mapping[str, Path]) -> tuple[dict[str, str], str]:
    """Pairs of names by the rule that finds most, and the name of that rule. A rule must be unambiguous."""
    best: tuple[dict[str, str], str] = ({}, "nothing")
    for how, keys_of in RULES.items():
        of_ours, of_theirs = map(_unique, keys_of(list(ours), list(theirs)))
        found = {of_ours[key]: of_theirs[key] for key in of_ours if key in of_theirs}
        if len(found) > len(best[0]):
            best = found, how
    return best


def _unique(keys: Keys) -> dict[object, str]:
    """Name of each key; none if two names have one key."""
    names = {key: name for name, key in keys.items()}
    return names if len(names) == len(keys) else {}


def _by_name(ours: Sequence[str], theirs: Sequence[str]) -> tuple[Keys, Keys]:
    return {name: _normal(name) for name in ours}, {name: _normal(name) for name in theirs}


def _by_stem(ours: Sequence[str], theirs: Sequence[str]) -> tuple[Keys, Keys]:
    return _stems(ours), _stems(theirs)


def _stems(names: Sequence[str]) -> dict[str, str]:
    return {name: _normal(_stem(name)) for name in names}


def _by_rest(ours: Sequence[str], theirs: Sequence[str]) -> tuple[Keys, Keys]:
    """What is left of the stems without what all of a folder begin and end with, such as `_pre`.

    Nothing is left of the only file of a folder: two such files match.
    """
    only = len(ours) == len(theirs) == 1
    first, second = ({name: rest for name, rest in _rests(names).items() if rest or only} for names in (ours, theirs))
    return first, second


def _rests(names: Sequence[str]) -> dict[str, str]:
    """Words and numbers stay whole: what `tile_10_mask` and `tile_20_mask` end with is `_mask`, not `0_mask`."""
    words = {
        name: [_normal(word) for word in WORDS.findall(unicodedata.normalize("NFC", _stem(name)))] for name in names
    }
    start = _shared(list(words.values()))
    end = _shared([own[start:][::-1] for own in words.values()])
    return {name: "".join(own[start : len(own) - end]) for name, own in words.items()}


def _shared(words: Sequence[list[str]]) -> int:
    """How many words all of these begin with."""
    low, high = min(words), max(words)
    return next((n for n, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))


def _by_number(ours: Sequence[str], theirs: Sequence[str]) -> tuple[Keys, Keys]:
    """The numbers in the names, without those that are the same in all names of a folder, as in `t1_0007`.

    The text around them, as in `kyiv_01` and `lviv_02`, must be the same too if it tells places: if both folders have
    one in common, with or without what all names of a folder begin and end with, or if it varies in both.
    """
    whole = [_stems(ours), _stems(theirs)]
    texts: list[dict[str, str]] = [dict.fromkeys(names, "") for names in (ours, theirs)]
    for stems in (whole, [_rests(ours), _rests(theirs)]):
        first, second = ({name: re.sub(r"\d+", "#", text) for name, text in own.items()} for own in stems)
        kinds = [set(own.values()) - {""} for own in (first, second)]
        if kinds[0] & kinds[1] or (stems is not whole and min(map(len, kinds)) > 1):
            texts = [first, second]
            break
    one, other = (
        {name: (own[name], *number) for name, number in _numbers(names).items()}
        for names, own in zip((ours, theirs), texts, strict=True)
    )
    return one, other


def _numbers(names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    numbers = [tuple(map(int, re.findall(r"\d+", _stem(name)))) for name in names]
    if len(names) > 1 and len(set(map(len, numbers))) == 1:
        varying = [place for place, values in enumerate(zip(*numbers, strict=True)) if len(set(values)) > 1]
        numbers = [tuple(one[place] for place in varying) for one in numbers]
    return {name: one for name, one in zip(names, numbers, strict=True) if one}


RULES: Mapping[str, Callable[[Sequence[str], Sequence[str]], tuple[Keys, Keys]]] = {
    "name": _by_name,
    "stem": _by_stem,
    "what differs in their names": _by_rest,
    "number": _by_number,
}
"""How files of two folders are matched, in the order of preference."""


def _normal(name: str) -> str:
    """Without the differences between systems: case, and letters with accents as one sign or as two."""
    return unicodedata.normalize("NFC", name).casefold()


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _unmatched(folder: Path, names: set[str]) -> list[str]:
    if not names:
        return []
    shown = sorted(names)[:SHOWN]
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return [f"no match for {len(names):,} of {folder}: {', '.join(shown)}{more}"]


def _first(files: Mapping[str, Path]) -> str:
    return repr(next(iter(files)))


# --- groups and noisy pairs


def _pattern(group: str) -> re.Pattern[str] | None:
    try:
        return re.compile(group) if group else None
    except re.error as error:
        raise InputError(f"--group {group!r}: is not a regular expression ({describe_error(error)})") from error


def _group(name: str, pattern: re.Pattern[str] | None) -> str:
    if pattern is None:
        return name.rpartition("/")[0]
    found = pattern.search(name)
    if not found:
        raise InputError(f"--group {pattern.pattern!r}: {name} does not match it")
    return next((one for one in found.groups() if one), found[0])


def _mark_noisy(rows: Sequence[dict[str, str]], names: Sequence[str], path: Path) -> int:
    """Fill in the column `noisy`, and return the number of noisy pairs.

    A line of the file is the name of a first image, with as many of its folders as tell it from others, with or without
    ending. `names` are those within the folder of first images; a line that is one of them means that image.
    """
    keys: dict[str, list[int]] = defaultdict(list)
    whole: dict[str, list[int]] = defaultdict(list)
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        whole[_normal(name)].append(number)
        parts = row["image"].split("/")
        ends = {"/".join(parts[start:]) for start in range(len(parts))}
        for key in {_normal(one) for end in ends for one in (end, _stem(end))}:
            keys[key].append(number)
    found: dict[str, list[int]] = {}
    for line in _lines(path):
        own = whole.get(_normal(line), [])
        found[line] = own if len(own) == 1 else keys.get(_normal(line), [])
    for line, own in found.items():
        if len(own) > 1:
            pairs = ", ".join(rows[number]["image"] for number in own[:3])
            shown = one_line(repr(line), most=80)
            raise InputError(
                f"{path}: {shown} matches {len(own):,} pairs, such as {pairs}; write its folder and ending, too"
            )
    if left := [line for line, own in found.items() if not own]:
        count = f"{len(left):,} names match" if len(left) > 1 else "1 name matches"
        raise InputError(
            f"{path}: {count} no pair, such as {one_line(repr(min(left)), most=80)}; "
            "write names of first images, with or without folder and ending"
        )
    noisy = {number for own in found.values() for number in own}
    for number, row in enumerate(rows):
        row["noisy"] = "yes" if number in noisy else "no"
    return len(noisy)


def _lines(path: Path) -> list[str]:
    """The lines that are not empty, each once, with slashes."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot be read ({describe_error(error)}); write a name in each line, in UTF-8"
        ) from error
    return list(
        dict.fromkeys(line.strip().replace("\\", "/").removeprefix("./") for line in text.splitlines() if line.strip())
    )
