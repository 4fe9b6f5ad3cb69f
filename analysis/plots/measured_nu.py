"""The score against the measured nu: how much the classes of the two images of a noisy pair differ."""

from dataclasses import replace

import pandas as pd
from matplotlib.figure import Figure

from analysis.names import PAIRINGS, display_name
from analysis.plots import against_rho, cells, style
from analysis.plots.inputs import Inputs
from analysis.plots.style import Frame, LineStyle
from analysis.records.studies import Study

MEASURED = "nu_measured"

_ZERO = LineStyle(colour=style.BLACK, marker="*", dashes="")


def score_by_measured_nu(study: Study, inputs: Inputs) -> Figure | str:
    """The score at the largest rho against the measured nu: one panel per loss, one line per pairing from rho 0 on.

    A study of all levels of varied settings (`Study.varied`) has the points of all of them, such as those of several
    amounts of misregistration.
    """
    records = study.records
    known = records[records[MEASURED].notna()] if MEASURED in records else records.iloc[:0]
    if known.empty:
        return f"no record has a measured nu (column {MEASURED}), which needs the classes of both images of noisy pairs"
    rho = known["rho"].max()
    levels = [replace(study, records=part.reset_index(drop=True), varied=()) for _, part in records.groupby("recipe")]
    zero = pd.concat([cells.without_noise(level) for level in levels])
    points = pd.concat([zero.assign(pairing="none", **{MEASURED: 0.0}), *(_points(level, rho) for level in levels)])
    points = points[points["state"] == "done"].assign(rho=100 * points[MEASURED])  # `draw_line` draws against rho
    losses = [name for name in cells.losses(study) if (points["objective"] == name).any()]
    run = [name for name in PAIRINGS if (points["pairing"] == name).any()]
    if not run:
        return f"none of its cells at {style.RHO} {rho:g} is done"
    figure, axes = style.wrapped(len(losses))
    for panel, loss in zip(axes[:, 0], losses, strict=True):
        own = points[points["objective"] == loss]
        start = own[own["pairing"] == "none"]
        for row, name in enumerate(run):
            line = own[own["pairing"] == name].sort_values("rho")
            if len(line):
                whole = pd.concat([start.head(1), line])
                against_rho.draw_line(panel, whole, style.line_style(name), row=row, skip=len(whole) - len(line))
        against_rho.draw_line(panel, start, _ZERO, row=len(run))
        panel.set_title(display_name(loss))
        panel.margins(x=0.06)
        for axis in (panel.xaxis, panel.yaxis):
            against_rho.set_ticks(axis)
    style.label_outside(axes[:, 0], x=f"measured {style.NU}, %", y=f"{study.score}, %")
    legend = [style.legend_handle(display_name(name), style.line_style(name)) for name in run]
    legend.append(style.legend_handle(f"{style.RHO} 0", _ZERO))
    notes = [f"all other points: {style.RHO} {rho:g}", *(["one seed: no interval"] if study.seeds == 1 else [])]
    return style.finish(figure, heading=study.title, legend=legend, notes=notes, frame=Frame(height=1.6, down=0.4))


def _points(study: Study, rho: float) -> pd.DataFrame:
    """The cells at this rho with a measured nu (the mean over seeds), as from `cells.complete_grid`, with `pairing`."""
    here = study.records[study.records["rho"] == rho]
    measured = here.groupby(["objective", "pairing", "nu"])[MEASURED].mean().dropna().reset_index()
    tables = [
        cells.complete_grid(study, cells.scores(study, name), [name]).assign(pairing=name)
        for name in measured["pairing"].unique()
    ]
    whole = pd.concat(tables) if tables else cells.without_noise(study).iloc[:0].assign(pairing="")
    return whole[whole["rho"] == rho].merge(measured, on=["objective", "pairing", "nu"])
