"""`python -m benchmarks.reference.means DIR...`: the numbers in docs/results, with t intervals over paired seeds.

Means over the grid by loss, then all cells, in points: gains over the random encoder, gains over rho 0, and one pairing
minus another. Several folders are merged.
"""

import argparse
import math
import re
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import median

import pandas as pd

from analysis.cli import exit_with
from analysis.errors import RecordsError
from analysis.names import BASELINES, PAIRINGS, WITHOUT_NU, in_order
from analysis.records.merge import print_notes, read_sweeps
from analysis.records.studies import Study, studies
from analysis.stats.collapse import is_collapsed, older_note, without_collapsed
from analysis.stats.differences import against_random, against_rho_zero, noisy_minus
from analysis.stats.intervals import Estimate, mean_over_grid
from analysis.text import aligned

_POINT = ["objective", "rho", "nu"]
_SIDE_BY_SIDE = 4
"""Losses and baselines in one table, whose lines then have about 120 characters."""


def contrasts(study: Study) -> dict[str, pd.DataFrame]:
    """The differences in a study by name, each with the columns objective, rho, nu, seed, `difference`."""
    zero = against_rho_zero(study.records, study.metric)
    found = {"rho 0 minus random": against_random(study.records, study.metric)}
    pairings = [p for p in PAIRINGS if (zero["pairing"] == p).any()]
    for pairing in pairings:
        part = zero[zero["pairing"] == pairing]
        for nu in sorted(part["nu"].unique()):
            named = f" (nu {nu:g})" * (pairing not in WITHOUT_NU)
            found[f"{pairing}{named} minus rho 0"] = part[part["nu"] == nu]
    # By nu, so that noisy minus rho 0 and noisy minus exposure are means over the same cells.
    others = [other for other in pairings[1:] if other != "misregistration"]  # its amount is no nu
    for other in others if pairings[:1] == ["noisy"] else []:
        differences = noisy_minus(study.records, other, study.metric)
        for nu in sorted(differences["nu"].unique()):
            named = f" (nu {nu:g})" * (other != "false_positive")
            found[f"noisy{named} minus {other}"] = differences[differences["nu"] == nu]
    known = {name: table.dropna(subset="difference") for name, table in found.items()}
    return {name: table for name, table in known.items() if len(table)}


def render(study: Study) -> str:
    """The means over the grid, the widths of the intervals of cells, and the cells of a study, as text."""
    tables = contrasts(study)
    columns = in_order(name for table in tables.values() for name in table["objective"])
    losses = [name for name in columns if name not in BASELINES]
    lines = [f"{study.title}: {study.score}, points, means over the grid [{100 * study.level:.4g} % over seeds]"]
    means = [[name, *(_mean(table, loss, study) for loss in columns)] for name, table in tables.items()]
    lines += _by_loss([""], columns, means)
    collapsed = set(study.records.loc[is_collapsed(study.records), "objective"])
    those = [name for name in columns if name in collapsed]
    if resting := [*_resting(tables, those, study)]:
        lines += ["", "Values that rest on a collapsed cell", *_by_loss([""], those, resting)]
        lines += textwrap.wrap(older_note(study.records), 120)
    widths = [*_widths(tables, study)]
    lines += ["", "Median half-width of a cell's interval, points", *aligned(widths)] if widths else []
    cells = [*_cells(tables, losses, study)]
    lines += ["", "Cells, points", *_by_loss(["", "rho", "nu"], losses, cells)] if cells else []
    return "\n".join(line.rstrip() for line in lines)


def _by_loss(places: Sequence[str], losses: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table with a column for each loss after its first columns; many losses in tables one below the other."""
    lines: list[str] = []
    for first in range(0, len(losses), _SIDE_BY_SIDE):
        here = slice(len(places) + first, len(places) + first + _SIDE_BY_SIDE)
        own = [[*row[: len(places)], *row[here]] for row in rows]
        told = [row for row in own if {*row[len(places) :]} != {"-"}]
        lines += ["", *aligned([[*places, *losses[first : first + _SIDE_BY_SIDE]], [], *told])]
    return lines[1:]


def _estimate(table: pd.DataFrame, study: Study) -> Estimate:
    cell = table.groupby(["rho", "nu"], dropna=False).ngroup()
    return mean_over_grid(table[["seed"]].assign(cell=cell, value=table["difference"]), level=study.level)


def _mean(table: pd.DataFrame, loss: str, study: Study) -> str:
    part = table[table["objective"] == loss]
    if part.empty:
        return "-"
    found = _estimate(part, study)
    if math.isnan(found.low):
        return f"{100 * found.estimate:+.1f}"
    return f"{100 * found.estimate:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _resting(tables: dict[str, pd.DataFrame], columns: Sequence[str], study: Study) -> Iterator[list[str]]:
    """How many values of each mean rest on a collapsed cell."""
    others = contrasts(replace(study, records=without_collapsed(study.records)))
    for name, table in tables.items():
        values = table["objective"].value_counts()
        left = others[name]["objective"].value_counts() if name in others else pd.Series(dtype=int)
        counts = {one: (values.get(one, 0) - left.get(one, 0), values.get(one, 0)) for one in columns}
        if any(resting for resting, _ in counts.values()):
            yield [name, *(f"{resting} of {count}" if count else "-" for resting, count in counts.values())]


def _cells(tables: dict[str, pd.DataFrame], losses: Sequence[str], study: Study) -> Iterator[list[str]]:
    for name, table in tables.items():
        for (rho, nu), part in table[table["rho"] > 0].groupby(["rho", "nu"], dropna=False):
            shown = "-" if name.startswith(WITHOUT_NU) else f"{nu:g}"
            yield [name.replace(f" (nu {nu:g})", ""), f"{rho:g}", shown, *(_mean(part, loss, study) for loss in losses)]


def _widths(tables: dict[str, pd.DataFrame], study: Study) -> Iterator[list[str]]:
    widths: dict[str, list[float]] = {}
    for name, table in tables.items():
        kind = re.sub(r" \(nu [^)]*\)", "", name)
        for _, part in table[table["rho"] > 0].groupby(_POINT, dropna=False):
            found = _estimate(part, study)
            if not math.isnan(found.low):
                widths.setdefault(kind, []).append(50 * (found.high - found.low))
    for kind, values in widths.items():
        yield [kind, f"{median(values):.1f}"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the numbers of every study in the folders."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reference.means", description=__doc__)
    parser.add_argument("folders", nargs="+", metavar="DIR", help="folder of a sweep, or its summary.parquet")
    try:
        joined = read_sweeps(parser.parse_args(arguments).folders)
        text = "\n\n".join(render(study) for study in studies(joined.records, level=joined.level))
    except RecordsError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print_notes(joined)
    print(text)
    return 0


if __name__ == "__main__":
    exit_with(main)
