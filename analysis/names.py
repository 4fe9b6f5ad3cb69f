"""Names of losses, baselines and pairings: those of the paper, their order, and their labels; what all commands share.

Other losses are names such as `simclr`, or a class in a module with its settings, such as
`mypackage.losses:MyLoss(lr=0.3)`.
"""

from collections.abc import Iterable, Sequence

import pandas as pd

#: Confidence level of intervals.
LEVEL = 0.95

#: "Robust" means: not worse by more than this margin of one point.
MARGIN = 0.01

#: Objectives without one of our losses, for comparison.
BASELINES = ("random", "pretrained", "imagenet", "supervised")

#: The losses of the paper, and the dense ones among them.
LOSSES = ("moco", "within_image", "cross_image")
DENSE = ("within_image", "cross_image")

#: The pairings of cells with noisy pairs, in the order of tables.
PAIRINGS = ("noisy", "exposure", "irrelevant", "false_positive", "misregistration")

#: Those whose cells have a nu of their own: 1, and 0, because the amount is a setting of the recipe.
WITHOUT_NU = ("false_positive", "misregistration")

#: The objectives of the paper in the order of tables: baselines first.
OBJECTIVES = (*BASELINES, *LOSSES)

#: The data sets of the paper. Any other data set is judged by the paper's claims about real data.
PAPER_DATASETS = ("vts", "xbd", "cifar10")

_LABELS = {
    "moco": "MoCo",
    "within_image": "within-image",
    "cross_image": "cross-image",
    "rince": "RINCE",
    "rince_within": "within-image RINCE",
    "simclr": "SimCLR",
    "supcon": "SupCon",
    "byol": "BYOL",
    "simsiam": "SimSiam",
    "vicreg": "VICReg",
    "densecl": "DenseCL",
    "pixpro": "PixPro",
    "random": "random encoder",
    "pretrained": "pretrained weights",
    "imagenet": "ImageNet weights",
    "irrelevant": "irrelevant noise",
    "false_positive": "false positives",
    "none": "no noisy pairs",
}

# Longer labels are cut off.
_LONGEST = 32


def display_name(name: str) -> str:
    """The label of a loss, a baseline or a pairing in figures.

    It omits the module of a loss: `mypackage.losses:MyLoss(lr=0.3)` is MyLoss(lr=0.3).
    """
    head, bracket, options = name.partition("(")
    module, colon, own = head.rpartition(":")
    # An underscore in a plain name stands for a space, but not in a class or a setting.
    text = name if bracket or colon else name.replace("_", " ")
    text = _LABELS.get(name, f"{own}{bracket}{options}" if module else text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def table_name(name: str) -> str:
    """The label of an objective in text tables: its name, or `display_name` if the name is long."""
    return name if len(name) <= _LONGEST else display_name(name)


def other_losses(names: Iterable[str]) -> list[str]:
    """The distinct losses that are not in the paper, sorted by name."""
    return sorted(set(names) - set(OBJECTIVES))


def in_order(names: Iterable[str]) -> list[str]:
    """Distinct losses and baselines in the order of `OBJECTIVES`, then the others by name."""
    known = set(names)
    return [*(name for name in OBJECTIVES if name in known), *other_losses(known)]


def in_paper_order(table: pd.DataFrame, by: Sequence[str] = ("dataset", "objective")) -> pd.DataFrame:
    """The table sorted by these columns, objectives in the order of `in_order`; ties keep their order."""
    rank = {name: index for index, name in enumerate(in_order(table["objective"]))} if "objective" in by else {}
    return table.sort_values(
        [*by],
        key=lambda column: column.map(rank) if column.name == "objective" else column,
        kind="stable",
        ignore_index=True,
    )
