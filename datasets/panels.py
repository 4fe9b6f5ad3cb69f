"""Draws rows of panels for previews: images, and images under their masks."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

# As in `analysis/plots`: with the backend that Jupyter passes to shell commands matplotlib cannot be imported.
if "ipykernel" not in sys.modules:
    os.environ["MPLBACKEND"] = "agg"

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from skimage.color import label2rgb
from skimage.segmentation import find_boundaries

from datasets.errors import InputError

FILL = 0.35
"""Opacity of a class's colour inside its outline."""
DPI = 150

Color = tuple[float, float, float]
Picture = Float[np.ndarray, "h w 3"]

IGNORED_COLOR: Color = (0.80, 0.47, 0.65)
"""Of pixels without a class: Okabe-Ito's purple, like all colours here safe for the colour-blind."""
CHANGED: Color = (0.80, 0.20, 0.20)
"""Of what changed between two images."""


def overlay(picture: Picture, mask: UInt8[np.ndarray, "h w"], colors: Mapping[int, Color]) -> Picture:
    """The picture with each class tinted in its colour, and outlined where the class changes; class 0 stays as it is.

    Args:
        picture: RGB from 0 to 1.
        mask: the class of each pixel.
        colors: of all classes in the mask but 0.
    """
    shown = [colors[label] for label in np.unique(mask).tolist() if label]
    tinted = label2rgb(mask, picture, shown, alpha=FILL, bg_color=None, saturation=1)
    outlines = label2rgb(mask, colors=shown)
    return np.where(find_boundaries(mask, mode="inner")[..., None], outlines, tinted)


def save_panels(
    path: Path,
    rows: Sequence[Sequence[tuple[str, np.ndarray]]],
    *,
    legend: Mapping[str, Color] | None = None,
    caption: str = "",
    side: float = 3.5,
) -> None:
    """Write a picture of rows of panels.

    Args:
        path: file to write; its suffix selects the format.
        rows: title and picture (RGB) of each panel.
        legend: the colour of each name.
        caption: title of the whole picture.
        side: of a panel, inches.

    Raises:
        InputError: matplotlib does not know the format.
        OSError: the file cannot be written.
    """
    columns = max(map(len, rows))
    figure = Figure(figsize=(columns * side, (side + 0.3) * len(rows) + 1), dpi=DPI, layout="constrained")
    for axes, panels in zip(figure.subplots(len(rows), columns, squeeze=False), rows, strict=True):
        for axis in axes:
            axis.axis("off")
        for axis, (title, picture) in zip(axes, panels, strict=False):
            axis.imshow(picture, interpolation="nearest")
            axis.set_title(title, fontsize=7)
    if legend:
        keys = [Patch(facecolor=color, label=name) for name, color in legend.items()]
        figure.legend(handles=keys, loc="outside lower center", ncols=min(len(keys), 2 * columns), frameon=False)
    if caption:
        figure.suptitle(caption, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        figure.savefig(path)
    except ValueError as error:  # matplotlib does not know the suffix
        raise InputError(f"{path}: {error}") from error
