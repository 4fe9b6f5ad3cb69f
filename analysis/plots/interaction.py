"""The effect of noisy pairs against a setting that the sweep varies, one line per loss."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from analysis.names import display_name, in_order
from analysis.plots import against_rho, style
from analysis.plots.inputs import Inputs
from analysis.plots.style import DOUBLE, SINGLE, Frame
from analysis.records.studies import Study, settings_text
from analysis.stats.assignments import ENOUGH, ROLES, over_assignments
from analysis.stats.interaction import grid_of_effects, interaction

#: Numbers whose largest is at least this many times the smallest have a logarithmic axis.
SPAN = 8

# More columns of panels would be too narrow to read.
_COLUMNS = 6

# Between the lines of two losses, as a share of the axis.
_APART = 0.012


def effect_by_setting(study: Study, inputs: Inputs) -> Figure | str:
    """The effects against the first varied setting: one row of panels per effect.

    There is one column of panels for each combination of the values of the other settings. A loss that does not use a
    setting has the same values for all of it. If the first setting assigns texture categories to roles, its values are
    followed by the mean over assignments. `study` is one of all levels (`Study.varied`).
    """
    table = interaction(study)
    first, *others = study.varied
    means = over_assignments(study) if first == ROLES else pd.DataFrame()
    if table.empty:
        return "no loss has cells both with and without noisy pairs, or of both pairings"
    values = {name: sorted(study.records[name].dropna().unique()) for name in study.varied}
    combinations = itertools.product(*(values[name] for name in others))
    columns = [dict(zip(others, combination, strict=True)) for combination in combinations]
    if len(columns) > _COLUMNS:
        return f"it would have {len(columns)} columns of panels, one for each combination of {' and '.join(others)}"
    quantities = list(dict.fromkeys(table["quantity"]))
    figure, axes = style.grid(
        len(quantities), len(columns), width=SINGLE if len(columns) == 1 else DOUBLE, share_y="row"
    )
    losses = in_order(table["objective"])
    for row, quantity in enumerate(quantities):
        for column, here in enumerate(columns):
            part = _at(table[table["quantity"] == quantity], here)
            lines = {name: _along(own, first, values[first]) for name, own in part.groupby("objective")}
            _panel(axes[row, column], values[first], {name: lines[name] for name in losses if name in lines}, losses)
            if len(means):
                part = _at(means[means["quantity"] == quantity], here).set_index("objective")
                _means(axes[row, column], len(values[first]), part.loc[part.index.isin(lines)], losses)
        axes[row, 0].set_ylabel(f"{quantity.replace(' minus ', f' {style.MINUS} ')},\npoints")
    for panel, here in zip(axes[0], columns, strict=True):
        panel.set_title(settings_text(tuple(here.items())))
    for panel in axes[-1]:
        _set_axis(panel, values[first], first, mean=len(means) > 0)
    legend = [style.legend_handle(display_name(loss), style.line_style(loss, losses)) for loss in losses]
    frame = Frame(height=1.5, left=0.75, head=0.22 if others else 0.06, foot=0.86 if first == ROLES else 0.42)
    notes = [*_notes(table, grid_of_effects(study)), *_mean_notes(means)]
    return style.finish(figure, heading=study.title, legend=legend, notes=notes, frame=frame)


def _at(table: pd.DataFrame, here: Mapping[str, Any]) -> pd.DataFrame:
    for name, value in here.items():
        table = table[(table[name] == value) | table[name].isna()]
    return table


def _along(part: pd.DataFrame, setting: str, values: Sequence[Any]) -> pd.DataFrame:
    """A row for each value of a setting, in order; the same row for all of them if the loss does not use it."""
    if part[setting].isna().all():
        return part.loc[part.index.repeat(len(values))]
    return part.set_index(setting).reindex(list(values))


def _positions(values: Sequence[Any]) -> np.ndarray:
    """Where the values are on the axis: numbers at themselves, texts side by side."""
    return np.array([index if isinstance(value, str) else value for index, value in enumerate(values)], dtype=float)


def _is_logarithmic(values: Sequence[Any]) -> bool:
    return not isinstance(values[0], str) and values[0] > 0 and values[-1] >= SPAN * values[0]


def _panel(axes: Axes, values: Sequence[Any], lines: Mapping[str, pd.DataFrame], losses: Sequence[str]) -> None:
    at = _positions(values)
    for number, (loss, line) in enumerate(lines.items()):
        own = style.line_style(loss, losses)
        middle, low, high = (100 * line[name].to_numpy(dtype=float) for name in ("estimate", "low", "high"))
        aside = _APART * (number - (len(lines) - 1) / 2)
        drawn = axes.errorbar(
            at * (at[-1] / at[0]) ** aside if _is_logarithmic(values) else at + aside * (at[-1] - at[0]),
            middle,
            yerr=np.stack([middle - low, high - middle]),
            color=own.colour,
            marker=own.marker,
            linestyle=own.dashes,
            elinewidth=0.8,
            capsize=1.8,
        )
        drawn.lines[0].set_gid(loss)
    axes.axhline(0, color=style.GREY, linewidth=0.8, zorder=1, gid="zero")
    against_rho.set_ticks(axes.yaxis)


def _means(axes: Axes, place: int, means: pd.DataFrame, losses: Sequence[str]) -> None:
    """The mean over assignments of each loss, right of the assignments, at `place`."""
    for number, (loss, row) in enumerate(means.iterrows()):
        own = style.line_style(str(loss), losses)
        middle, low, high = (100 * float(row[name]) for name in ("estimate", "low", "high"))
        drawn = axes.errorbar(
            place + _APART * place * (number - (len(means) - 1) / 2),
            middle,
            yerr=[[middle - low], [high - middle]],
            color=own.colour,
            marker=own.marker,
            elinewidth=1.6,
            capsize=1.8,
        )
        drawn.lines[0].set_gid(f"{loss} mean")
    axes.axvline(place - 0.5, color=style.GREY, linewidth=0.8, linestyle=":", zorder=1)


def _mean_notes(means: pd.DataFrame) -> list[str]:
    if means.empty:
        return []
    number = int(means["assignments"].min())
    few = ", which are few" * (number < ENOUGH)
    return [f"mean: over {number} assignments{few}; its interval holds assignments and seeds"]


def _set_axis(axes: Axes, values: Sequence[Any], setting: str, *, mean: bool) -> None:
    if _is_logarithmic(values):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
    texts = [value if isinstance(value, str) else f"{value:g}" for value in values]
    if setting == ROLES:
        texts = [text.replace(",", "\n") for text in texts]  # side by side, long names would overlap
    axes.set_xticks([*_positions(values), *([len(values)] if mean else [])], [*texts, *(["mean"] if mean else [])])
    axes.set_xlabel(setting)
    axes.margins(x=0.1)


def _notes(table: pd.DataFrame, grid: str) -> list[str]:
    seeds = int(table["seeds"].max())
    lines = [f"mean over {grid}"]
    if seeds == 1:
        lines.append("one seed: no interval")
    if fewer := int(((table["seeds"] > 0) & (table["seeds"] < seeds)).sum()):
        lines.append(f"{fewer} of {len(table)} points have fewer than {seeds} seeds")
    if nothing := int((table["values"] == 0).sum()):
        lines.append(f"{nothing} of {len(table)} points have no value")
    if collapsed := int(table["collapsed"].sum()):
        lines.append(f"{collapsed} of {int(table['values'].sum())} values rest on collapsed cells")
    return lines
