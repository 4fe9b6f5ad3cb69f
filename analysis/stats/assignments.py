"""The mean effect of noisy pairs over assignments of texture categories to roles, where a sweep varies them.

An assignment says which categories are the two classes and which one is the noise. An interval over seeds takes the
textures as fixed, so it says nothing about others: the fallacy of the fixed effect (Clark 1973, J. Verbal Learning and
Verbal Behavior 12), there of words. Here assignments and seeds are both random, and crossed: each seed has the same
layout of scenes, initial weights and draws in every assignment. Values are in the unit of the score (a fraction).
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
from scipy import special

from analysis.names import BASELINES, LEVEL, in_order
from analysis.records.studies import Study
from analysis.stats.interaction import QUANTITIES, collapsed_values
from analysis.stats.intervals import Estimate, mean_over_grid
from analysis.stats.variance import components

#: The setting that assigns categories to roles: first class, second class, noise, and noise of the pairing irrelevant.
ROLES = "data.categories"

#: With fewer assignments, the texts say that they are too few.
ENOUGH = 4

SCOPE = (
    "Assignments and seeds are both taken as random. The interval is about assignments of these categories to roles, "
    "which share their textures: it says nothing about other textures."
)
"""What the interval is about."""

_COLUMNS = ("estimate", "low", "high", "assignments", "seeds", "of_assignments", "of_seeds", "rest", "values")


def mean_over_assignments(values: pd.DataFrame, *, level: float = LEVEL) -> Estimate:
    """The mean over assignments of each assignment's mean over seeds, with an interval that holds both.

    `values` has the columns `assignment`, `seed` and `value`, one row for each pair. The variance of the mean is the
    sum of its variance over seeds and over assignments, each as in `mean_over_grid`. On a complete layout of A
    assignments and S seeds these are mean squares over A S. The sum is that of Clark's min F', and of two-way
    clustering without its third term (Cameron, Gelbach and Miller 2011, J. Business and Economic Statistics 29). It
    counts the rest twice, so on average it is not too small. The interval is that of t with min(A, S) - 1 degrees of
    freedom, as Cameron, Gelbach and Miller recommend. There is none with one assignment or one seed.

    The `cells` of the result are the assignments.
    """
    named = values.rename(columns={"assignment": "cell"})
    over_seeds = mean_over_grid(named, level=level, bootstrap=False)
    swapped = values.rename(columns={"assignment": "seed", "seed": "cell"})
    over_assignments = mean_over_grid(swapped, level=level, bootstrap=False)
    error = math.hypot(over_seeds.error, over_assignments.error)
    mean = replace(over_seeds, low=math.nan, high=math.nan, error=error, freedom=math.nan, p=math.nan, p_exact=math.nan)
    if math.isnan(error):
        shared = math.isnan(over_seeds.error)
        return mean if shared else replace(mean, method="no interval: no seed has two assignments")
    freedom = min(over_seeds.freedom, over_assignments.freedom)
    half = float(special.stdtrit(freedom, (1 + level) / 2)) * error
    low, high = mean.estimate - half, mean.estimate + half
    return replace(mean, low=low, high=high, freedom=freedom, method="t over assignments and seeds")


def over_assignments(study: Study) -> pd.DataFrame:
    """The effects of noisy pairs on each loss as means over assignments; `study` is one of all levels.

    One row for each effect, loss and combination of the values of the other settings that the loss uses, in the order
    of `interaction`. Empty if the study does not vary `ROLES`.

    Columns:
        quantity, objective: one of `QUANTITIES`, a loss.
        those of `study.varied` except `ROLES`: the values; null if the loss does not use the setting.
        estimate, low, high: see `mean_over_assignments`. A value is the mean over the grid for an assignment and a
            seed; those that lack a cell are left out. Assignments with the two classes swapped count as one.
        assignments, seeds, values: their numbers; `left_out`: the number of values that lack a cell.
        of_assignments, of_seeds, rest: standard deviations between them, from `components`.
        collapsed, differences: how many of the differences of cells rest on a collapsed cell, and their number.
    """
    others = [name for name in study.varied if name != ROLES]
    rows = []
    if ROLES in study.varied:
        losses = in_order(set(study.records["objective"]) - set(BASELINES))
        rows = [row for name in QUANTITIES for loss in losses for row in _rows(study, name, loss, others)]
    return pd.DataFrame(
        rows, columns=["quantity", "objective", *others, *_COLUMNS, "left_out", "collapsed", "differences"]
    )


def too_few(table: pd.DataFrame) -> str:
    """A sentence if a mean of `over_assignments` has fewer than `ENOUGH` assignments; otherwise empty."""
    fewest = int(table["assignments"].min()) if len(table) else ENOUGH
    if fewest >= ENOUGH:
        return ""
    number = f"{fewest} assignment{' is' if fewest == 1 else 's are'}"
    return f"{number} few: the interval is wide, and further ones make it narrower (--vary {ROLES})."


def _rows(study: Study, name: str, loss: str, others: list[str]) -> Iterator[dict[str, Any]]:
    records = study.records[study.records["objective"] == loss]
    used = [setting for setting in others if records[setting].notna().any()]
    for values, part in records.groupby(used) if used else [((), records)]:
        levels = {str(roles): level for roles, level in part.groupby(ROLES)}
        effects = [QUANTITIES[name](level).assign(assignment=_assignment(roles)) for roles, level in levels.items()]
        effect = pd.concat(effects).dropna(subset="difference") if effects else pd.DataFrame()
        if effect.empty:
            continue
        points = effect.groupby(["assignment", "seed", "rho", "nu"])["difference"].mean()
        means = points.groupby(["assignment", "seed"]).agg(["mean", "size"]).reset_index()
        whole = means[means["size"] == len(effect[["rho", "nu"]].drop_duplicates())].rename(columns={"mean": "value"})
        mean = mean_over_assignments(whole[["assignment", "seed", "value"]], level=study.level)
        parts = components(whole[["seed", "value"]].assign(cell=whole["assignment"]))
        yield {
            "quantity": name,
            "objective": loss,
            **dict(zip(used, values, strict=True)),
            **{column: getattr(mean, column) for column in ("estimate", "low", "high", "seeds", "values")},
            "assignments": mean.cells,
            "of_assignments": parts.between_cells,
            "of_seeds": parts.between_seeds,
            "rest": parts.residual,
            "left_out": len(means) - mean.values,
            "collapsed": sum(collapsed_values(name, level) for level in levels.values()),
            "differences": len(effect),
        }


def _assignment(categories: str) -> str:
    """The assignment, without the order of the two classes and without the noise of the pairing `irrelevant`."""
    names = categories.split(",")
    return ",".join((*sorted(names[:2]), *names[2:3]))
