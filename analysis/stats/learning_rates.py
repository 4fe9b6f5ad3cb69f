"""Learning-rate search: which rates continue with further seeds, and which one is chosen. It never uses test scores.

A table of tried rates has one row per cell: `dataset`, `objective`, `rate` (null for the random encoder), `seed`,
`key`, `status`, `score` (macro F1 of the probe on validation images, 0-1; null if the cell failed) and `attained`: the
share of its range, from plateau to floor, that the noise-free validation loss has covered (null if one is not known).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa

from analysis.names import in_order
from analysis.records import parquet
from analysis.stats.collapse import attained
from analysis.text import aligned

#: The score for choosing rates.
SCORE = "val_f1_macro"

#: Smallest number of rates that survive a round.
LEAST = 2


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The learning rate of one loss."""

    objective: str
    rate: float
    best: float
    """The rate with the best mean; larger than `rate` if the two cannot be distinguished."""
    score: float
    """Mean score of `rate`, 0-1."""
    seeds: int
    edge: Literal["smallest", "largest"] | None
    """Set if the best rate is the smallest or largest one tried, so a better one may lie beyond."""


def table(records: pd.DataFrame, rates: Mapping[tuple[str, str], float]) -> pd.DataFrame:
    """The table of this module's docstring.

    Args:
        records: as from `read_records`.
        rates: (fingerprint of the recipe, objective) -> learning rate. Records of other recipes are omitted, except
            those of the random encoder, which has no rate.
    """
    known = [(recipe, name) in rates for recipe, name in zip(records["recipe"], records["objective"], strict=True)]
    own = records[pd.Series(known, index=records.index) | (records["objective"] == "random")]
    done = own["status"] == "done"
    tried = pd.DataFrame(
        {
            **{name: own[name] for name in ("dataset", "objective")},
            "rate": [
                rates.get((recipe, name), math.nan)
                for recipe, name in zip(own["recipe"], own["objective"], strict=True)
            ],
            **{name: own[name] for name in ("seed", "key", "status")},
            "score": own[SCORE].where(done),
            "attained": attained(own).where(done),
        }
    )
    return tried.sort_values(["dataset", "objective", "rate", "seed"], ignore_index=True)


def surviving(scores: Mapping[float, Sequence[float]]) -> tuple[float, ...]:
    """The rates that continue with the next seed: the better half by mean score, at least `LEAST`; sorted.

    This is successive halving (Jamieson & Talwalkar 2016) with seeds as the resource. All surviving rates have run with
    the same seeds, so they are compared on the same draws, and the order in which cells end does not matter. Of equal
    rates the smaller one survives.

    Args:
        scores: rate -> its scores, one per seed; without failed rates.
    """
    ranked = sorted(scores, key=lambda rate: (-sum(scores[rate]) / len(scores[rate]), rate))
    return tuple(sorted(ranked[: max(LEAST, math.ceil(len(ranked) / 2))]))


def choose(tried: pd.DataFrame) -> Choice | None:
    """The chosen rate of one loss among those with all seeds; None if every rate failed.

    The best mean wins, unless the scores of a smaller rate are lower by no more than one standard error of the paired
    differences over seeds (after the one-standard-error rule of Breiman et al. 1984). Then the smallest such rate is
    chosen, because larger rates are closer to divergence.

    Args:
        tried: the rows of one loss, of a table as from `table`.
    """
    done = tried[tried["score"].notna()]
    wide = done.pivot(index="seed", columns="rate", values="score").dropna(axis="columns")
    if wide.empty:
        return None
    means = wide.mean()
    best = float(means[means == means.max()].index.min())
    chosen = best
    for rate in sorted(rate for rate in map(float, wide.columns) if rate < best):
        difference = wide[best] - wide[rate]
        if len(wide) > 1 and difference.mean() <= difference.std() / math.sqrt(len(wide)):
            chosen = rate
            break
    rates = tried["rate"]
    return Choice(
        objective=str(tried["objective"].iloc[0]),
        rate=chosen,
        best=best,
        score=float(means[chosen]),
        seeds=len(wide),
        edge="smallest" if best == rates.min() else "largest" if best == rates.max() else None,
    )


def render(tried: pd.DataFrame, choices: Sequence[Choice]) -> str:
    """The table and the remarks on the choices, as text."""
    chosen = {choice.objective: choice for choice in choices}
    rows = [["loss", "rate", "validation F1, %", "std", "seeds", "failed", "of the range, %", ""]]
    for name in in_order(tried["objective"]):
        rows.append([])
        part = tried[tried["objective"] == name]
        for _, own in part.groupby("rate", dropna=False):
            rate = float(own["rate"].iloc[0])
            scores = 100 * own["score"].dropna()
            mark = "<- chosen" if name in chosen and rate == chosen[name].rate else ""
            rows.append(
                [
                    name,
                    "-" if pd.isna(rate) else f"{rate:g}",
                    f"{scores.mean():.1f}" if len(scores) else "-",
                    f"{scores.std():.1f}" if len(scores) > 1 else "-",
                    str(len(scores)),
                    str(int((own["status"] == "failed").sum())),
                    f"{100 * own['attained'].mean():.1f}" if own["attained"].notna().any() else "-",
                    mark,
                ]
            )
    return "\n".join([*aligned(rows), *(line for choice in choices for line in remarks(choice, tried))])


def remarks(choice: Choice, tried: pd.DataFrame) -> Iterator[str]:
    """The caveats of a choice, one line each."""
    name = choice.objective
    if choice.rate != choice.best:
        yield (
            f"{name}: {choice.best:g} has the best mean, but {choice.rate:g} is within one standard error of it over "
            f"{choice.seeds} seeds, so the smaller one is chosen"
        )
    if choice.seeds == 1:
        yield f"{name}: one seed, so rates with similar scores cannot be distinguished"
    if choice.edge:
        further = "smaller" if choice.edge == "smallest" else "larger"
        yield f"{name}: {choice.best:g} is the {choice.edge} rate tried: add {further} ones to --rates"
    random = tried.loc[tried["objective"] == "random", "score"].mean()
    if choice.score <= random:
        yield f"{name}: no better than the random encoder ({100 * random:.1f} %): pretraining did not help"


def write(tried: pd.DataFrame, path: Path) -> Path:
    """Write the table as Parquet, atomically. `OSError` propagates."""
    return parquet.write(path, pa.Table.from_pandas(tried, preserve_index=False))
