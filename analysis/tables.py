"""The results of a sweep as tables: a data frame, and the text printed at the end of a sweep."""

import itertools
import textwrap
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.names import BASELINES, LEVEL, PAIRINGS, in_paper_order, table_name
from analysis.records.studies import Study, headline, score_name, with_interactions
from analysis.stats.assignments import SCOPE, over_assignments, too_few
from analysis.stats.collapse import attained, is_collapsed, older_note
from analysis.stats.differences import (
    against_random,
    comparable,
    difference_by_objective,
    grid_text,
    noisy_minus_exposure,
)
from analysis.stats.interaction import change_columns, grid_of_effects, interaction
from analysis.text import aligned, failure_reason, printable

#: Longest line of `render`.
WIDTH = 120

_FAILURES_SHOWN = 5
_PAIRINGS = ["none", *PAIRINGS]
_POINT = ["dataset", "objective", "rho", "nu"]


def f1_table(records: pd.DataFrame, metric: str = "test_f1_macro") -> pd.DataFrame:
    """Mean over seeds of each grid point, in the unit of the metric.

    One row for each dataset, objective (in the paper's order), rho and nu. For each pairing p among `none` (for rho 0),
    and `names.PAIRINGS` there are three columns: `p` is the mean, `p_std` the sample standard deviation (null for one
    seed), `p_n` the number of seeds (0 if no cell is done). Raises `RecordsError` as
    `analysis.stats.differences.comparable`.
    """
    by_pairing = comparable(records, metric).groupby([*_POINT, "pairing"])[metric]
    wide = by_pairing.agg(["mean", "std", "count"]).unstack("pairing")
    columns = {
        f"{pairing}{ending}": wide.get((name, pairing), pd.Series(absent, wide.index))
        for pairing in _PAIRINGS
        for ending, name, absent in (("", "mean", np.nan), ("_std", "std", np.nan), ("_n", "count", 0))
    }
    table = pd.DataFrame(columns)
    counts = [f"{pairing}_n" for pairing in _PAIRINGS]
    return in_paper_order(table.fillna(dict.fromkeys(counts, 0)).astype(dict.fromkeys(counts, "int64")).reset_index())


def render(records: pd.DataFrame, *, level: float = LEVEL) -> str:
    """The tables of `records` (as from `read_records`) as plain text, with a section for each study.

    They show the score in %, noisy minus exposure and pretrained minus random in points, how far the losses fell, and
    failed cells. Last, the effects of noisy pairs against the settings that a sweep varies.
    """
    sections, last = [], []
    for study in with_interactions(records, level=level):
        if study.varied:
            last += interaction_blocks(study)
        else:
            pretrained = _pretraining_block(study.records)
            blocks = (
                _f1_block(study),
                _difference_block(study.records),
                _random_block(study.records),
                "" if pretrained in sections else pretrained,  # shown once for all probes of the same encoders
                _failure_block(study.records),
            )
            sections += [block for block in blocks if block]
    sections += last
    return "\n".join(line[:WIDTH].rstrip() for line in printable("\n\n".join(sections)).split("\n"))


def _f1_block(study: Study) -> str:
    records, metric = study.records, study.metric
    table = f1_table(records, metric)
    seeds = int(table[[f"{pairing}_n" for pairing in _PAIRINGS]].to_numpy().max())
    columns = [pairing for pairing in _PAIRINGS[1:] if table[f"{pairing}_n"].any()] or ["noisy"]
    # If no cell has a pairing at some nu, it was not planned there, so it is not missing.
    tried = set(records[["pairing", "nu"]].drop_duplicates().itertuples(index=False, name=None))
    rows = [["loss", "rho", "nu", *(pairing.replace("_", " ") for pairing in columns)]]
    before = None
    for point in table.to_dict("records"):
        if point["objective"] != before:
            rows.append([])
        name = "" if point["objective"] == before else table_name(point["objective"])
        before = point["objective"]
        place = [name, "-" if before in BASELINES else f"{point['rho']:g}", f"{point['nu']:g}" if point["nu"] else "-"]
        if point["rho"] == 0:
            others = "-" if before in BASELINES else "same"
            rows.append([*place, _percent(point, "none", seeds), *(others for _ in columns[1:])])
        else:
            run = {pairing for pairing in columns if (pairing, point["nu"]) in tried}
            rows.append([*place, *(_percent(point, p, seeds) if p in run else "-" for p in columns)])
    spread = f" (mean ± std over {seeds} seeds)" if seeds > 1 else ""
    short = any(text.endswith("*") for row in rows for text in row)
    notes = [f"  * fewer than {seeds} seeds"] if short else []
    what = score_name(metric)
    head = textwrap.wrap(f"{study.title}: {what} on {study.split}, %{spread}", WIDTH)
    return "\n".join([*head, *aligned(rows), *notes])


def _difference_block(records: pd.DataFrame) -> str:
    differences = noisy_minus_exposure(records, headline(records))
    if differences.empty or not {"noisy", "exposure"} <= set(records["pairing"]):
        return ""
    rows = [["loss", "mean", "std", "grid points", "pairs", "incomplete pairs"], []]
    for row in in_paper_order(difference_by_objective(differences)).to_dict("records"):
        rows.append([table_name(row["objective"]), _points(row["mean"], "+"), _points(row["std"]), str(row["cells"])])
        rows[-1] += [str(row["n"]), str(row["missing"])]
    head = f"Noisy minus exposure, points (mean and std over {grid_text(differences)})"
    return "\n".join([head, *aligned(rows)])


def _random_block(records: pd.DataFrame) -> str:
    if "random" not in set(records["objective"]):
        return ""
    gains = against_random(records, headline(records))
    if gains.empty:
        return ""
    rows = [["loss", "mean", "std", "seeds", "incomplete"], []]
    table = gains.groupby(["dataset", "objective"])["difference"].agg(["mean", "std", "count", "size"])
    for row in in_paper_order(table.reset_index()).to_dict("records"):
        rows.append([table_name(row["objective"]), _points(row["mean"], "+"), _points(row["std"]), str(row["count"])])
        rows[-1].append(str(row["size"] - row["count"]))
    return "\n".join(["Pretrained (rho 0) minus random encoder, points (std over seeds)", *aligned(rows)])


def pretraining(records: pd.DataFrame) -> pd.DataFrame:
    """How far each loss fell on noise-free pairs: one row per objective, means over done cells.

    Columns, in the unit of the loss: `plateau` (the loss if all features are equal), `floor` (the least that the labels
    allow), `loss` (best validation loss). Then `attained`, the share of the range from plateau to floor; `below` = 1 -
    loss/plateau; the numbers of `cells`, of `collapsed` cells and of `collapsed_clean` ones, trained without noisy
    pairs. A collapsed cell at rho 0 has learnt nothing; one trained on noisy pairs may have. Older records have no
    floor.
    """
    done = records[(records["status"] == "done") & records["pretrain_plateau"].notna()]
    collapsed = is_collapsed(done)
    columns = {
        "plateau": done["pretrain_plateau"],
        "floor": done.reindex(columns=["pretrain_floor"])["pretrain_floor"],
        "loss": done["pretrain_val_loss"],
        "attained": attained(done),
        "below": 1 - done["pretrain_val_loss"] / done["pretrain_plateau"],
    }
    flags = {"collapsed": collapsed, "collapsed_clean": collapsed & (done["rho"] == 0)}
    table = pd.DataFrame({**columns, **flags, "dataset": done["dataset"], "objective": done["objective"]})
    table = table.astype(dict.fromkeys(columns, float))
    grouped = table.groupby(["dataset", "objective"])
    counts = grouped[[*flags]].sum().assign(cells=grouped.size())
    return in_paper_order(grouped[[*columns]].mean().join(counts).reset_index())


def _pretraining_block(records: pd.DataFrame) -> str:
    table = pretraining(records)
    if table.empty:
        return ""
    older = older_note(records)
    heads = ["loss", "plateau", "floor", "best", "of the range, %", *(["below plateau, %"] if older else [])]
    rows = [[*heads, "cells", "collapsed", "of these rho 0"], []]
    for row in table.to_dict("records"):
        values = [_loss(row[name]) for name in ("plateau", "floor", "loss")]
        shares = ["attained", "below"] if older else ["attained"]
        rows.append([table_name(row["objective"]), *values, *(_share(row[name]) for name in shares)])
        rows[-1] += [str(row[name]) for name in ("cells", "collapsed", "collapsed_clean")]
    lines = ["Noise-free validation loss, from its plateau (all features equal) to its floor", *aligned(rows)]
    if older:
        lines += textwrap.wrap(older, WIDTH)
    if table["collapsed_clean"].any():
        lines.append(
            "A cell that collapsed at rho 0 has likely learnt nothing: change learning rate, warm-up, clip or steps"
        )
    return "\n".join(lines)


def interaction_blocks(study: Study) -> list[str]:
    """The effects of noisy pairs against the settings that vary, a table per effect (see `interaction`)."""
    table, means = interaction(study), over_assignments(study)
    blocks = []
    for quantity, part in table.groupby("quantity", sort=False):
        head = f"{study.title}: {quantity}, points [{100 * study.level:.4g} % over seeds], mean over "
        lines = [*textwrap.wrap(head + grid_of_effects(study), WIDTH), *_effect_tables(part, study.varied)]
        lines.append("Changes are from the first value, with the other settings equal, paired by seed")
        if part["collapsed"].any():
            lines.append("*N: N of its values rest on a collapsed cell")
        blocks.append("\n".join(lines))
        if len(mean := means[means["quantity"] == quantity]):
            blocks.append(_assignments_block(mean, study, str(quantity)))
    return blocks


def _effect_tables(part: pd.DataFrame, varied: Sequence[str]) -> list[str]:
    """An effect and its change along each setting: in one table, or if its lines are too long, in one for each."""
    rows = part.to_dict("records")
    columns = {"points": [_interval(row, *_ENDS) + f" *{row['collapsed']}" * bool(row["collapsed"]) for row in rows]}
    short = [setting.partition(".")[2] for setting in varied]
    for setting, name in zip(varied, short, strict=True):
        head = f"change by {name if short.count(name) == 1 else setting}"
        columns[head] = [_interval(row, *change_columns(setting)) for row in rows]
    places = [[table_name(row["objective"]), *(_value(row[setting]) for setting in varied)] for row in rows]
    heads = ["loss", *varied]
    whole = _effect_table(
        [*heads, *columns], [[*place, *own] for place, *own in zip(places, *columns.values(), strict=True)]
    )
    if max(map(len, whole)) <= WIDTH:
        return whole
    tables = []
    for name, values in columns.items():
        known = [[*place, one] for place, one in zip(places, values, strict=True) if one != "-" or name == "points"]
        tables += ["", *_effect_table([*heads, name], known)] if known else []
    return tables[1:]


def _effect_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A table with a rule before each loss, whose name is in its first row only."""
    lines: list[Sequence[str]] = [heads]
    for loss, own in itertools.groupby(rows, key=lambda row: row[0]):
        lines += [[], *([loss * (number == 0), *row[1:]] for number, row in enumerate(own))]
    return aligned(lines)


def _assignments_block(means: pd.DataFrame, study: Study, quantity: str) -> str:
    """The means of an effect over assignments (see `over_assignments`)."""
    others = [name for name in study.varied if name in means]
    rows = [["loss", *others, "points", "assignments", "seeds", "std: assignments", "std: seeds", "std: rest"], []]
    for row in means.to_dict("records"):
        mark = f" *{row['collapsed']}" if row["collapsed"] else ""
        rows.append(
            [table_name(row["objective"]), *(_value(row[name]) for name in others), _interval(row, *_ENDS) + mark]
        )
        rows[-1] += [str(row["assignments"]), str(row["seeds"])]
        rows[-1] += [_points(row[name]) for name in ("of_assignments", "of_seeds", "rest")]
    head = f"{study.title}: {quantity}, mean over assignments, points [{100 * study.level:.4g} %, see METHOD.md]"
    lines = [*textwrap.wrap(head, WIDTH), *aligned(rows)]
    if means["collapsed"].any():
        lines.append("*N: N of its values rest on a collapsed cell")
    if left := int(means["left_out"].sum()):
        lines.append(f"{left} means of an assignment and a seed lack a cell and are left out")
    lines += [line for note in filter(None, (SCOPE, too_few(means))) for line in textwrap.wrap(note, WIDTH)]
    return "\n".join(lines)


_ENDS = ("estimate", "low", "high")


def _value(value: Any) -> str:
    return value if isinstance(value, str) else "-" if pd.isna(value) else f"{value:g}"


def _interval(row: Mapping[Hashable, Any], estimate: str, low: str, high: str) -> str:
    if pd.isna(row[estimate]):
        return "-"
    # + 0.0: no negative zero.
    middle, *ends = (f"{round(100 * row[name], 1) + 0.0:+.1f}" for name in (estimate, low, high))
    return middle if pd.isna(row[low]) else f"{middle} [{', '.join(ends)}]"


def _loss(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.3f}"


def _share(value: float) -> str:
    return "-" if pd.isna(value) else f"{100 * value:.1f}"


def _failure_block(records: pd.DataFrame) -> str:
    failed = records[records["status"] == "failed"]
    metric = headline(records)
    unscored = int((records[metric].isna() & (records["status"] == "done")).sum())
    lines = [f"{unscored} of {len(records)} cells are done without {metric} and not in the tables"] if unscored else []
    if len(failed):
        lines.append(f"{len(failed)} of {len(records)} cells failed and are not in the tables:")
    for row in failed.head(_FAILURES_SHOWN).to_dict("records"):
        point = f"rho {row['rho']:g} nu {row['nu']:g} {row['pairing']} seed {row['seed']}"
        lines.append(f"  {row['objective']} {point}: " + " ".join(failure_reason(str(row["error"])).split()))
    if len(failed) > _FAILURES_SHOWN:
        lines.append(f"  and {len(failed) - _FAILURES_SHOWN} more: column `error` of the records")
    return "\n".join(lines)


def _percent(point: Mapping[Hashable, Any], pairing: str, seeds: int) -> str:
    n = point[f"{pairing}_n"]
    if n == 0:
        return "missing"
    spread = f" ± {100 * point[f'{pairing}_std']:.1f}" if n > 1 else ""
    return f"{100 * point[pairing]:.1f}{spread}" + ("*" if n < seeds else "")


def _points(fraction: float, sign: str = "") -> str:
    return "-" if pd.isna(fraction) else f"{100 * fraction:{sign}.2f}"
