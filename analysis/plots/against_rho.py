"""A line of cells against rho, with intervals and marks for absent cells, and the ticks of its axes."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import MaxNLocator

from analysis.plots.style import ABSENT, LineStyle


def set_ticks(axis: Axis, most: int = 6) -> None:
    """Set a few round ticks with short labels."""
    axis.set_major_locator(MaxNLocator(most, steps=[1, 2, 5, 10]))


def draw_line(
    axes: Axes, cells: pd.DataFrame, style: LineStyle, *, row: int = 0, shift: float = 0.0, skip: int = 0
) -> None:
    """Draw cells (`rho`, `estimate`, `low`, `high`, `state`) against rho, in percent or points, with their intervals.

    A cell without a value leaves a gap and has a mark above the axis.

    Args:
        axes: to draw into.
        cells: sorted by rho.
        style: of the line.
        row: sets the height of the marks of absent cells.
        shift: moves all points except rho 0 sideways.
        skip: this many first points have no marker and no interval, because they belong to another line.
    """
    x = (cells["rho"] + np.where(cells["rho"] > 0, shift, 0)).to_numpy(dtype=float)
    middle, low, high = (100 * cells[name].to_numpy(dtype=float) for name in ("estimate", "low", "high"))
    shown = list(range(skip, len(cells)))
    axes.plot(x, middle, color=style.colour, marker=style.marker, linestyle=style.dashes, markevery=shown)
    known = ~np.isnan(low) & (np.arange(len(cells)) >= skip)
    if known.any():
        sides = np.stack([middle - low, high - middle])[:, known]
        bars: dict[str, Any] = {"fmt": "none", "elinewidth": 0.8, "capsize": 1.8, "zorder": 1.8}
        axes.errorbar(x[known], middle[known], yerr=sides, ecolor=style.colour, **bars)
    for state, marker in ABSENT.items():
        absent = x[(cells["state"] == state).to_numpy()]
        if len(absent):
            height = np.full(len(absent), 0.02 + 0.035 * row)
            where = axes.get_xaxis_transform()
            axes.plot(absent, height, color=style.colour, linestyle="", marker=marker, transform=where, gid=state)
