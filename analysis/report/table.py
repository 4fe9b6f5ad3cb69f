"""A table of the report, in HTML, Markdown and LaTeX."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

ABSENT = "-"

# Number of rows that fit on a page of a journal.
_PAGE = 40


class Entry(NamedTuple):
    """The text of an entry and its sort key (empty if there is no value)."""

    text: str
    sort: str


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of a table."""

    heading: str
    value: Callable[[Mapping[str, Any]], Any]
    """From a row of the frame to the value that is also the sort key."""
    write: Callable[[Any], str] = str
    """From the value to its text."""
    text: bool = False
    """Text, aligned left; otherwise a number."""
    verdict: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with title and note."""

    anchor: str
    title: str
    note: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Entry]]
    empty: str = "Nothing to show."


def make(
    anchor: str, title: str, note: str, columns: Sequence[Column], frame: pd.DataFrame, empty: str = "Nothing to show."
) -> Table:
    """The rows of a frame as a table."""
    rows = [[_entry(column, row) for column in columns] for row in frame.to_dict("records")]
    return Table(anchor=anchor, title=title, note=note, columns=columns, rows=rows, empty=empty)


def text(heading: str, name: str, write: Callable[[Any], str] = str) -> Column:
    """A column of text."""
    return Column(heading=heading, value=lambda row: row[name], write=write, text=True)


def number(heading: str, name: str, form: str = "g", scale: float = 1.0) -> Column:
    """A column of numbers, multiplied by `scale` and then formatted."""

    def write(value: float) -> str:
        return "∞" if math.isinf(value) else format(scale * value, form)

    return Column(heading=heading, value=lambda row: row[name], write=write)


def percent(heading: str, name: str) -> Column:
    """A column of fractions, in %."""
    return number(heading, name, ".1f", 100)


def points(heading: str, name: str) -> Column:
    """A column of differences of fractions, in points."""
    return number(heading, name, "+.2f", 100)


def interval(heading: str, low: str = "low", high: str = "high") -> Column:
    """A column of intervals of differences, in points; sorted by the lower end."""

    def value(row: Mapping[str, Any]) -> Any:
        return None if _absent(row[low]) else (100 * row[low], 100 * row[high])

    return Column(heading=heading, value=value, write=lambda ends: f"[{ends[0]:+.2f}, {ends[1]:+.2f}]")


def p_value(heading: str, name: str) -> Column:
    """A column of p values."""
    return Column(
        heading=heading, value=lambda row: row[name], write=lambda p: "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0")
    )


def markdown(table: Table) -> str:
    """The table in GitHub's Markdown."""
    heads = [column.heading for column in table.columns]
    rule = [":--" if column.text else "--:" for column in table.columns]
    lines = [f"### {table.title}", ""]
    if table.note:
        lines += [table.note, ""]
    if not table.rows:
        return "\n".join([*lines, table.empty])
    body = [[entry.text.replace("|", "\\|") for entry in row] for row in table.rows]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in [heads, rule, *body])])


def latex(table: Table) -> str:
    """The table in LaTeX with caption and label. It needs booktabs, and longtable if it exceeds a page."""
    if not table.rows:
        return f"% {table.title}: {table.empty}"
    heads = [column.heading for column in table.columns]
    frame = pd.DataFrame([[entry.text for entry in row] for row in table.rows]).set_axis(range(len(heads)), axis=1)
    layout = "".join("l" if column.text else "r" for column in table.columns)
    caption = _escape(f"{table.title}. {table.note}".strip())
    frame = frame.map(_escape).set_axis([_escape(head) for head in heads], axis=1)
    long = len(table.rows) > _PAGE
    return frame.to_latex(
        index=False,
        escape=False,
        column_format=layout,
        caption=caption,
        label=f"tab:{table.anchor}",
        position=None if long else "htbp",
        longtable=long,
    ).rstrip()


_LATEX = str.maketrans(
    {
        **{mark: f"\\{mark}" for mark in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": "$<$",
        ">": "$>$",
        "±": r"$\pm$",
        "∞": r"$\infty$",
    }
)


def _escape(text: str) -> str:
    return text.translate(_LATEX)


def _entry(column: Column, row: Mapping[Any, Any]) -> Entry:
    value = column.value(row)
    if _absent(value):
        return Entry(ABSENT, "")
    key = value[0] if isinstance(value, tuple) else value
    # As JavaScript writes numbers.
    sort = repr(float(key)).replace("inf", "Infinity") if isinstance(key, int | float) else str(key)
    return Entry(column.write(value), sort)


def _absent(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))
