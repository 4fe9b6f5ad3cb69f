"""Names of losses, baselines and pairings: what the paper's are, their order, and how they read.

A loss may be anybody's: a name such as `simclr`, or a class in a module with its options, such as
`mypackage.losses:MyLoss(lr=0.3)`.
"""

from collections.abc import Iterable, Sequence

import pandas as pd

#: Confidence level of intervals.
LEVEL = 0.95

#: Objectives that pretrain nothing of ours: what pretraining is measured against.
BASELINES = ("random", "imagenet", "supervised")

#: The paper's losses, and those of them that compare pieces of images.
LOSSES = ("moco", "within_image", "cross_image")
DENSE = ("within_image", "cross_image")

#: The paper's objectives in the order of tables: baselines first.
OBJECTIVES = (*BASELINES, *LOSSES)

#: The data sets that the paper speaks of. Any other is real data of which somebody asks the paper's questions.
PAPER_DATASETS = ("vts", "xbd", "cifar10")

_LABELS = {
    "moco": "MoCo",
    "within_image": "within-image",
    "cross_image": "cross-image",
    "random": "random encoder",
    "imagenet": "ImageNet weights",
    "irrelevant": "irrelevant noise",
    "false_positive": "false positives",
    "none": "no noisy pairs",
}

# Letters of a label: of longer ones the end is cut off.
_LONGEST = 32


def display_name(name: str) -> str:
    """A loss, a baseline or a pairing as figures name it.

    Of a loss in a module the module is left out: `mypackage.losses:MyLoss(lr=0.3)` is MyLoss(lr=0.3).
    """
    head, bracket, options = name.partition("(")
    module, colon, own = head.rpartition(":")
    # An underscore in a name stands for a space; in code it does not.
    text = name if bracket or colon else name.replace("_", " ")
    text = _LABELS.get(name, f"{own}{bracket}{options}" if module else text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def table_name(name: str) -> str:
    """An objective as tables of text name it: as records do, or where that is long as figures do."""
    return name if len(name) <= _LONGEST else display_name(name)


def other_losses(names: Iterable[str]) -> list[str]:
    """The losses that are not the paper's, each once, by name."""
    return sorted(set(names) - set(OBJECTIVES))


def in_order(names: Iterable[str]) -> list[str]:
    """Losses and baselines, each once, in the order of `OBJECTIVES`, others behind by name."""
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
