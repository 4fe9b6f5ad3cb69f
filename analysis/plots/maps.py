"""The difference over the whole grid: a map over rho and nu, and forest plots of all cells with their mean.

Each function takes a study and its inputs. It returns the figure, or the reason why it cannot be drawn.
"""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from analysis.names import display_name
from analysis.plots import cells, style
from analysis.plots.inputs import Inputs
from analysis.plots.paper_figures import POINTS, RHO, no_pairs
from analysis.plots.style import Frame, LineStyle
from analysis.records.studies import Study
from analysis.stats.intervals import mean_over_grid

_COLOURS = "PuOr_r"  # diverging, and safe for the colour-blind
_HATCHES = {"missing": "////", "failed": "xxxx"}

# With more columns, numbers do not fit into three maps side by side.
_SIDE_BY_SIDE = 6


def difference_map(study: Study, inputs: Inputs) -> Figure | str:
    """Noisy minus exposure over rho and nu, one panel per loss, with value and number of seeds in each cell."""
    if reason := no_pairs(study):
        return reason
    if not cells.has_nu(study):
        return "its pairs have no per-image noise nu: see fig7"
    table = cells.complete_grid(study, cells.noisy_minus_exposure(study), ["noisy", "exposure"])
    if not (table["state"] == "done").any():
        return f"none of its {len(table)} cells is done"
    names = cells.losses(study)
    rhos, nus = sorted(set(table["rho"])), sorted(set(table["nu"]))
    figure, axes = style.wrapped(len(names), most=style.ACROSS if len(rhos) <= _SIDE_BY_SIDE else 1)
    most = 100 * float(table["estimate"].abs().max()) or 1.0
    colours = ScalarMappable(Normalize(-most, most), _COLOURS)
    for panel, name in zip(axes[:, 0], names, strict=True):
        _map(panel, table[table["objective"] == name], rhos, nus, colours)
        panel.set_title(display_name(name))
    style.label_outside(axes[:, 0], x=RHO, y=f"per-image noise {style.NU}")
    frame = Frame(height=max(1.0, 0.34 * len(nus)), right=0.75, down=0.42)
    states = [state for state in _HATCHES if (table["state"] == state).any()]
    legend = [Patch(facecolor="white", edgecolor=style.GREY, hatch=_HATCHES[s], label=s) for s in states]
    notes = [f"noisy {style.MINUS} exposure; n: seeds", *style.notes(table, study.seeds)]
    style.finish(figure, heading=study.title, legend=legend, notes=notes, frame=frame)
    _colour_bar(figure, axes[-1, -1], colours)
    return figure


def forest(study: Study, inputs: Inputs) -> Figure | str:
    """Noisy minus exposure of all cells with their intervals, one panel per loss, with the mean below."""
    if reason := no_pairs(study):
        return reason
    return _forest(study, cells.noisy_minus_exposure(study), ["noisy", "exposure"], POINTS)


def forest_zero(study: Study, inputs: Inputs) -> Figure | str:
    """Each cell with noisy pairs minus the cell at rho 0, drawn as `forest`."""
    pairing = cells.pairing_of(study)
    return _forest(
        study,
        cells.noisy_minus_rho_zero(study),
        [pairing],
        f"{display_name(pairing)} {style.MINUS} {style.RHO} 0, points",
    )


def _map(axes: Axes, table: pd.DataFrame, rhos: Sequence[float], nus: Sequence[float], colours: ScalarMappable) -> None:
    for row in cells.rows(table):
        corner = (rhos.index(row.rho) - 0.5, nus.index(row.nu) - 0.5)
        if row.state == "done":
            face = colours.to_rgba(np.array([100 * row.estimate]))[0]
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=face, edgecolor="white", linewidth=0.8))
            text = f"{style.signed(row.estimate)}\nn {row.n}"
            ink = "white" if np.dot(face[:3], (0.299, 0.587, 0.114)) < 0.5 else "black"
        else:
            hatch = _HATCHES[row.state]
            axes.add_patch(Rectangle(corner, 1, 1, facecolor="white", edgecolor="#B0B0B0", hatch=hatch, linewidth=0.8))
            text, ink = row.state, "black"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6} if row.state != "done" else None
        axes.text(corner[0] + 0.5, corner[1] + 0.5, text, ha="center", va="center", color=ink, bbox=box)
    axes.set_xticks(range(len(rhos)), [f"{rho:g}" for rho in rhos])
    axes.set_yticks(range(len(nus)), [f"{nu:g}" for nu in nus])
    axes.set_xlim(-0.5, len(rhos) - 0.5)
    axes.set_ylim(-0.5, len(nus) - 0.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _colour_bar(figure: Figure, axes: Axes, colours: ScalarMappable) -> None:
    place = axes.get_position()
    width = figure.get_figwidth()
    bar = figure.add_axes((place.x1 + 0.12 / width, place.y0, 0.1 / width, place.height))
    figure.colorbar(colours, cax=bar, label="points")


def _forest(study: Study, values: pd.DataFrame, pairings: Sequence[str], label: str) -> Figure | str:
    table = cells.complete_grid(study, values, pairings)
    if table.empty:
        return "no cell with noisy pairs (rho above 0) was run"
    if not (table["state"] == "done").any():
        return f"none of its {len(table)} cells is done"
    names = cells.losses(study)
    figure, axes = style.wrapped(len(names))
    notes = style.notes(table, study.seeds)
    for panel, name in zip(axes[:, 0], names, strict=True):
        own = values[values["objective"] == name]
        panel.set_title(display_name(name))
        line = style.line_style(name, names)
        notes += _forest_panel(panel, table[table["objective"] == name], own, line, study.level)
    labels = [style.point_label(r.rho, r.nu) for r in cells.rows(table[table["objective"] == names[0]])]
    style.label_outside(axes[:, 0], x=label)
    axes[0, 0].set_yticks([*range(len(labels)), len(labels) + 0.4], [*labels, "mean"])
    axes[0, 0].set_ylim(len(labels) + 1.0, -0.7)
    frame = Frame(height=0.16 * (len(labels) + 1.7), left=style.label_width(labels))
    return style.finish(figure, heading=study.title, legend=[], notes=notes, frame=frame)


def _forest_panel(axes: Axes, table: pd.DataFrame, values: pd.DataFrame, line: LineStyle, level: float) -> list[str]:
    axes.axvline(0, color=style.GREY, linewidth=0.8, zorder=1)
    for y, row in enumerate(cells.rows(table)):
        if row.state != "done":
            _write(axes, y, row.state)
        elif not math.isnan(row.low):
            axes.plot([100 * row.low, 100 * row.high], [y, y], color=line.colour, linewidth=1)
    done = (table["state"] == "done").to_numpy()
    axes.plot(100 * table["estimate"][done], np.flatnonzero(done), linestyle="", marker=line.marker, color=line.colour)
    cell = list(zip(values["rho"], values["nu"], strict=True))
    frame = pd.DataFrame({"cell": cell, "seed": values["seed"], "value": values["difference"]})
    mean = mean_over_grid(frame, level=level)
    below = len(table) + 0.4
    axes.axhline(len(table) - 0.3, color=style.GREY, linewidth=0.5)
    if not math.isnan(mean.low):
        axes.plot([100 * mean.low, 100 * mean.high], [below, below], color="black", marker="|", gid="mean")
    if math.isnan(mean.estimate):
        _write(axes, below, "no value")
        return []
    axes.plot([100 * mean.estimate], [below], color="black", marker="D", gid="mean")
    between = (
        "" if math.isnan(mean.low) else f" [{style.signed(mean.low, 2)}, {style.signed(mean.high, 2)}], {mean.method}"
    )
    left = f", {mean.left_out} with one seed left out" if mean.left_out else ""
    text = f"mean of {axes.get_title()}: {style.signed(mean.estimate, 2)}{between}; {mean.cells} cells{left}"
    return [f"{text}, {mean.seeds} seed{'s' if mean.seeds != 1 else ''}"]


def _write(axes: Axes, y: float, text: str) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    where = axes.get_yaxis_transform()
    axes.text(0.5, y, text, color=style.GREY, bbox=box, transform=where, ha="center", va="center")
