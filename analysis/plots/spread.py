"""Details of the means: the seeds of each cell, and all pairings.

Each function takes a study and its inputs. It returns the figure, or the reason why it cannot be drawn.
"""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.names import BASELINES, OBJECTIVES, PAIRINGS, display_name
from analysis.plots import against_rho, cells, style
from analysis.plots.inputs import Inputs
from analysis.plots.paper_figures import RHO, Series, draw_lines
from analysis.plots.style import Frame, LineStyle
from analysis.records.studies import Study
from analysis.stats.differences import comparable

# Up to this many seeds have distinct markers, which show whether a seed moves all cells together.
_DISTINCT_SEEDS = 7


def seeds(study: Study, inputs: Inputs) -> Figure | str:
    """The score of each cell and seed as a dot, one panel per loss, with the standard deviation at the right."""
    known = comparable(study.records, study.metric)
    names = cells.losses(study)
    if known[study.metric].notna().sum() == 0:
        return "no cell is done"
    if not names:
        return "no loss was run, only baselines"
    rows = _rows(known)
    figure, axes = style.wrapped(len(names))
    numbers = sorted(set(known["seed"]))
    styles = {seed: style.numbered_style(i if len(numbers) <= _DISTINCT_SEEDS else 0) for i, seed in enumerate(numbers)}
    for panel, name in zip(axes[:, 0], names, strict=True):
        _seed_panel(
            panel, known, study.metric, rows.assign(objective=rows["objective"].astype(object).fillna(name)), styles
        )
        panel.set_title(display_name(name))
    style.label_outside(axes[:, 0], x=f"{study.score}, %")
    axes[0, 0].set_yticks(range(len(rows)), list(rows["label"]))
    axes[0, 0].set_ylim(len(rows) - 0.4, -0.6)
    legend = [
        Line2D([], [], color=line.colour, marker=line.marker, linestyle="", label=f"seed {seed}")
        for seed, line in styles.items()
        if len(numbers) <= _DISTINCT_SEEDS
    ]
    notes = ["sd: standard deviation over seeds, points"] if len(numbers) > 1 else ["one seed: no standard deviation"]
    failed = int((known["status"] == "failed").sum())
    notes += [f"{failed} of {len(known)} cells failed (each seed counted)"] if failed else []
    frame = Frame(
        height=0.135 * (len(rows) + 0.5), left=style.label_width(list(rows["label"])), right=0.42, across=0.48
    )
    return style.finish(figure, heading=study.title, legend=legend, notes=notes, frame=frame)


def _rows(known: pd.DataFrame) -> pd.DataFrame:
    """The rows of the figure: the baselines, and the grid points of the losses (with null `objective`)."""
    base = [name for name in OBJECTIVES if name in BASELINES and (known["objective"] == name).any()]
    table = pd.DataFrame({"objective": base, "rho": 0.0, "nu": 0.0, "pairing": "none"})
    table["label"] = [display_name(name) for name in base]
    loss = known[~known["objective"].isin(BASELINES)]
    points = loss[["rho", "nu", "pairing"]].drop_duplicates()
    order = {name: index for index, name in enumerate(("none", *PAIRINGS))}
    points = points.assign(order=points["pairing"].map(order)).sort_values(["rho", "nu", "order"]).drop(columns="order")
    points["label"] = [
        style.point_label(rho, nu) + ("" if pairing == "none" else f" {display_name(pairing)}")
        for rho, nu, pairing in zip(points["rho"], points["nu"], points["pairing"], strict=True)
    ]
    return pd.concat([table, points], ignore_index=True).reindex(columns=["objective", "rho", "nu", "pairing", "label"])


def _seed_panel(axes: Axes, known: pd.DataFrame, metric: str, rows: pd.DataFrame, styles: dict[int, LineStyle]) -> None:
    on = ["objective", "rho", "nu", "pairing"]
    values = rows.reset_index(names="y").merge(known[[*on, "seed", metric, "status"]], on=on, how="left")
    values["percent"] = 100 * values[metric].astype(float)
    for y in range(0, len(rows), 2):
        axes.axhspan(y - 0.5, y + 0.5, color="#F3F3F3", linewidth=0, zorder=0)
    for seed, line in styles.items():
        own = values[(values["seed"] == seed) & values["percent"].notna()]
        axes.plot(
            own["percent"], own["y"], linestyle="", marker=line.marker, color=line.colour, markersize=3, label=f"{seed}"
        )
    where = axes.get_yaxis_transform()
    for y in range(len(rows)):
        part = values[values["y"] == y]
        count = int(part["percent"].notna().sum())
        if count > 1:
            axes.text(1.02, y, f"sd {part['percent'].std():.1f}", transform=where, va="center", color=style.GREY)
        elif count == 0:
            state = "failed" if (part["status"] == "failed").any() else "missing"
            axes.text(0.5, y, state, transform=where, ha="center", va="center", color=style.GREY)


def pairings(study: Study, inputs: Inputs) -> Figure | str:
    """The score against rho, one line per pairing, one row of panels per loss and one column per nu."""
    run = set(study.records.loc[study.records["rho"] > 0, "pairing"])
    names = [name for name in PAIRINGS if name in run]
    if len(names) < 2:
        return f"it has one pairing only, {display_name(names[0])}" if names else "no cell with noisy pairs was run"
    zero = cells.without_noise(study)
    tables = {name: cells.complete_grid(study, cells.scores(study, name), [name]) for name in names}
    whole = pd.concat([table.assign(pairing=name) for name, table in {"none": zero, **tables}.items()])
    if not (whole["state"] == "done").any():
        return f"none of its {len(whole)} cells is done"
    blocks = cells.blocks(study)
    if not blocks:
        return "no loss was run, only baselines"
    figure, axes = style.wrapped(len(blocks), most=cells.columns(blocks))
    for block, panel in zip(blocks, axes[:, 0], strict=True):
        start = zero[zero["objective"] == block.loss]
        lines = []
        for name, table in tables.items():
            here = (table["nu"] == block.nu) | (name == "misregistration")
            own = table[(table["objective"] == block.loss) & here]
            if len(own):
                series = pd.concat([start, own])
                lines.append(Series(label=name, style=style.line_style(name), cells=series, skip=len(start)))
        draw_lines(panel, lines)
        against_rho.draw_line(panel, start, LineStyle(colour=style.BLACK, marker="*"), row=len(lines))
        panel.set_title(style.panel_title(block.loss, block.nu))
    style.label_outside(axes[:, 0], x=RHO, y=f"{study.score}, %")
    zero_handle = style.legend_handle(f"{style.RHO} 0", LineStyle(colour=style.BLACK, marker="*", dashes=""))
    legend = [*(style.legend_handle(display_name(name), style.line_style(name)) for name in names), zero_handle]
    legend += style.absent_handles(whole["state"])
    notes = style.notes(whole, study.seeds)
    return style.finish(figure, heading=study.title, legend=legend, notes=notes, frame=Frame(height=1.4, down=0.36))
