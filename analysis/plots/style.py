"""The style of figures: colours, markers, labels and the common layout.

The colours by Okabe and Ito are safe for colour-blind readers. Every line also has its own marker and dashes, so it can
be recognised in grey. Sizes are inches and points at the column width of a journal.
"""

import math
import textwrap
import warnings
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib.style
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from analysis.names import display_name, other_losses
from analysis.text import first_few

#: Characters that look like p, v and a hyphen, hence the names.
RHO, NU, MINUS = "\N{GREEK SMALL LETTER RHO}", "\N{GREEK SMALL LETTER NU}", "\N{MINUS SIGN}"

#: Widths of a column and a page of a journal, inches.
SINGLE, DOUBLE = 3.5, 7.2

#: Smallest font size, points.
SMALL = 7.0

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILLION, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
GREY = "#6B6B6B"

#: Okabe-Ito colours for lines without a fixed colour, in order.
CYCLE = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, BLACK)

_SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": SMALL,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.fontsize": SMALL,
    "lines.linewidth": 1.1,
    "lines.markersize": 4,
    "hatch.linewidth": 0.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "noisy-pairs",
    "pdf.fonttype": 42,
    # The name of a source may contain a dollar sign.
    "text.parse_math": False,
}

#: At most so many panels stand side by side, unless they are values of one loss.
ACROSS = 3

# Average width of a letter of DejaVu Sans, relative to its size; slightly too wide, so that nothing is cut off.
_LETTER = 0.6
_LINE = 1.35 * SMALL / 72


#: A line style of matplotlib, or an offset and the lengths of dashes and gaps, points.
Dashes = Literal["-", "--", "-.", ":", ""] | tuple[float, tuple[float, ...]]

#: Which panels share an axis: all, none, or those of a row.
Share = bool | Literal["row"]


@dataclass(frozen=True, kw_only=True)
class LineStyle:
    """Colour, marker and dashes of a line."""

    colour: str
    marker: str
    dashes: Dashes = "-"


_STYLES = {
    "moco": LineStyle(colour=BLUE, marker="o"),
    "within_image": LineStyle(colour=VERMILLION, marker="s", dashes="--"),
    "cross_image": LineStyle(colour=GREEN, marker="^", dashes="-."),
    "random": LineStyle(colour=GREY, marker="", dashes="--"),
    "pretrained": LineStyle(colour=GREY, marker="", dashes=(0, (3, 1, 1, 1))),
    "imagenet": LineStyle(colour=GREY, marker="", dashes=(0, (7, 2))),
    "supervised": LineStyle(colour=GREY, marker="", dashes=(0, (1, 1.5, 5, 1.5))),
    "noisy": LineStyle(colour=BLUE, marker="o"),
    "exposure": LineStyle(colour=ORANGE, marker="s", dashes="--"),
    "irrelevant": LineStyle(colour=GREEN, marker="^", dashes="-."),
    "false_positive": LineStyle(colour=VERMILLION, marker="D", dashes=":"),
    "misregistration": LineStyle(colour=PURPLE, marker="v", dashes=(0, (5, 1, 1, 1))),
}
_OTHER_STYLES = (
    LineStyle(colour=PURPLE, marker="*", dashes=":"),
    LineStyle(colour=ORANGE, marker="D", dashes=(0, (5, 1, 1, 1, 1, 1))),
    LineStyle(colour=SKY, marker="v", dashes=(0, (7, 2))),
    LineStyle(colour=BLACK, marker="P", dashes="--"),
    LineStyle(colour="#8B6508", marker="X", dashes="-."),
    LineStyle(colour="#7F7FBF", marker="p", dashes="-"),
    LineStyle(colour="#B03060", marker="h", dashes=(0, (1, 1.5, 5, 1.5))),
    LineStyle(colour="#5F9EA0", marker="<", dashes=(0, (3, 2))),
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES: tuple[Dashes, ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))

#: The marker of a cell without a value, by its state.
ABSENT = {"missing": "x", "failed": "X"}


@contextmanager
def context() -> Iterator[None]:
    """Settings for drawing and saving. They replace the user's matplotlibrc and are restored afterwards."""
    with matplotlib.style.context(["default", _SETTINGS]), warnings.catch_warnings():
        # Letters that the font lacks become boxes in PNG and PDF. In SVG they remain text, shown with the reader's
        # fonts.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def line_style(name: str, losses: Sequence[str] = ()) -> LineStyle:
    """The style of a loss, a baseline or a pairing.

    Losses that are not in the paper use `_OTHER_STYLES` in turn, by their order among the `losses` of the study.
    """
    if name in _STYLES:
        return _STYLES[name]
    others = other_losses([*losses, name])
    return _OTHER_STYLES[others.index(name) % len(_OTHER_STYLES)]


def numbered_style(index: int) -> LineStyle:
    """The style of a line by its number, as for the values of nu."""
    dashes = _DASHES[index % len(_DASHES)]
    return LineStyle(colour=CYCLE[index % len(CYCLE)], marker=_MARKERS[index % len(_MARKERS)], dashes=dashes)


def point_label(rho: float, nu: float) -> str:
    """A short label of a grid point, by rho and nu; real pairs have no nu."""
    return f"{RHO} {rho:g} {NU} {nu:g}" if rho > 0 and nu > 0 else f"{RHO} {rho:g}"


def label_width(labels: Sequence[str]) -> float:
    """The width of tick labels left of a panel, inches."""
    return max(map(len, labels), default=0) * _LETTER * SMALL / 72 + 0.2


def panel_title(loss: str, nu: float) -> str:
    """The title of the panel of a loss at some nu."""
    return f"{display_name(loss)}, {NU} {nu:g}" if nu > 0 else display_name(loss)


def signed(fraction: float, digits: int = 1) -> str:
    """A difference in points, with sign."""
    return f"{round(100 * fraction, digits) + 0.0:+.{digits}f}".replace("-", MINUS)  # + 0.0: no negative zero


def legend_handle(label: str, style: LineStyle) -> Line2D:
    """A legend entry."""
    return Line2D([], [], color=style.colour, marker=style.marker, linestyle=style.dashes, label=label)


def absent_handles(states: pd.Series) -> list[Line2D]:
    """Legend entries for the marks of missing or failed cells, if there are any."""
    present = [state for state in ABSENT if (states == state).any()]
    return [Line2D([], [], color=GREY, linestyle="", marker=ABSENT[s], label=f"{s} (no value)") for s in present]


def notes(cells: pd.DataFrame, seeds: int) -> list[str]:
    """Notes on cells as from `complete_grid`: which are missing or failed, and how many have fewer seeds.

    With a column `pairing`, the notes name the pairing of a cell.
    """
    lines = []
    for state in ABSENT:
        names = [_cell_label(row) for row in cells[cells["state"] == state].to_dict("records")]
        if names:
            lines.append(f"{state}: {first_few(names, 4)}")
    fewer = int(((cells["n"] > 0) & (cells["n"] < seeds)).sum())
    if fewer:
        lines.append(f"{fewer} of {len(cells)} cells have fewer than {seeds} seeds")
    if seeds == 1:
        lines.append("one seed: no interval")
    return lines


def _cell_label(row: Mapping[Hashable, Any]) -> str:
    pairing = row.get("pairing", "none")
    return f"{display_name(row['objective'])} {point_label(row['rho'], row['nu'])}" + (
        "" if pairing == "none" else f" {display_name(pairing)}"
    )


def grid(
    rows: int, columns: int, *, width: float, share_x: Share = True, share_y: Share = True
) -> tuple[Figure, NDArray[np.object_]]:
    """A figure of this width (inches) and its axes, rows x columns; `finish` sets the height."""
    figure = Figure(figsize=(width, 3))
    return figure, figure.subplots(rows, columns, sharex=share_x, sharey=share_y, squeeze=False)


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Sizes of panels and margins, inches."""

    height: float = 1.9
    """Of one panel."""
    left: float = 0.6
    right: float = 0.12
    across: float = 0.14
    """Between adjacent columns of panels."""
    down: float = 0.3
    """Between adjacent rows of panels."""
    foot: float = 0.42
    """Below the last row, for ticks and label."""
    head: float = 0.22
    """Above the first row, for titles."""


def wrapped(
    count: int, *, stacked: int = 1, most: int = ACROSS, share_x: Share = True, share_y: Share = True
) -> tuple[Figure, NDArray[np.object_]]:
    """A figure of `count` stacks of panels in reading order, in rows of nearly equal length.

    Args:
        count: of stacks, at least one.
        stacked: panels in a stack, one above the other.
        most: stacks in a row.
        share_x: as in `grid`.
        share_y: as in `grid`.

    Returns:
        The figure and its axes, count x stacked; `label_outside` labels them, `finish` sets the height.
    """
    rows = math.ceil(count / most)
    columns = math.ceil(count / rows)
    width = SINGLE if count == 1 else DOUBLE
    figure, axes = grid(stacked * rows, columns, width=width, share_x=share_x, share_y=share_y)
    stacks = axes.reshape(rows, stacked, columns).swapaxes(1, 2).reshape(rows * columns, stacked)
    for unused in stacks[count:].ravel().tolist():
        unused.remove()
    return figure, stacks[:count]


def label_outside(panels: Sequence[Axes] | NDArray[np.object_], *, x: str = "", y: str = "") -> None:
    """Label the x-axis of panels without one below, and the y-axis of those at the left.

    `panels` are in reading order, as from `wrapped`.
    """
    columns = panels[0].get_subplotspec().get_gridspec().ncols  # type: ignore[union-attr]
    for number, panel in enumerate(panels):
        if number + columns >= len(panels):
            panel.set_xlabel(x)
            panel.tick_params(labelbottom=True)  # hidden where a row below shares the axis
        if number % columns == 0:
            panel.set_ylabel(y)


def finish(figure: Figure, *, heading: str, legend: Sequence[Artist], notes: Sequence[str], frame: Frame) -> Figure:
    """Set the height of the figure, and stack heading, panels, legend and notes without overlap."""
    width = figure.get_figwidth()
    rows, columns = figure.axes[0].get_subplotspec().get_gridspec().get_geometry()  # type: ignore[union-attr]
    titles = _wrapped(heading, width, 8)
    remarks = [line for note in notes for line in _wrapped(note, width, SMALL)]
    entries = [str(entry.get_label()) for entry in legend]
    per_row = _per_row(entries, width)
    legend_height = (math.ceil(len(entries) / per_row) * 1.15 + 0.6) * _LINE if entries else 0.0
    bottom = 0.08 + len(remarks) * _LINE + legend_height + frame.foot
    top = 0.08 + len(titles) * 1.15 * _LINE + frame.head
    height = bottom + rows * frame.height + (rows - 1) * frame.down + top
    figure.set_size_inches(width, height)
    panel = (width - frame.left - frame.right - (columns - 1) * frame.across) / columns
    figure.subplots_adjust(
        left=frame.left / width,
        right=1 - frame.right / width,
        bottom=bottom / height,
        top=1 - top / height,
        wspace=frame.across / panel,
        hspace=frame.down / frame.height,
    )
    figure.text(0.08 / width, 1 - 0.06 / height, "\n".join(titles), va="top", fontsize=8, fontweight="bold")
    figure.text(0.08 / width, 0.06 / height, "\n".join(remarks), va="bottom", color="#333333", linespacing=1.3)
    if entries:
        where = (0.5, (0.06 + len(remarks) * _LINE) / height)
        figure.legend(
            handles=list(legend),
            ncols=per_row,
            loc="lower center",
            bbox_to_anchor=where,
            frameon=False,
            borderpad=0.2,
            handlelength=2.8,
            columnspacing=1.4,
        )
    return figure


def _wrapped(text: str, width: float, size: float) -> list[str]:
    return textwrap.wrap(text, max(20, int((width - 0.16) * 72 / (size * _LETTER))))


def _per_row(entries: Sequence[str], width: float) -> int:
    """The largest number of legend columns that fit side by side; matplotlib fills a legend column by column."""
    widths = np.array([(0.95 * _LETTER * len(entry) + 5.0) * SMALL / 72 for entry in entries])
    for columns in range(len(entries), 1, -1):
        if sum(part.max() for part in np.array_split(widths, columns)) <= width - 0.2:
            return columns
    return 1
