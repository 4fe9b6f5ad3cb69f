"""`python -m analysis.compare DIR REFERENCE`: whether a sweep agrees with a reference, such as one of docs/results.

The exit code is 0 if they agree within their intervals, 1 if they differ, and 2 if this cannot be decided. Does not
need torch, ray or mlflow.
"""

import argparse
import sys
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from analysis.cli import add_folders, exit_with, number_between
from analysis.errors import RecordsError
from analysis.findings.verdicts import judge
from analysis.names import LEVEL
from analysis.records.merge import ENGINE, MergedRecords, print_notes, read_sweeps
from analysis.records.plan import flat, read_plan
from analysis.records.studies import Study, studies
from analysis.stats.agreement import Agreement, agreement, of_one_data
from analysis.text import aligned, first_few, one_line, printable

_NAMES_SHOWN = 5
_ABSENT = "-"


class StudyComparison(NamedTuple):
    """A study of the run, a study of the reference with the same recipe, and their agreement."""

    run: Study
    reference: Study
    agreement: Agreement


def compare(run: MergedRecords, reference: MergedRecords, *, level: float = LEVEL) -> list[StudyComparison]:
    """Compare each study of the reference with the studies of the run that have its recipe.

    If some of those have the same data, only these are compared. Raises `RecordsError` if no recipe is in both (the
    message says what differs), and as `analysis.stats.agreement.agreement`.
    """
    own, others = (studies(merged.records, level=merged.level) for merged in (run, reference))
    pairs = [(one, other) for other in others for one in _of_same_recipe(other, own)]
    if not pairs:
        raise RecordsError(f"no recipe is in both, so nothing can be compared: {_what_differs(run, reference)}")
    level = max(level, run.level, reference.level)
    return [StudyComparison(one, other, agreement(one, other, level=level)) for one, other in pairs]


def render(compared: Sequence[StudyComparison], *, everything: bool = False) -> str:
    """The comparisons as text, with a section for each study.

    It shows the means over the grid, and the cells outside their intervals (with `everything`: all cells).
    """
    return printable("\n\n".join("\n".join(_section(one, everything)) for one in compared))


def _of_same_recipe(reference: Study, among: Sequence[Study]) -> list[Study]:
    """The studies with the recipe of the reference; only those with its data, if there are any."""
    same = [
        s for s in among if (s.dataset, s.recipe, s.metric) == (reference.dataset, reference.recipe, reference.metric)
    ]
    # Where a sweep varies settings that a loss does not use, several studies have one recipe.
    same = [
        study for study in same if not (study.settings and reference.settings) or study.settings == reference.settings
    ]
    return [study for study in same if of_one_data(study, reference)] or same


def _section(one: StudyComparison, everything: bool) -> Iterator[str]:
    agreement = one.agreement
    named = f" ({one.reference.title})" * (one.reference.title != one.run.title)
    seeds = f"seeds {_seeds(one.run)}; the reference's{named} {_seeds(one.reference)}"
    yield f"{one.run.title}: {one.run.score}, %, {seeds}"
    yield from _other_differences(one)
    yield from _shared_cells(agreement)
    shown = agreement.table if everything else agreement.table[_is_noteworthy(agreement.table)]
    rows = [_row(row) for row in shown.to_dict("records")]
    if rows:
        yield from aligned([["", "run", "reference", "difference", "interval", ""], [], *rows])
    if hidden := len(agreement.table) - len(shown):
        yield f"  and {hidden} cells inside their intervals, or without an interval (show them with --all)"
    yield from _verdicts(one)
    yield _conclusion(agreement)


def _shared_cells(agreement: Agreement) -> Iterator[str]:
    """Lines on the cells in both, and on those in one of them."""
    cells = agreement.cells
    if cells.shared:
        typical, largest = 100 * cells.typical, 100 * cells.largest
        others = f"; the others differ by {typical:.2f} points (root mean square), at most {largest:.2f}"
        rest = others * (cells.equal < cells.shared)
        yield f"{cells.equal} of the {cells.shared} cells in both are identical, bit for bit{rest}"
    if cells.run_only or cells.reference_only:
        only = f"{cells.run_only} cells of the run, {cells.reference_only} of the reference"
        yield f"only in one, or on other data: {only}"
    if cells.failed:
        yield f"{cells.failed} cells failed in the run but are done in the reference"


def _is_noteworthy(table: pd.DataFrame) -> pd.Series:
    return (table["kind"] != "cell") | (table["low"] > 0) | (table["high"] < 0)


def _row(row: Mapping[Hashable, Any]) -> list[str]:
    known = not pd.isna(row["low"])
    ends = f"[{100 * row['low']:+.2f}, {100 * row['high']:+.2f}]" if known else _ABSENT
    verdict = row["verdict"]
    if verdict == "agrees" and known and not row["low"] <= 0 <= row["high"]:
        verdict = "outside its own"
    return [
        row["name"],
        *(f"{100 * row[n]:.2f}" for n in ("run", "reference")),
        f"{100 * row['difference']:+.2f}",
        ends,
        verdict,
    ]


def _other_differences(one: StudyComparison) -> Iterator[str]:
    """Lines on data and engine, if they differ."""
    if not of_one_data(one.run, one.reference):
        yield "note: the data may differ (no equal fingerprints), so cells are not compared one by one"
    for name in (name for name in ENGINE if name not in ("commit", "version", "versions")):
        own, other = (sorted(map(str, s.records[name].dropna().unique())) for s in (one.run, one.reference))
        if own != other and own and other:
            yield f"note: {name} is {', '.join(own)}; in the reference {', '.join(other)}"


def _verdicts(one: StudyComparison) -> Iterator[str]:
    """Lines on the verdicts: how many are the same, and which are opposite."""
    both_studies = (one.run, one.reference)
    sides = [{j.finding.key: j for j in judge(study.records, level=study.level)} for study in both_studies]
    both = [(sides[0][key], sides[1][key]) for key in sides[0]]
    both = [(a, b) for a, b in both if "not applicable" not in (a.verdict, b.verdict)]
    same = sum(a.verdict == b.verdict for a, b in both)
    opposite = [pair for pair in both if {one.verdict for one in pair} == {"supported", "contradicted"}]
    if both:
        yield f"verdicts on the paper's findings: {same} of {len(both)} the same, {len(opposite)} opposite"
    for own, other in opposite:
        yield f"  {own.finding.key}: {own.verdict}; in the reference {other.verdict}"


def _conclusion(agreement: Agreement) -> str:
    if agreement.same and agreement.verdict == "agrees":
        return "agrees: same cells, same numbers"
    if agreement.verdict == "cannot say":
        return "cannot say: no common number has an interval; run more seeds, or the cells of the reference"
    level, chance = f"{100 * agreement.level:.4g} %", (1 - agreement.level) * agreement.intervals
    outside = f"{agreement.outside} of {agreement.intervals} are outside their own {level} interval"
    counted = f"{outside}, {chance:.1f} expected by chance"
    if agreement.verdict == "agrees":
        return f"agrees: no difference is larger than chance, corrected for their number ({counted})"
    names = list(agreement.table.loc[agreement.table["verdict"] == "differs", "name"])
    names += ["cells that failed"] if agreement.cells.failed else []
    few = first_few(names, _NAMES_SHOWN, "; ")
    return f"differs, corrected for the number of comparisons, in: {few} ({counted})"


def _seeds(study: Study) -> str:
    return " ".join(map(str, sorted(study.records.loc[study.records["status"] == "done", "seed"].unique())))


def _what_differs(run: MergedRecords, reference: MergedRecords) -> str:
    """The settings that differ, from the sweep.yaml files; without these the recipes, data sets and scores."""
    plans = [_settings(merged.folders[0]) for merged in (run, reference)]
    names = [name for name in {**plans[0], **plans[1]} if plans[0].get(name, _ABSENT) != plans[1].get(name, _ABSENT)]
    if not all(plans) or not names:
        return f"{_described(run)} in the run, {_described(reference)} in the reference"
    differences = []
    for name in names:
        own, other = (one_line(plan.get(name, _ABSENT), most=40) for plan in plans)
        differences.append(f"{one_line(name, most=60)} is {own} in the run, {other} in the reference")
    return first_few(differences, _NAMES_SHOWN, "; ")


def _described(merged: MergedRecords) -> str:
    return ", ".join(f"{s.dataset} ({s.score}) of recipe {s.recipe}" for s in studies(merged.records))


def _settings(path: Path) -> dict[str, object]:
    """The recipe in a sweep.yaml, as dotted names; {} if it cannot be read."""
    recipe = read_plan(path).get("recipe")
    return flat(recipe) if isinstance(recipe, Mapping) else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the comparison. The exit code is that of the module's docstring; it is also 2 for a user error."""
    options = _parser().parse_args(arguments)
    try:
        sides = [read_sweeps([sweep]) for sweep in (options.dir, options.reference)]
        compared = compare(*sides, level=options.level)
    except (RecordsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for side in sides:
        print_notes(side)
    if options.format == "text":
        print(render(compared, everything=options.all))
    else:
        tables = [
            one.agreement.table.assign(study=one.run.title, reference_study=one.reference.title) for one in compared
        ]
        print(pd.concat(tables, ignore_index=True).to_csv(index=False), end="")
    verdicts = {one.agreement.verdict for one in compared}
    return 1 if "differs" in verdicts else 2 if "cannot say" in verdicts else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis.compare", description=__doc__)
    add_folders(parser, nargs=None)
    add_folders(parser, "reference", nargs=None, metavar="REFERENCE")
    parser.add_argument(
        "--level", type=number_between("the level", 0, 0.9999), default=LEVEL, help="confidence level of the intervals"
    )
    parser.add_argument("--format", choices=("text", "csv"), default="text")
    parser.add_argument("--all", action="store_true", help="show every cell")
    return parser


if __name__ == "__main__":
    exit_with(main)
