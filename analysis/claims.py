"""`python -m analysis.claims DIR...`: which findings of the paper the records support, contradict or leave open.

Needs neither torch, ray nor mlflow. Several folders are joined; each study in them is judged by itself.
"""

import argparse
import json
import math
import sys
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, get_args

import pandas as pd

from analysis.cli import add_folders, exit_with, number_between
from analysis.errors import RecordsError
from analysis.findings.verdicts import JudgedPart, Judgement, Verdict, judge
from analysis.names import LEVEL
from analysis.records.merge import print_notes, read_sweeps
from analysis.stats.inference import MARGIN
from analysis.text import printable

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

#: The most parts of a claim that the text shows; of more, those that speak most against it.
_PARTS_SHOWN = 4


def claims_table(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """A row per finding and study, with the numbers of the part that speaks most against it.

    Columns: `study`, `asked`, `key`, `sentence`, `where`, `verdict`, `unit`; of that part `part`, `estimate`, `low`,
    `high` (in `unit`: 100 times the score's, null where there is none), `region`, `method`, `seeds`, `cells`,
    `expected` (cells that it should have); of the finding `parts` (their number), `decide` (what would decide it, or
    why it is not applicable), `p` and `p_holm` (see `Judgement`).
    """
    rows = [{**_head(j), **_numbers(j.weakest), **_tail(j)} for j in judgements]
    columns = [*_HEAD, *_numbers(None), *_TAIL]
    return _typed(pd.DataFrame(rows, columns=columns))


def parts_table(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """A row per part: study, key, verdict of the part, the numbers as in `claims_table`, `p` and `decide`."""
    rows = [
        {"study": j.study, "key": j.finding.key, "verdict": part.verdict, "unit": j.finding.unit}
        | {**_numbers(part), "p": part.p, "decide": part.reason}
        for j in judgements
        for part in j.parts
    ]
    return _typed(pd.DataFrame(rows, columns=["study", "key", "verdict", "unit", *_numbers(None), "p", "decide"]))


def count_verdicts(judgements: Iterable[Judgement]) -> str:
    """The verdicts and how often each was given, such as "3 supported, 1 contradicted, ...", zeros too."""
    counts = Counter(j.verdict for j in judgements)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)


def render(judgements: Sequence[Judgement], *, width: int = 120, everything: bool = False) -> str:
    """The judgements as text, a section per study; those not applicable in one line unless `everything`."""
    sections = [_section(list(part), width, everything) for _, part in groupby(judgements, key=lambda j: j.study)]
    return "\n".join(line.rstrip() for line in printable("\n\n".join(sections)).split("\n"))


_HEAD = ("study", "asked", "key", "sentence", "where", "verdict", "unit")
_TAIL = ("parts", "decide", "p", "p_holm")


def _head(j: Judgement) -> dict[str, Any]:
    f = j.finding
    return dict(zip(_HEAD, (j.study, j.own_data, f.key, f.sentence, f.where, j.verdict, f.unit), strict=True))


def _tail(j: Judgement) -> dict[str, Any]:
    return dict(zip(_TAIL, (len(j.parts), j.decide, j.p, j.p_holm), strict=True))


def _numbers(part: JudgedPart | None) -> dict[str, Any]:
    if part is None:
        names = ("part", "estimate", "low", "high", "region", "method", "seeds", "cells", "expected")
        return dict.fromkeys(names)
    e = part.estimate
    points = {name: 100 * value for name, value in (("estimate", e.estimate), ("low", e.low), ("high", e.high))}
    counts = {"seeds": e.seeds, "cells": e.cells, "expected": part.expected}
    return {"part": part.name, **points, "region": str(part.region), "method": e.method, **counts}


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """One type a column whatever it holds, so that tables of several studies agree."""
    reals = [name for name in ("estimate", "low", "high", "p", "p_holm") if name in table]
    counts = [name for name in ("seeds", "cells", "expected", "parts") if name in table]
    return table.astype({**dict.fromkeys(reals, "float64"), **dict.fromkeys(counts, "Int64")})


def _section(judgements: Sequence[Judgement], width: int, everything: bool) -> str:
    first = judgements[0]
    lines = textwrap.wrap(f"{first.study}: {_count(first.seeds, 'seed')}, {first.score}", width)
    lines.append(f"{len(judgements)} findings: {count_verdicts(judgements)}")
    if first.own_data:
        lines.append("The paper does not speak of this data set: its claims about real data, asked of it")
    for j in judgements:
        if everything or j.verdict != "not applicable":
            lines += ["", *_claim(j, width)]
    reasons: dict[str, list[str]] = {}
    for j in judgements:
        if j.verdict == "not applicable":
            reasons.setdefault(j.decide, []).append(j.finding.key)
    rest = "; ".join(f"{reason}: {', '.join(keys)}" for reason, keys in reasons.items())
    if rest and not everything:
        lines += ["", *_wrapped("not applicable  ", rest, width)]
    return "\n".join(lines)


def _claim(j: Judgement, width: int) -> Iterator[str]:
    finding = j.finding
    yield from _wrapped(f"{j.verdict:<16}", f"{finding.key} ({finding.where}): {finding.sentence}", width)
    ranked = j.ranked
    shown = j.parts if len(j.parts) <= _PARTS_SHOWN else ranked[: _PARTS_SHOWN - 1]
    names = max((len(part.name) for part in shown), default=0)
    for part in shown:
        yield from _wrapped(" " * 16, f"{part.name:<{names}}  {_measured(part, finding.unit)}", width)
    if len(shown) < len(j.parts):
        counts = Counter(part.verdict for part in ranked[len(shown) :])
        others = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
        yield f"{' ' * 16}and {len(j.parts) - len(shown)} more parts: {others}"
    if j.decide:
        what = "" if j.verdict == "not applicable" else "would decide it: "
        yield from _wrapped(" " * 16, what + j.decide, width)


def _measured(part: JudgedPart, unit: str) -> str:
    e = part.estimate
    if math.isnan(e.estimate):
        return e.method
    interval = "[no interval]" if math.isnan(e.low) else f"[{100 * e.low:+.2f}, {100 * e.high:+.2f}]"
    cells = f"{e.cells} of {part.expected}" if e.cells < part.expected else f"{e.cells}"
    count = f"{cells} cell{'' if part.expected == 1 else 's'}, {_count(e.seeds, 'seed')}"
    return f"{100 * e.estimate:+6.2f} {interval:<16} claimed {part.region} {unit}; {count}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _wrapped(first: str, text: str, width: int) -> list[str]:
    # Not textwrap on the whole: it would squeeze the columns of `first`.
    lines = textwrap.wrap(text, max(width - len(first), 20), drop_whitespace=True, break_long_words=True) or [""]
    return [first + lines[0], *(" " * len(first) + line for line in lines[1:])]


def _as_json(judgements: Sequence[Judgement]) -> str:
    """The rows of `claims_table`, each with its `parts` as rows of `parts_table`; null where there is no number."""
    claims = json.loads(claims_table(judgements).to_json(orient="records", double_precision=15))
    for claim, judgement in zip(claims, judgements, strict=True):
        claim["parts"] = json.loads(parts_table([judgement]).to_json(orient="records", double_precision=15))
    return json.dumps(claims, indent=2)


def _as_csv(judgements: Sequence[Judgement]) -> str:
    return claims_table(judgements).to_csv(index=False).rstrip("\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the judgements; returns the exit code, 2 for a user's mistake."""
    options = _parser().parse_args(arguments)
    try:
        merged = read_sweeps(options.dirs)
        level = merged.level if options.level is None else options.level
        judgements = judge(merged.records, margin=options.margin / 100, level=level)
    except (RecordsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_notes(merged)
    if options.format == "text":
        print(f"{100 * level:g}% intervals over seeds; margin {options.margin:g} points (--margin)\n")
        print(render(judgements, everything=options.all))
    else:
        print(_as_csv(judgements) if options.format == "csv" else _as_json(judgements))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.claims", description=__doc__)
    add_folders(parser, "dirs")
    parser.add_argument("--margin", type=number_between("the margin", 0, 100), default=100 * MARGIN, metavar="POINTS")
    parser.add_argument(
        "--level",
        type=number_between("the level", 0, 0.9999),
        help=f"of the intervals ({LEVEL:g}; more where seeds were added by looking)",
    )
    parser.add_argument("--format", choices=("text", "csv", "json"), default="text")
    parser.add_argument("--all", action="store_true", help="show each finding that is not applicable too")
    return parser


if __name__ == "__main__":
    exit_with(main)
