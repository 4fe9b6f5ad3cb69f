"""The front of a report: whether noisy pairs hurt, in one sentence a loss, with its interval as a small picture."""

import math
from dataclasses import dataclass

import pandas as pd

from analysis.names import display_name

_SAYS = {
    "better": "gains from noisy pairs",
    "not worse": "is robust to noisy pairs",
    "worse": "loses from noisy pairs",
    "undecided": "is undecided",
}


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate with its interval on an axis of all answers; each in % of the axis from its left end."""

    low: float
    estimate: float
    high: float
    zero: float
    margin: float
    """Where a loss of the margin is."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer for one loss and one kind of pairs."""

    loss: str
    verdict: str
    """The sentence's verb, such as `gains from noisy pairs`."""
    numbers: str
    """The difference with its interval, and the grid that it is a mean over."""
    interval: Interval | None
    """None if there is no interval."""

    @property
    def text(self) -> str:
        """The whole sentence."""
        return f"{self.loss} {self.verdict}: {self.numbers}"


def answers(effects: pd.DataFrame, margin: float) -> list[Answer]:
    """One answer for each row of `tables.effects` that has a value, in its order; `margin` is a fraction."""
    effects = effects[effects["estimate"].notna()]
    known = effects[effects["low"].notna()]
    left = min([-1.5 * margin, *known["low"]])
    right = max([1.5 * margin, *known["high"]])

    def place(value: float) -> float:
        return round(100 * (value - left) / (right - left), 2)

    found = []
    for row in effects.to_dict("records"):
        kind = row["kind"]
        pictured = not math.isnan(row["low"])
        between = f" [{_points(row['low'])}, {_points(row['high'])}]" if pictured else ", no interval"
        found.append(
            Answer(
                loss=display_name(row["objective"]) + ("" if kind.startswith("noisy") else f" ({kind})"),
                verdict=_SAYS[row["verdict"]],
                numbers=f"{_points(row['estimate'])} points{between}, at {row['grid'].replace(';', ',')}",
                interval=Interval(
                    low=place(row["low"]),
                    estimate=place(row["estimate"]),
                    high=place(row["high"]),
                    zero=place(0.0),
                    margin=place(-margin),
                )
                if pictured
                else None,
            )
        )
    return found


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f}"
