"""The tables of a report: one function for each."""

from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import Any

import pandas as pd

from analysis.claims import claims_table
from analysis.findings.verdicts import Judgement
from analysis.names import in_paper_order
from analysis.records.studies import Study, settings_text
from analysis.report import captions
from analysis.report.table import ABSENT, Column, Table, interval, make, number, p_value, percent, points, text
from analysis.stats.assignments import SCOPE, over_assignments, too_few
from analysis.stats.collapse import is_collapsed, older_note, without_collapsed
from analysis.stats.differences import against_rho_zero, comparable, grid_text, noisy_minus_exposure, of_noisy_pairs
from analysis.stats.inference import by_cell, by_objective, gain_over_random, noninferiority, trend_in_rho
from analysis.stats.interaction import QUANTITIES, change_columns, grid_of_effects, interaction
from analysis.stats.intervals import Estimate, further_seeds_text, mean_over_grid
from analysis.stats.variance import pairing_gain
from analysis.tables import pretraining
from analysis.text import failure_reason

_CELL = [text("loss", "objective"), number("rho", "rho"), number("nu", "nu")]


def effects(study: Study, margin: float) -> pd.DataFrame:
    """The effect of noisy pairs on each loss, against none and against mere exposure, and whether it is in the margin.

    Both are means over the same grid. Cells with nu 1 are false positives and have rows of their own. Columns:
    objective, `kind` of pairs, those of `Estimate` that are shown, `verdict` and its `meaning`, the same against
    `exposure`, the `grid`, and how many values rest on `collapsed` cells.
    """
    gains = of_noisy_pairs(against_rho_zero(study.records, study.metric))
    others = of_noisy_pairs(against_rho_zero(without_collapsed(study.records), study.metric))
    exposure = _noisy_minus_exposure(study).set_index("objective")
    full = (gains["nu"] == 1) & (gains["pairing"] != "false_positive")
    kinds = gains["pairing"].map(_spaced).where(~full, "noisy, nu = 1")
    rows = []
    for (objective, kind), part in gains.groupby([gains["objective"], kinds]):
        estimate = _grid_mean(part, study)
        verdict = noninferiority(estimate, margin=margin)
        texts = {
            "better": "better than without",
            "not worse": f"not worse by more than {_margin_text(margin)}",
            "worse": f"worse by more than {_margin_text(margin)}",
            "undecided": f"undecided: {further_seeds_text(estimate, threshold=-margin)}",
        }
        pairs = exposure.loc[exposure.index.isin([objective]) & exposure["nu"].isin(part["nu"])]
        against = _grid_mean(pairs if kind != "false positive" else pairs.iloc[:0], study)
        rows.append({**vars(estimate), "objective": objective, "kind": kind, "dataset": ""})
        rows[-1] |= {"verdict": verdict, "meaning": texts[verdict]}
        rows[-1] |= {"exposure": against.estimate, "exposure_low": against.low, "exposure_high": against.high}
        rows[-1] |= {"grid": grid_text(part), "collapsed": _resting(part, others.loc[part.index])}
    return in_paper_order(pd.DataFrame(rows, columns=["dataset", "objective", "kind", *_ESTIMATE, *_EFFECT]))


def effect_table(effects: pd.DataFrame, study: Study, anchor: str) -> Table:
    """The `effects` of a study."""
    full = effects["kind"] == "noisy, nu = 1"
    return make(
        f"{anchor}-short",
        "Do noisy pairs hurt?",
        captions.EFFECT.format(score=_capitalized(study.score), full=captions.FULL_NOISE if full.any() else ""),
        [
            text("loss", "objective"),
            text("pairs", "kind"),
            text("grid", "grid"),
            points("minus rho 0", "estimate"),
            interval("95 % interval"),
            text("meaning", "meaning"),
            points("minus exposure", "exposure"),
            interval("95 % interval", "exposure_low", "exposure_high"),
            number("cells", "cells"),
            number("seeds", "seeds"),
            text("on collapsed cells", "collapsed"),
        ],
        effects,
        "No loss has cells both with and without noisy pairs, so there is no answer.",
    )


def interaction_tables(study: Study, anchor: str) -> Iterator[Table]:
    """The effects of noisy pairs against the settings that vary, a table per effect."""
    table, means = interaction(study), over_assignments(study)
    for number_, quantity in enumerate(QUANTITIES, start=1):
        frame = table[table["quantity"] == quantity]
        frame = frame.assign(collapsed=[_of(*pair) for pair in zip(frame["collapsed"], frame["values"], strict=True)])
        changes = [
            column
            for setting in study.varied
            for estimate, low, high in [change_columns(setting)]
            for column in (points(f"change by {setting}", estimate), interval("95 % interval", low, high))
        ]
        yield make(
            f"{anchor}-interaction-{number_}",
            f"{_capitalized(quantity)} by {' and '.join(study.varied)}",
            captions.INTERACTION.format(
                score=_capitalized(study.score), grid=grid_of_effects(study), level=f"{100 * study.level:.4g} %"
            ),
            [
                text("loss", "objective"),
                *(Column(heading=name, value=itemgetter(name), write=_setting_value) for name in study.varied),
                points("points", "estimate"),
                interval("95 % interval"),
                *changes,
                number("cells", "cells"),
                number("seeds", "seeds"),
                text("on collapsed cells", "collapsed"),
            ],
            frame,
            "No loss has both kinds of cells.",
        )
        if len(mean := means[means["quantity"] == quantity]):
            yield _assignments_table(mean, study, f"{anchor}-assignments-{number_}")


def _assignments_table(means: pd.DataFrame, study: Study, anchor: str) -> Table:
    """The means of an effect over assignments of categories to roles."""
    resting = [_of(*pair) for pair in zip(means["collapsed"], means["differences"], strict=True)]
    return make(
        anchor,
        f"{_capitalized(means['quantity'].iloc[0])}: mean over assignments",
        " ".join(filter(None, (captions.ASSIGNMENTS, SCOPE, too_few(means)))),
        [
            text("loss", "objective"),
            *(
                Column(heading=name, value=itemgetter(name), write=_setting_value)
                for name in study.varied
                if name in means
            ),
            points("points", "estimate"),
            interval(f"{100 * study.level:.4g} % interval"),
            number("assignments", "assignments"),
            number("seeds", "seeds"),
            number("std between assignments", "of_assignments", ".2f", 100),
            number("between seeds", "of_seeds", ".2f", 100),
            number("rest", "rest", ".2f", 100),
            number("left out", "left_out"),
            text("on collapsed cells", "collapsed"),
        ],
        means.assign(collapsed=resting),
    )


def level_table(levels: Sequence[tuple[Study, pd.DataFrame]], anchor: str) -> Table:
    """The cells at each level of varied settings: each is a study with its cells, as from `coverage`."""
    rows = [
        {
            "level": settings_text(study.settings),
            "cells": len(cells),
            **{state: int((cells["status"] == state).sum()) for state in ("done", "failed", "missing")},
            "collapsed": int(is_collapsed(study.records).sum()),
        }
        for study, cells in levels
    ]
    counts = ("cells", "done", "failed", "missing", "collapsed")
    columns = [text("level", "level"), *(number(name, name) for name in counts)]
    return make(f"{anchor}-levels", "Levels", captions.LEVELS, columns, pd.DataFrame(rows, columns=["level", *counts]))


_EFFECT = ["exposure", "exposure_low", "exposure_high", "grid", "verdict", "meaning", "collapsed"]
_ESTIMATE = ["estimate", "low", "high", "cells", "seeds"]


def verdict_table(judgements: Sequence[Judgement], anchor: str, margin: float) -> Table:
    """The verdicts on the claims that apply to the study."""
    frame = claims_table([j for j in judgements if j.verdict != "not applicable"])
    resting = [_of(*pair) for pair in zip(frame["collapsed"], frame["values"], strict=True)]
    frame = frame.assign(low=frame["low"] / 100, high=frame["high"] / 100, collapsed=resting)
    left = sum(j.verdict == "not applicable" for j in judgements)
    return make(
        f"{anchor}-verdicts",
        "Verdicts on the paper's sentences",
        captions.VERDICTS.format(margin=_margin_text(margin), left=left),
        [
            Column(heading="verdict", value=lambda row: row["verdict"], text=True, verdict=True),
            Column(heading="finding", value=lambda row: f"{row['sentence']} ({row['where']}).", text=True),
            text("weakest part", "part"),
            number("estimate", "estimate", "+.2f"),
            interval("95 % interval"),
            text("claimed", "region"),
            p_value("p (Holm)", "p_holm"),
            text("what would decide it", "decide"),
            text("on collapsed cells", "collapsed"),
        ],
        frame,
        "None of the paper's sentences is about the cells of these records.",
    )


def score_table(study: Study, anchor: str) -> Table:
    """The score of each cell over seeds."""
    cells = comparable(study.records, study.metric)
    grouped = cells.groupby(["dataset", "objective", "rho", "nu", "pairing"])[study.metric]
    frame = grouped.agg(["mean", "std", "count", "size"]).reset_index()
    seeds = study.records["seed"]
    own = frame["objective"].map(seeds.groupby(study.records["objective"]).nunique())
    frame["missing"] = (own if study.grown else seeds.nunique()) - frame["count"]
    return make(
        f"{anchor}-scores",
        "Scores",
        captions.SCORES.format(score=_capitalized(study.score)),
        [
            *_CELL,
            text("pairs", "pairing", _spaced),
            percent("mean", "mean"),
            percent("std", "std"),
            number("seeds", "count"),
            number("seeds without a score", "missing"),
        ],
        in_paper_order(frame),
    )


def exposure_table(study: Study, anchor: str) -> Table:
    """The table of the paper, noisy minus exposure over the grid, with statistics over seeds."""
    pairs = _noisy_minus_exposure(study)
    frame = in_paper_order(by_objective(pairs, level=study.level))
    return make(
        f"{anchor}-exposure",
        "Noisy minus mere exposure",
        captions.EXPOSURE.format(grid=grid_text(pairs) or "the grid"),
        [
            text("loss", "objective"),
            points("mean", "mean"),
            number("std", "std", ".2f", 100),
            interval("95 % interval"),
            p_value("p", "p"),
            p_value("p exact", "p_exact"),
            number("std of cells", "between_cells", ".2f", 100),
            number("std of seeds", "between_seeds", ".2f", 100),
            number("std of the rest", "residual", ".2f", 100),
            interval("for other cells", "further_low", "further_high"),
            number("seeds to halve", "halve"),
            number("cells", "cells"),
            number("seeds", "seeds"),
            number("missing", "missing"),
        ],
        frame,
        "No cell has both pairings.",
    )


def cell_table(study: Study, anchor: str) -> Table:
    """Noisy minus exposure of each cell, corrected for the number of cells."""
    return make(
        f"{anchor}-cells",
        "Noisy minus mere exposure, cell by cell",
        captions.CELLS,
        [*_CELL, *_DIFFERENCE],
        in_paper_order(by_cell(_noisy_minus_exposure(study), level=study.level)),
        "No cell has both pairings.",
    )


def zero_table(study: Study, anchor: str) -> Table:
    """Each cell minus the cell without noisy pairs, corrected for the number of cells."""
    gains = against_rho_zero(study.records, study.metric)
    frame = in_paper_order(by_cell(gains, by=["dataset", "objective", "rho", "nu", "pairing"], level=study.level))
    return make(
        f"{anchor}-zero",
        "With minus without noisy pairs, cell by cell",
        captions.ZERO,
        [*_CELL, text("pairs", "pairing", _spaced), *_DIFFERENCE],
        frame,
        "No loss has cells both with and without noisy pairs.",
    )


def pretraining_table(study: Study, anchor: str) -> Table:
    """Whether pretraining learnt anything: the gain over the random encoder, and how far the loss fell."""
    gains = gain_over_random(study.records, study.metric, level=study.level)
    frame = gains.merge(pretraining(study.records), on="objective", how="outer").assign(dataset=study.dataset)
    older = older_note(study.records)
    return make(
        f"{anchor}-learnt",
        "Did pretraining learn?",
        captions.PRETRAINING.format(older=f" {older}." if older else ""),
        [
            text("loss", "objective"),
            points("minus random", "estimate"),
            interval("95 % interval"),
            number("seeds", "seeds"),
            number("plateau", "plateau", ".3f"),
            number("floor", "floor", ".3f"),
            number("best loss", "loss", ".3f"),
            percent("of the range, %", "attained"),
            *([percent("below plateau, %", "below")] if older else []),
            number("cells", "cells"),
            number("collapsed", "collapsed"),
            number("of these at rho 0", "collapsed_clean"),
        ],
        in_paper_order(frame),
    )


def trend_table(study: Study, anchor: str) -> Table:
    """The slope of the score in rho."""
    frame = trend_in_rho(study.records, study.metric, level=study.level)
    frame = frame[frame["pairing"] != "none"].assign(
        nu=frame["nu"].map("{:g}".format).where(frame["nu"].notna(), "all")
    )
    return make(
        f"{anchor}-trend",
        "Trend in rho",
        captions.TREND,
        [
            text("loss", "objective"),
            text("pairs", "pairing", _spaced),
            text("nu", "nu"),
            points("slope", "estimate"),
            interval("95 % interval"),
            p_value("p", "p"),
            p_value("p (Page)", "p_page"),
            number("levels of rho", "levels"),
            number("seeds", "seeds"),
            number("values missing", "missing"),
            text("interval", "method"),
        ],
        in_paper_order(frame),
        "No loss has two levels of rho.",
    )


def pairing_table(study: Study, anchor: str) -> Table:
    """The value of common random numbers."""
    frame = in_paper_order(pairing_gain(study.records, study.metric))
    return make(
        f"{anchor}-pairing",
        "The value of pairing by seed",
        captions.PAIRING,
        [
            text("loss", "objective"),
            number("paired", "paired", ".2f", 100),
            number("unpaired", "unpaired", ".2f", 100),
            number("correlation", "correlation", "+.2f"),
            number("ratio", "width_ratio", ".2f"),
            number("worth", "worth", ".1f"),
            number("grid: paired", "grid_paired", ".2f", 100),
            number("grid: unpaired", "grid_unpaired", ".2f", 100),
            number("grid: ratio", "grid_width_ratio", ".2f"),
            number("grid: worth", "grid_worth", ".1f"),
            number("seeds", "seeds"),
        ],
        frame,
        "No cell has both pairings.",
    )


def missing_table(cells: pd.DataFrame, anchor: str) -> Table:
    """The failed and missing cells; `cells` as from `analysis.records.coverage.coverage`."""
    frame = cells[cells["status"] != "done"]
    return make(
        f"{anchor}-absent",
        "Missing and failed cells",
        "" if frame.empty else captions.MISSING,
        [
            text("status", "status"),
            *_CELL,
            text("pairs", "pairing", _spaced),
            number("seed", "seed"),
            text("why", "error", failure_reason),
        ],
        frame,
        "None: every planned cell is done.",
    )


def detail_tables(study: Study, cells: pd.DataFrame, anchor: str) -> Iterator[Table]:
    """The tables after the figures, in order."""
    yield exposure_table(study, anchor)
    yield pretraining_table(study, anchor)
    yield trend_table(study, anchor)
    yield pairing_table(study, anchor)
    yield score_table(study, anchor)
    yield cell_table(study, anchor)
    yield zero_table(study, anchor)
    yield missing_table(cells, anchor)


_DIFFERENCE = [
    points("difference", "estimate"),
    interval("95 % interval"),
    p_value("p", "p"),
    p_value("p (Holm)", "p_holm"),
    p_value("p (BH)", "p_bh"),
    number("seeds", "n"),
    number("missing", "missing"),
]


def _noisy_minus_exposure(study: Study) -> pd.DataFrame:
    """Noisy minus exposure; empty if one of the two was never run."""
    pairs = noisy_minus_exposure(study.records, study.metric)
    return pairs if {"noisy", "exposure"} <= set(study.records["pairing"]) else pairs.iloc[:0]


def _grid_mean(differences: pd.DataFrame, study: Study) -> Estimate:
    cell = differences.groupby(["rho", "nu"]).ngroup()
    return mean_over_grid(differences[["seed"]].assign(cell=cell, value=differences["difference"]), level=study.level)


def _resting(differences: pd.DataFrame, others: pd.DataFrame) -> str:
    """How many values rest on a collapsed cell, if `others` has no value there."""
    return _of(differences["difference"].count() - others["difference"].count(), differences["difference"].count())


def _of(collapsed: int, values: int) -> str:
    return f"{collapsed} of {values} values" if collapsed else ABSENT


def _setting_value(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _margin_text(margin: float) -> str:
    return f"{100 * margin:g} point{'' if margin == 0.01 else 's'}"


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]
