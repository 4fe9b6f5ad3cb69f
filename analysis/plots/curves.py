"""Learning curves: the loss of pretraining with its plateau, and F1 of probes on validation images."""

from collections.abc import Sequence

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.names import display_name
from analysis.plots import against_rho, cells, style
from analysis.plots.inputs import Inputs
from analysis.plots.style import Dashes, Frame, Share
from analysis.records.studies import Study

# The rows of panels for each loss: stage and name of the curve, factor, labels of the axes.
_KINDS = (
    ("pretrain", "val_loss", 1.0, "validation loss", "steps of pretraining"),
    ("pretrain", "knn_val_f1_macro", 100.0, "val. F1 of knn, %", "steps of pretraining"),
    ("probe", "val_f1_macro", 100.0, "val. F1, %", "steps of the probe"),
)

_DASHES: dict[str, Dashes] = {
    "none": "-",
    "noisy": "-",
    "exposure": "--",
    "irrelevant": "-.",
    "false_positive": ":",
    "misregistration": (0, (5, 1, 1, 1)),
}


def curves(study: Study, inputs: Inputs) -> Figure | str:
    """Noise-free validation loss and validation F1 of the probe against steps, one line per cell (mean over seeds).

    With `--probe.every`, also the F1 of the knn probe during pretraining. Curves that no cell has are left out, such
    as those of pretraining where kept encoders are probed.

    Returns the figure, or the reason why it cannot be drawn.
    """
    points = inputs.curves(study)
    kinds = [kind for kind in _KINDS if len(_of(points, *kind[:2]))]
    if not kinds:
        return "its cells have no learning curves" if inputs.folders else "no folder with curves was given"
    blocks = cells.blocks(study)
    if not blocks:
        return "no loss was run, only baselines"
    means = _means(study, points)
    # Each loss has its own plateau, so columns share an axis only if they are the nu of one loss.
    by_nu = len({block.nu for block in blocks}) > 1
    share_y: Share = "row" if by_nu else False
    figure, axes = style.wrapped(
        len(blocks), stacked=len(kinds), most=cells.columns(blocks), share_x=False, share_y=share_y
    )
    rhos = sorted(set(study.records["rho"]))
    for block, stack in zip(blocks, axes, strict=True):
        own = means[(means["objective"] == block.loss) & means["nu"].isin([block.nu, 0.0])]
        stack[0].set_title(style.panel_title(block.loss, block.nu))
        for panel, (stage, name, factor, up, along) in zip(stack, kinds, strict=True):
            _lines(panel, _of(own, stage, name), rhos, factor)
            panel.set_xlabel(along, fontsize=style.SMALL, labelpad=1)
            panel.xaxis.set_major_locator(MaxNLocator(4, integer=True))
            against_rho.set_ticks(panel.yaxis, 4)
            if panel.get_subplotspec().is_first_col():
                panel.set_ylabel(up)
            if name == "val_loss":
                _reference(panel, _of(own, stage, "plateau"), factor, "plateau")
            else:
                _reference(panel, _of(means[means["objective"] == "random"], stage, name), factor, "random")
    lacking = int((~study.records["key"].isin(points["key"])).sum())
    notes = [f"{lacking} of {len(study.records)} cells have no curves"] if lacking else []
    figure.align_ylabels()
    frame = Frame(height=0.95, down=0.56, head=0.24, left=0.68, across=0.14 if by_nu else 0.5)
    return style.finish(figure, heading=study.title, legend=_legend(means, rhos), notes=notes, frame=frame)


def _means(study: Study, points: pd.DataFrame) -> pd.DataFrame:
    """Mean over seeds of each curve: one row for each cell, curve and step."""
    point = [*cells.POINT, "pairing"]
    table = points.merge(study.records[["key", *point]], on="key")
    return table.groupby([*point, "stage", "name", "step"])["value"].mean().reset_index()


def _of(points: pd.DataFrame, stage: str, name: str) -> pd.DataFrame:
    return points[(points["stage"] == stage) & (points["name"] == name)]


def _lines(axes: Axes, means: pd.DataFrame, rhos: Sequence[float], factor: float) -> None:
    for _, part in means.groupby(["rho", "nu", "pairing"]):
        rho, pairing = part["rho"].iloc[0], part["pairing"].iloc[0]
        marker = "." if len(part) == 1 else ""
        axes.plot(
            part["step"],
            factor * part["value"],
            color=_shade(rho, rhos),
            linestyle=_DASHES[pairing],
            marker=marker,
            linewidth=1.4 if rho == 0 else 0.9,
        )


def _reference(axes: Axes, means: pd.DataFrame, factor: float, gid: str) -> None:
    """A horizontal line: the plateau, or the final score of the random encoder."""
    if len(means):
        level = factor * means.loc[means["step"] == means["step"].max(), "value"].mean()
        axes.axhline(level, color=style.GREY, linestyle=(0, (1, 1.5)), linewidth=1, zorder=1, gid=gid)


def _shade(rho: float, rhos: Sequence[float]) -> tuple[float, float, float, float]:
    # The lightness of viridis increases, so the order of rho is visible in grey. Its pale end is invisible on white.
    return colormaps["viridis"](0.85 * rhos.index(rho) / max(1, len(rhos) - 1))


def _legend(means: pd.DataFrame, rhos: Sequence[float]) -> list[Line2D]:
    shades = [Line2D([], [], color=_shade(rho, rhos), label=f"{style.RHO} {rho:g}") for rho in rhos]
    run = set(means["pairing"]) - {"none"}
    pairs = [
        Line2D([], [], color="black", linestyle=dashes, label=display_name(name))
        for name, dashes in _DASHES.items()
        if name in run
    ]
    level = Line2D([], [], color=style.GREY, linestyle=(0, (1, 1.5)), label="plateau; random encoder")
    return [*shades, *pairs, level]
