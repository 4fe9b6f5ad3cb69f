"""Names of losses and baselines, and the order in which the paper gives them."""

from collections.abc import Iterable

import pandas as pd

#: Objectives that pretrain nothing of ours: what pretraining is measured against.
BASELINES = ("random", "imagenet", "supervised")


LEVEL = 0.95


#: Order of the rows: baselines first, then the paper's losses.
OBJECTIVES = (*BASELINES, "moco", "within_image", "cross_image")


def in_order(names: Iterable[str]) -> list[str]:
    """Losses and baselines, each once, in the order of `OBJECTIVES`, others behind by name."""
    found = set(names)
    return [*(name for name in OBJECTIVES if name in found), *sorted(found - set(OBJECTIVES))]


def in_paper_order(table: pd.DataFrame) -> pd.DataFrame:
    """Sorted by dataset and `OBJECTIVES`, others behind by name; within an objective as before."""
    place = {name: index for index, name in enumerate(in_order(table["objective"]))}
    return table.sort_values(
        ["dataset", "objective"],
        key=lambda column: column.map(place) if column.name == "objective" else column,
        kind="stable",
        ignore_index=True,
    )


#: The paper's losses, and those of them that compare pieces of images.
LOSSES = ("moco", "within_image", "cross_image")


DENSE = ("within_image", "cross_image")


#: The data sets the paper speaks of. Any other is real data that somebody asks the paper's questions of.
PAPER = ("vts", "xbd", "cifar10")
