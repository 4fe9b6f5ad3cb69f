"""Figs. 1, 4, 5, 7, 8 and 9 of the paper: the score, or noisy minus exposure, against the noisy-pairs rate rho.

Each function takes a study and its inputs. It returns the figure, or the reason why it cannot be drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.names import DENSE, display_name, other_losses
from analysis.plots import against_rho, cells, style
from analysis.plots.inputs import Inputs
from analysis.plots.style import Frame, LineStyle
from analysis.records.studies import Study

#: Draws a study, or returns the reason why it cannot be drawn.
Draw = Callable[[Study, Inputs], Figure | str]

RHO = f"noisy-pairs rate {style.RHO}"
POINTS = f"noisy {style.MINUS} exposure, points"

_HAS_NU = "its pairs have a per-image noise nu"
_NO_NU = "its pairs have no per-image noise nu"


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a panel. Its first `skip` cells belong to another line and only connect to it."""

    label: str
    style: LineStyle
    cells: pd.DataFrame
    skip: int = 0


def fig1(study: Study, inputs: Inputs) -> Figure | str:
    """The score against rho, one line per loss, for pairs without nu."""
    if cells.has_nu(study):
        return f"{_HAS_NU}: see fig4 and fig5"
    table, zero = _levels(study)
    if reason := _nothing(table, zero):
        return reason
    whole = pd.concat([zero, table])
    losses = cells.losses(study)
    lines = [_of_loss(whole, name, losses) for name in losses]
    figure, axes = style.wrapped(1)
    _level_panel(axes[0, 0], lines, zero)
    return _finished(study, figure, _percent(study), lines, whole, _baselines(study, figure))


def fig4(study: Study, inputs: Inputs) -> Figure | str:
    """The score of MoCo against rho, one line per nu."""
    return _levels_by_nu(study, ["moco"], other="fig1")


def fig5(study: Study, inputs: Inputs) -> Figure | str:
    """The score of the dense losses and of losses not in the paper: one panel per loss, one line per nu."""
    return _levels_by_nu(study, [*DENSE, *other_losses(study.records["objective"])], other="fig1")


def fig7(study: Study, inputs: Inputs) -> Figure | str:
    """Noisy minus exposure against rho, one line per loss, for pairs without nu."""
    if cells.has_nu(study):
        return f"{_HAS_NU}: see fig8 and fig9"
    table = _differences(study)
    if isinstance(table, str):
        return table
    losses = cells.losses(study)
    lines = [_of_loss(table, name, losses) for name in losses]
    figure, axes = style.wrapped(1)
    _difference_panel(axes[0, 0], lines)
    return _finished(study, figure, POINTS, lines, table, [])


def fig8(study: Study, inputs: Inputs) -> Figure | str:
    """Noisy minus exposure of MoCo against rho, one line per nu."""
    return _differences_by_nu(study, ["moco"], other="fig7")


def fig9(study: Study, inputs: Inputs) -> Figure | str:
    """Noisy minus exposure of the dense losses and of losses not in the paper, drawn as `fig5`."""
    return _differences_by_nu(study, [*DENSE, *other_losses(study.records["objective"])], other="fig7")


def no_pairs(study: Study) -> str | None:
    """The reason why noisy minus exposure does not exist, or None."""
    run = study.records.loc[study.records["rho"] > 0, "pairing"]
    lacking = [name for name in ("noisy", "exposure") if not (run == name).any()]
    return f"no cell of pairing {' or '.join(lacking)} was run" if lacking else None


def draw_lines(axes: Axes, lines: Sequence[Series]) -> None:
    """Draw the lines of one panel, slightly shifted against each other, with ticks at the values of rho."""
    rhos = sorted({float(rho) for line in lines for rho in line.cells["rho"]})
    step = 0.018 * ((rhos[-1] - rhos[0]) or 1)
    for row, series in enumerate(lines):
        shift = step * (row - (len(lines) - 1) / 2)
        against_rho.draw_line(axes, series.cells, series.style, row=row, shift=shift, skip=series.skip)
    axes.set_xticks(rhos, [f"{rho:g}" for rho in rhos])
    axes.margins(x=0.06)
    against_rho.set_ticks(axes.yaxis)


def _levels(study: Study) -> tuple[pd.DataFrame, pd.DataFrame]:
    pairing = cells.pairing_of(study)
    return cells.complete_grid(study, cells.scores(study, pairing), [pairing]), cells.without_noise(study)


def _differences(study: Study) -> pd.DataFrame | str:
    if reason := no_pairs(study):
        return reason
    table = cells.complete_grid(study, cells.noisy_minus_exposure(study), ["noisy", "exposure"])
    return _nothing(table) or table


def _levels_by_nu(study: Study, names: Sequence[str], *, other: str) -> Figure | str:
    losses = _losses_with_nu(study, names, other)
    if isinstance(losses, str):
        return losses
    table, zero = (part[part["objective"].isin(losses)] for part in _levels(study))
    if reason := _nothing(table, zero):
        return reason
    figure, axes = style.wrapped(len(losses))
    for panel, name in zip(axes[:, 0], losses, strict=True):
        start = zero[zero["objective"] == name]
        lines = _by_nu(table[table["objective"] == name], start)
        _level_panel(panel, lines, start)
        against_rho.draw_line(panel, start, _ZERO, row=len(lines))
        panel.set_title(display_name(name))
    legend = [*lines, Series(label=f"{style.RHO} 0", style=_ZERO, cells=zero)]
    return _finished(study, figure, _percent(study), legend, pd.concat([zero, table]), _baselines(study, figure))


def _differences_by_nu(study: Study, names: Sequence[str], *, other: str) -> Figure | str:
    losses = _losses_with_nu(study, names, other)
    table = losses if isinstance(losses, str) else _differences(study)
    if isinstance(table, str):
        return table
    table = table[table["objective"].isin(losses)]
    if reason := _nothing(table):
        return reason
    figure, axes = style.wrapped(len(losses))
    for panel, name in zip(axes[:, 0], losses, strict=True):
        lines = _by_nu(table[table["objective"] == name])
        _difference_panel(panel, lines)
        panel.set_title(display_name(name))
    return _finished(study, figure, POINTS, lines, table, [])


_ZERO = LineStyle(colour=style.BLACK, marker="*", dashes=":")


def _losses_with_nu(study: Study, names: Sequence[str], other: str) -> list[str] | str:
    run = [name for name in names if name in cells.losses(study)]
    if not cells.losses(study):
        return "no loss was run, only baselines"
    if not cells.has_nu(study):
        return f"{_NO_NU}: see {other}"
    return run or f"the loss {' or '.join(map(display_name, names))} was not run"


def _nothing(table: pd.DataFrame, zero: pd.DataFrame | None = None) -> str | None:
    if table.empty:
        return "no cell with noisy pairs (rho above 0) was run"
    whole = table if zero is None else pd.concat([table, zero])
    return None if (whole["state"] == "done").any() else f"none of its {len(whole)} cells is done"


def _of_loss(table: pd.DataFrame, name: str, losses: Sequence[str]) -> Series:
    return Series(
        label=display_name(name), style=style.line_style(name, losses), cells=table[table["objective"] == name]
    )


def _by_nu(table: pd.DataFrame, start: pd.DataFrame | None = None) -> list[Series]:
    lines = []
    for index, (nu, part) in enumerate(table.groupby("nu")):
        whole = part if start is None else pd.concat([start, part])
        lines.append(
            Series(
                label=f"{style.NU} {nu:g}",
                style=style.numbered_style(index),
                cells=whole,
                skip=0 if start is None else len(start),
            )
        )
    return lines


def _level_panel(axes: Axes, lines: Sequence[Series], zero: pd.DataFrame) -> None:
    draw_lines(axes, lines)
    for row in cells.rows(zero[zero["state"] == "done"]):
        colour = style.line_style(row.objective, list(zero["objective"])).colour if len(zero) > 1 else style.BLACK
        axes.axhline(100 * row.estimate, color=colour, linewidth=0.5, linestyle=":", zorder=1, gid="rho-0")


def _difference_panel(axes: Axes, lines: Sequence[Series]) -> None:
    draw_lines(axes, lines)
    axes.axhline(0, color=style.GREY, linewidth=0.8, zorder=1, gid="zero")


def _baselines(study: Study, figure: Figure) -> list[Artist]:
    """Draw the baselines into all panels, and return legend entries with value and interval.

    A baseline that would more than double the axis is only in the legend, except the random encoder.
    """
    entries: list[Artist] = []
    low, high = figure.axes[0].get_ylim()
    for row in cells.rows(cells.baselines(study)):
        name, label, line = row.objective, display_name(row.objective), style.line_style(row.objective)
        if row.state != "done":
            entries.append(style.legend_handle(f"{label}: {row.state}", LineStyle(colour="none", marker="", dashes="")))
            continue
        level = 100 * row.estimate
        fits = name == "random" or 2 * low - high <= level <= 2 * high - low
        for axes in figure.axes if fits else ():
            axes.axhline(level, color=line.colour, linestyle=line.dashes, zorder=1, gid=name)
        between = "" if np.isnan(row.low) else f" [{100 * row.low:.1f}, {100 * row.high:.1f}]"
        entries.append(style.legend_handle(f"{label} {level:.1f}{between}{'' if fits else ', off the axis'}", line))
    return entries


def _percent(study: Study) -> str:
    return f"{study.score}, %"


def _finished(
    study: Study, figure: Figure, label: str, lines: Sequence[Series], table: pd.DataFrame, more: Sequence[Artist]
) -> Figure:
    style.label_outside(figure.axes, x=RHO, y=label)
    legend = [
        *(style.legend_handle(line.label, line.style) for line in lines),
        *more,
        *style.absent_handles(table["state"]),
    ]
    notes = style.notes(table, study.seeds)
    head = 0.22 if figure.axes[0].get_title() else 0.06
    return style.finish(figure, heading=study.title, legend=legend, notes=notes, frame=Frame(head=head))
