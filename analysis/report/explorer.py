"""The data of a report's explorer: every score against rho, by loss, nu, pairing and varied setting.

The numbers are those of the tables and figures, from the same functions. `explorer.js` draws what the reader chooses.
"""

import json
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from analysis.names import BASELINES, PAIRINGS, WITHOUT_NU, display_name, in_order
from analysis.plots.style import Dashes, LineStyle, line_style, numbered_style
from analysis.records.schema import CLASS_PREFIX, COLUMNS
from analysis.records.studies import STUDY, Study, studies
from analysis.stats.differences import against_rho_zero, comparable, noisy_minus_exposure
from analysis.stats.inference import by_cell

#: What is shown of a score: itself, minus that at rho 0, noisy minus exposure.
SHOWN = ("score", "zero", "exposure")

_POINT = ["objective", "rho", "nu", "pairing"]
_NEEDED = [*STUDY, *_POINT, "seed", "key", "status"]

# Columns of numbers that are no scores: the coordinates of a cell.
_COORDINATES = ("rho", "nu")

# Times depend on the machine, so a curve of them means nothing.
_TIMES = ("s", "images/s")

# The tables show four digits of a fraction, as 61.23 %.
_DIGITS = 6

# Styles of lines that have none of their own; further lines begin again.
_STYLES = 35

# As matplotlib draws them, in widths of the line.
_DASHES: Mapping[Dashes, tuple[float, ...]] = {"-": (), "--": (3.7, 1.6), "-.": (6.4, 1.6, 1, 1.6), ":": (1, 1.65)}

Value = tuple[float, float | None, float | None, int] | None
"""Mean over seeds, the ends of its interval, number of seeds; None for a cell without a value."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A curve against rho, or the cell at rho 0 that it begins with."""

    at: Mapping[str, float | str]
    """Its place on each axis that it has; at rho 0 there is neither nu nor pairing."""
    rho: Sequence[float]
    values: Mapping[str, Mapping[str, Sequence[Value]]]
    """Score -> one of `SHOWN` -> a value for each rho."""


def explorer_json(known: Iterable[Study]) -> str:
    """The data as JSON for a script element; `known` as from `with_interactions`.

    Raises `RecordsError` as `analysis.stats.differences.comparable`.
    """
    groups = list(_groups(known))
    losses = in_order({name for _, levels in groups for level in levels for name in level.records["objective"]})
    data = {
        "studies": [_study(title, levels) for title, levels in groups],
        "names": {name: display_name(name) for name in (*losses, *PAIRINGS)},
        "baselines": list(BASELINES),
        "styles": {name: _style(line_style(name, losses)) for name in (*losses, *PAIRINGS)},
        "numbered": [_style(numbered_style(index)) for index in range(_STYLES)],
    }
    # Otherwise a name in the records could end the script element.
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def lines(level: Study, scores: Sequence[str]) -> list[Line]:
    """The lines of a study, the cells at rho 0 among them, in the order of the paper."""
    tables = {shown: _by_cell(level, scores, shown) for shown in SHOWN}
    cells = level.records[_POINT].drop_duplicates()
    rhos = {pairing: sorted(set(part)) for pairing, part in cells.groupby("pairing")["rho"]}
    order = {name: place for place, name in enumerate((*in_order(cells["objective"]), "none", *PAIRINGS))}
    found = cells[["objective", "nu", "pairing"]].drop_duplicates()
    found = found.sort_values(
        ["objective", "pairing", "nu"], key=lambda column: column if column.name == "nu" else column.map(order)
    )
    used = {name: _settings(level, part) for name, part in level.records.groupby("objective")}
    result = []
    for objective, nu, pairing in found.itertuples(index=False, name=None):
        at: dict[str, float | str] = {"loss": objective, **used[objective]}
        if pairing != "none":
            at["pairing"] = pairing
            if nu > 0 and pairing not in WITHOUT_NU:
                at["nu"] = nu
        where = [(objective, rho, nu, pairing) for rho in rhos[pairing]]
        values = {
            score: {shown: [table.get((score, *place)) for place in where] for shown, table in tables.items()}
            for score in scores
        }
        result.append(Line(at=at, rho=rhos[pairing], values={name: _without_empty(values[name]) for name in scores}))
    return result


def score_names(records: pd.DataFrame) -> list[str]:
    """The columns of scores, and of other measures of a cell, that have a value."""
    units = {column.name: column.unit for column in COLUMNS}
    return [
        str(name)
        for name in records.columns
        if pd.api.types.is_float_dtype(records[name])
        and (name in units or str(name).startswith(CLASS_PREFIX))
        and name not in _COORDINATES
        and units.get(str(name)) not in _TIMES
        and records[name].notna().any()
    ]


def _groups(known: Iterable[Study]) -> Iterable[tuple[str, list[Study]]]:
    """Title and levels of each study; a study without varied settings is its only level."""
    covered: set[str] = set()
    for study in known:
        if study.varied:
            covered |= set(study.records["key"])
            yield study.title, studies(study.records, level=study.level)
        elif not set(study.records["key"]) <= covered:
            yield study.title, [study]


def _study(title: str, levels: Sequence[Study]) -> dict[str, Any]:
    whole = pd.concat([level.records for level in levels])
    scores = score_names(whole)
    found = [asdict(line) for level in levels for line in lines(level, scores)]
    # A loss that does not use a setting has the same line at each of its values.
    found = list({json.dumps(line["at"]): line for line in found}.values())
    axes = ["loss", "nu", "pairing", *dict.fromkeys(name for level in levels for name, _ in level.settings)]
    present = {axis: {line["at"][axis] for line in found if axis in line["at"]} for axis in axes}
    ordered: dict[str, list[Any]] = {axis: sorted(values) for axis, values in present.items()}
    ordered["loss"] = in_order(present["loss"])
    ordered["pairing"] = [name for name in PAIRINGS if name in present["pairing"]]
    units = {column.name: column for column in COLUMNS}
    return {
        "title": title,
        "level": f"{100 * levels[0].level:.4g} %",
        "score": levels[0].metric,
        "scores": {
            name: {
                "fraction": units[name].unit == "0-1" if name in units else True,
                "meaning": units[name].meaning if name in units else "test F1 of this class",
            }
            for name in scores
        },
        "axes": {axis: values for axis, values in ordered.items() if values},
        "lines": found,
    }


def _by_cell(level: Study, scores: Sequence[str], shown: str) -> dict[Hashable, Value]:
    """The values of all cells: (score, objective, rho, nu, pairing) -> value."""
    if not scores:
        return {}
    # One call for all scores: a study has one data set, so the column of its name can hold that of the score.
    records = level.records
    several = pd.concat([records[_NEEDED].assign(dataset=name, value=records[name]) for name in scores])
    if shown == "score":
        table = comparable(several, "value").rename(columns={"value": "difference"})
    elif shown == "zero":
        table = against_rho_zero(several, "value")
    else:
        table = noisy_minus_exposure(several, "value").assign(pairing="noisy")
    table["difference"] = table["difference"].replace([np.inf, -np.inf], np.nan)  # of a loss that has diverged
    by = ["dataset", *_POINT]
    table = by_cell(table, by=by, level=level.level)
    table = table[table["n"] > 0]
    return {
        row[:5]: (_short(row[5]), _end(row[6]), _end(row[7]), int(row[8]))
        for row in table[[*by, "estimate", "low", "high", "n"]].itertuples(index=False, name=None)
    }


def _settings(level: Study, records: pd.DataFrame) -> dict[str, float | str]:
    """The varied settings that a loss uses, with their values at this level."""
    return {name: value for name, value in level.settings if records[name].notna().any()}


def _without_empty(values: Mapping[str, list[Value]]) -> dict[str, list[Value]]:
    return {shown: found for shown, found in values.items() if any(found)}


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def _end(value: float) -> float | None:
    return None if np.isnan(value) else _short(value)


def _style(style: LineStyle) -> dict[str, Any]:
    dashes = _DASHES[style.dashes] if isinstance(style.dashes, str) else style.dashes[1]
    return {"colour": style.colour, "marker": style.marker, "dashes": dashes}
