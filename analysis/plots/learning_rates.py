"""Validation score against learning rate: seeds as points, their mean as a line, with a mark at the chosen rate."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.names import display_name, in_order
from analysis.plots import against_rho, style
from analysis.plots.style import Frame, LineStyle
from analysis.stats.learning_rates import Choice


def rates(tried: pd.DataFrame, choices: Sequence[Choice], *, heading: str) -> Figure:
    """One column of panels per loss: validation F1 of the probe, and the share of its range that the loss covered.

    `tried` is as from `analysis.stats.learning_rates.table`, with at least one loss.
    """
    losses = [name for name in in_order(tried["objective"]) if name != "random"]
    figure, axes = style.wrapped(len(losses), stacked=2, share_x=False, share_y=False)
    random = 100 * tried.loc[tried["objective"] == "random", "score"].mean()
    chosen = {choice.objective: choice.rate for choice in choices}
    for (above, below), name in zip(axes, losses, strict=True):
        part = tried[tried["objective"] == name]
        above.set_title(display_name(name))
        for panel, value in ((above, "score"), (below, "attained")):
            _points(panel, part, value, style.line_style(name, losses))
            if name in chosen:
                panel.axvline(chosen[name], color=style.BLACK, linewidth=0.8, linestyle=":", zorder=1, gid="chosen")
            against_rho.set_ticks(panel.yaxis, 4)
        if random == random:
            above.axhline(random, color=style.GREY, linestyle="--", linewidth=1, zorder=1, gid="random")
        below.axhline(0, color=style.GREY, linewidth=0.6, zorder=1)
    style.label_outside(axes[:, 0], y="val. F1, %")
    style.label_outside(axes[:, 1], x="learning rate", y="of the range, %")
    figure.align_ylabels()
    failed = tried[tried["status"] == "failed"]
    notes = [f"no score (x): {len(failed)} of {len(tried)} cells failed"] if len(failed) else []
    frame = Frame(height=1.25, down=0.34, left=0.6, across=0.5)
    return style.finish(figure, heading=heading, legend=_legend(failed), notes=notes, frame=frame)


def _points(panel: Axes, part: pd.DataFrame, value: str, line: LineStyle) -> None:
    """Each seed and the mean, in %. A failed rate is a cross at the bottom."""
    done = part[part[value].notna()]
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(numticks=6))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:g}"))  # the default needs mathtext
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlim(part["rate"].min() / 1.5, part["rate"].max() * 1.5)
    panel.plot(
        done["rate"], 100 * done[value], linestyle="", marker=line.marker, color=line.colour, alpha=0.4, gid="seeds"
    )
    means = 100 * done.groupby("rate")[value].mean()
    panel.plot(means.index, means, color=line.colour, linestyle=line.dashes, gid="mean")
    failed = part.loc[part["status"] == "failed", "rate"].unique()
    panel.plot(failed, [0.04] * len(failed), "x", color=style.GREY, transform=panel.get_xaxis_transform(), gid="failed")


def _legend(failed: pd.DataFrame) -> list[Artist]:
    entries: list[Artist] = [
        Line2D([], [], color=style.GREY, linestyle="", marker="o", alpha=0.5, label="a seed"),
        Line2D([], [], color=style.GREY, label="mean"),
        Line2D([], [], color=style.GREY, linestyle="--", label="random encoder"),
        Line2D([], [], color=style.BLACK, linestyle=":", label="chosen"),
    ]
    if len(failed):
        entries.append(Line2D([], [], color=style.GREY, linestyle="", marker="x", label="failed"))
    return entries
