"""A sheet of predictions: test images, their truth, and the predictions of chosen cells."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from analysis.names import BASELINES, display_name
from analysis.plots import cells, style
from analysis.plots.inputs import Inputs
from analysis.plots.style import Frame
from analysis.records.predictions import Prediction
from analysis.records.schema import class_columns
from analysis.records.studies import Study

#: The class number of pixels that do not count.
IGNORED = 255

# They also differ in lightness, so that neighbours are distinct in grey.
_CLASSES = (style.BLUE, style.ORANGE, "#303030", style.YELLOW, style.VERMILLION, style.SKY, style.PURPLE, style.GREEN)
_IGNORED_COLOUR = "#FFFFFF"

_IMAGES_SHOWN = 6

# Inches: the side of a picture, the largest height of a column of pictures, and the gap between them.
_SIDE, _TALLEST, _GAP = 0.9, 7.5, 0.05


def predictions(study: Study, inputs: Inputs) -> Figure | str:
    """Image, truth and the predictions of `inputs.cells`, or of `representative_cells`: one column per image.

    Both images are shown where the probe sees pairs.
    """
    wanted = (
        [key for key in inputs.cells if key in set(study.records["key"])]
        if inputs.cells
        else representative_cells(study)
    )
    if not wanted:
        return "none of the cells in --cells is among its records" if inputs.cells else "no cell is done"
    available = inputs.predictions(study, wanted)
    if not available:
        return "its folders contain no predictions of these cells"
    shown = [key for key in wanted if any(one.key == key for one in available)]
    rows = study.records.set_index("key").loc[shown]
    lacking = [key for key in wanted if key not in shown]
    notes = [f"no predictions of {', '.join(lacking)}"] if lacking else []
    # In the records of older files, which name no classes, each class has a score.
    scored = class_columns([c for c in study.records.columns if study.records[c].notna().any()])
    classes = available[0].classes or scored
    return draw_sheet(available, titles=_titles(rows, study), classes=classes, heading=study.title, notes=notes)


def representative_cells(study: Study) -> list[str]:
    """Keys of cells of the first seed: for each loss rho 0, and those with the most noisy pairs of three pairings."""
    done = study.records[study.records["status"] == "done"]
    if done.empty:
        return []
    done = done[done["seed"] == done["seed"].min()]
    noisy = done[done["rho"] > 0]
    keys: list[str] = []
    for loss in cells.losses(study):
        chosen = [done[(done["objective"] == loss) & (done["rho"] == 0)]]
        for pairing in ("noisy", "exposure", "misregistration"):
            most = noisy[(noisy["objective"] == loss) & (noisy["pairing"] == pairing)]
            chosen.append(most.sort_values(["rho", "nu"]).tail(1))
        keys += [key for part in chosen for key in part["key"]]
    return keys


def draw_sheet(
    predictions: Sequence[Prediction],
    *,
    titles: dict[str, str],
    classes: Sequence[str],
    heading: str,
    notes: Sequence[str] = (),
) -> Figure:
    """The sheet: one column per image (at most `_IMAGES_SHOWN`), one row per cell; `titles` maps keys to row titles.

    Cells of different seeds have different images. If a cell lacks an image, its place stays empty.
    """
    by_image: dict[tuple[int, bytes], dict[str, Prediction]] = {}
    for one in predictions:
        by_image.setdefault((one.number, one.image.tobytes()), {})[one.key] = one
    images = sorted(by_image.items(), key=lambda item: item[0][0])[:_IMAGES_SHOWN]
    left = style.label_width([line for title in titles.values() for line in title.split("\n")])
    pairs = any(one.before is not None for one in predictions)
    shown = ["before", "after", "truth"] if pairs else ["image", "truth"]
    rows, columns = len(shown) + len(titles), len(images)
    side = min(_SIDE, _TALLEST / rows)
    width = max(style.SINGLE, left + 0.1 + side * columns + _GAP * (columns - 1))
    figure, axes = style.grid(rows, columns, width=width, share_x=False, share_y=False)
    for column, ((number, _), each) in zip(axes.T, images, strict=True):
        first = next(iter(each.values()))
        pictures = [*([first.before] if pairs else []), first.image, coloured(first.truth)]
        for panel, picture in zip(column, pictures, strict=False):
            _show(panel, picture)
        column[0].set_title(f"image {number}", fontsize=style.SMALL, pad=3)
        for panel, key in zip(column[len(shown) :], titles, strict=True):
            _show(panel, coloured(each[key].predicted) if key in each else None)
    for panel, title in zip(axes[:, 0], [*shown, *titles.values()], strict=True):
        panel.text(-0.06, 0.5, title, transform=panel.transAxes, ha="right", va="center")
    legend = _legend(predictions, classes)
    right = width - left - side * columns - _GAP * (columns - 1)
    frame = Frame(height=side, left=left, right=right, across=_GAP, down=_GAP, foot=0.06)
    return style.finish(figure, heading=heading, legend=legend, notes=notes, frame=frame)


def coloured(numbers: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Class numbers (H, W) as colours (H, W, 3) in 0-1; ignored pixels are white."""
    palette = np.array([_class_colour(number) for number in range(256)])
    palette[IGNORED] = to_rgb(_IGNORED_COLOUR)
    return palette[numbers]


def _class_colour(number: int) -> tuple[float, float, float]:
    # After the eight safe colours, some look alike to colour-blind readers.
    return to_rgb(_CLASSES[number] if number < len(_CLASSES) else colormaps["tab20"](number % 20))


def _titles(rows: pd.DataFrame, study: Study) -> dict[str, str]:
    titles = {}
    for row in rows.reset_index().to_dict("records"):
        place = "" if row["objective"] in BASELINES else style.point_label(row["rho"], row["nu"])
        pairing = "" if row["pairing"] == "none" else display_name(row["pairing"])
        score = row[study.metric]
        value = "" if pd.isna(score) else f"F1 {100 * score:.1f}"
        parts = [display_name(row["objective"]), place, pairing, value]
        titles[row["key"]] = "\n".join(part for part in parts if part)
    return titles


def _legend(images: Sequence[Prediction], classes: Sequence[str]) -> list[Patch]:
    numbers: set[Any] = set().union(*(np.unique([*one.truth.flat, *one.predicted.flat]).tolist() for one in images))
    patches = [
        Patch(facecolor=_class_colour(number), label=name.replace("_", " "))
        for number, name in enumerate(classes)
        if number in numbers
    ]
    if IGNORED in numbers:
        patches.append(Patch(facecolor=_IGNORED_COLOUR, edgecolor=style.GREY, label="ignored"))
    return patches


def _show(axes: Axes, picture: NDArray[Any] | None) -> None:
    axes.set_axis_off()
    if picture is not None:
        axes.imshow(picture, interpolation="nearest", aspect="equal")
