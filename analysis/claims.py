"""`python -m analysis.claims DIR...`: which findings of the paper the records support, contradict or leave undecided.

Does not need torch, ray or mlflow. Several folders are merged, and each study is judged separately.
"""

import argparse
import json
import math
import sys
import textwrap
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, get_args

import pandas as pd

from analysis.cli import add_folders, add_margin, exit_with, number_between
from analysis.errors import RecordsError
from analysis.findings.verdicts import JudgedPart, Judgement, Verdict, judge
from analysis.names import LEVEL
from analysis.records.merge import print_notes, read_sweeps
from analysis.text import printable

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

#: Parts of a claim that the text shows at most. If there are more, the weakest ones are shown.
_PARTS_SHOWN = 4


def claims_table(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """One row for each finding and study, with the numbers of the weakest part.

    Columns:
        study, key, sentence, where, verdict: see `Judgement` and `Finding`.
        asked: whether the data set is not one of the paper's, or the probe predicts something else.
        unit: of the numbers below; 100 times that of the score.
        part, estimate, low, high, region, method, seeds, cells: of the weakest part; numbers may be null.
        expected: the number of cells that this part should have.
        parts: the number of parts.
        decide: what would decide the finding, or why it is not applicable.
        p, p_holm, values, collapsed: see `Judgement`.
    """
    rows = [
        {
            "study": j.study,
            "asked": j.own_data or j.other_task != "",
            "key": j.finding.key,
            "sentence": j.finding.sentence,
        }
        | {"where": j.finding.where, "verdict": j.verdict, "unit": j.finding.unit, **_numbers(j.weakest)}
        | {"parts": len(j.parts), "decide": j.decide, "p": j.p, "p_holm": j.p_holm}
        | {"values": j.values, "collapsed": j.collapsed}
        for j in judgements
    ]
    head = ["study", "asked", "key", "sentence", "where", "verdict", "unit"]
    return _typed(
        pd.DataFrame(rows, columns=[*head, *_NUMBERS, "parts", "decide", "p", "p_holm", "values", "collapsed"])
    )


def parts_table(judgements: Sequence[Judgement]) -> pd.DataFrame:
    """One row for each part: study, key, verdict of the part, numbers as in `claims_table`, `p` and `decide`."""
    rows = [
        {"study": j.study, "key": j.finding.key, "verdict": part.verdict, "unit": j.finding.unit}
        | {**_numbers(part), "p": part.p, "decide": part.reason}
        for j in judgements
        for part in j.parts
    ]
    return _typed(pd.DataFrame(rows, columns=["study", "key", "verdict", "unit", *_NUMBERS, "p", "decide"]))


def mean_text(row: Mapping[Hashable, Any]) -> str:
    """The mean and the interval in a row of `claims_table` or `parts_table`, or why there is no mean."""
    if pd.isna(row["estimate"]):
        return str(row["method"])
    return f"{row['estimate']:+.2f} " + (
        "(no interval)" if pd.isna(row["low"]) else f"[{row['low']:+.2f}, {row['high']:+.2f}]"
    )


def count_verdicts(judgements: Iterable[Judgement]) -> str:
    """The number of each verdict, including zeros, such as "3 supported, 1 contradicted, ..."."""
    counts = Counter(j.verdict for j in judgements)
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)


def render(judgements: Sequence[Judgement], *, width: int = 120, everything: bool = False) -> str:
    """The judgements as text, with a section for each study.

    Findings that are not applicable are summarised in one paragraph, unless `everything` is set.
    """
    sections = [_section(list(part), width, everything) for _, part in groupby(judgements, key=lambda j: j.study)]
    return "\n".join(line.rstrip() for line in printable("\n\n".join(sections)).split("\n"))


_NUMBERS = ("part", "estimate", "low", "high", "region", "method", "seeds", "cells", "expected")


def _numbers(part: JudgedPart | None) -> dict[str, Any]:
    if part is None:
        return {}
    e = part.estimate
    numbers = (100 * e.estimate, 100 * e.low, 100 * e.high, str(part.region), e.method, e.seeds, e.cells)
    return dict(zip(_NUMBERS, (part.name, *numbers, part.expected), strict=True))


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """The same column types for any content, so that tables of several studies agree."""
    reals = [name for name in ("estimate", "low", "high", "p", "p_holm") if name in table]
    counts = [name for name in ("seeds", "cells", "expected", "parts", "values", "collapsed") if name in table]
    return table.astype({**dict.fromkeys(reals, "float64"), **dict.fromkeys(counts, "Int64")})


def _section(judgements: Sequence[Judgement], width: int, everything: bool) -> str:
    first = judgements[0]
    lines = textwrap.wrap(f"{first.study}: {_count(first.seeds, 'seed')}, {first.score}", width)
    lines.append(f"{len(judgements)} findings: {count_verdicts(judgements)}")
    lines += textwrap.wrap(first.about, width)
    if first.own_data:
        lines.append("The paper does not use this data set: these are its claims about real data")
    if first.other_task:
        lines += textwrap.wrap(f"The paper does not predict {first.other_task}: its claims are asked of that", width)
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
    if j.collapsed:
        what = "a cell whose loss is at its plateau" if j.older else "a collapsed cell"
        yield f"{' ' * 16}{j.collapsed} of {j.values} values rest on {what}"
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
    # Without `first`, because textwrap would collapse the spaces in it.
    lines = textwrap.wrap(text, max(width - len(first), 20), drop_whitespace=True, break_long_words=True) or [""]
    return [first + lines[0], *(" " * len(first) + line for line in lines[1:])]


def _as_json(judgements: Sequence[Judgement]) -> str:
    """The rows of `claims_table`, each with its `parts` as rows of `parts_table`; a missing number is null."""
    claims = json.loads(claims_table(judgements).to_json(orient="records", double_precision=15))
    for claim, judgement in zip(claims, judgements, strict=True):
        claim["parts"] = json.loads(parts_table([judgement]).to_json(orient="records", double_precision=15))
    return json.dumps(claims, indent=2)


def as_csv(judgements: Sequence[Judgement]) -> str:
    """The rows of `claims_table` as CSV."""
    return claims_table(judgements).to_csv(index=False).rstrip("\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the judgements. The exit code is 2 for a user error."""
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
        print(as_csv(judgements) if options.format == "csv" else _as_json(judgements))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.claims", description=__doc__)
    add_folders(parser, "dirs")
    add_margin(parser)
    parser.add_argument(
        "--level",
        type=number_between("the level", 0, 0.9999),
        help=f"confidence level of the intervals (default: {LEVEL:g}, higher for sweeps with adaptive seeds)",
    )
    parser.add_argument("--format", choices=("text", "csv", "json"), default="text")
    parser.add_argument("--all", action="store_true", help="also show each finding that is not applicable")
    return parser


if __name__ == "__main__":
    exit_with(main)
