"""Studies: records that may be compared, because they have the same recipe and the same data.

The folder of a sweep holds one study. Records of several folders may hold several studies, even of one data set. Each
study has its own verdicts, figures and tables.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.names import LEVEL

#: The columns that identify a study: records with equal values in them (null is a value) may be compared.
STUDY = ["dataset", "source", "recipe", "data"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """The records of one recipe on one set of data, and what they share."""

    title: str
    """Its heading, unique among the studies of the same records."""
    dataset: str
    recipe: str
    source: str
    """The origin of the data; empty if it is not recorded."""
    metric: str
    """The column of the score: see `headline`."""
    records: pd.DataFrame
    level: float = LEVEL
    """Confidence level of intervals. Adaptive seeds raise it above `LEVEL` (see `analysis.stats.seed_stopping`)."""

    @property
    def grown(self) -> bool:
        """Whether adaptive seeds were added, so that losses may have different numbers of seeds."""
        return self.level > LEVEL

    @property
    def score(self) -> str:
        """The name of the score in axes and headings."""
        return "test accuracy" if self.metric == "test_accuracy" else "test macro F1"

    @property
    def seeds(self) -> int:
        """Number of seeds with a done cell."""
        return int(self.records.loc[self.records["status"] == "done", "seed"].nunique())


def studies(records: pd.DataFrame, *, level: float = LEVEL) -> list[Study]:
    """The studies among `records` (as from `read_records`), sorted by `STUDY`; `level` is that of intervals."""
    number = records[STUDY].fillna("").groupby(STUDY).ngroup().to_numpy()
    order = np.argsort(number, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(number[order])) + 1) if len(order) else []
    parts = [records.take(rows).reset_index(drop=True) for rows in groups]
    return [_study(part, title, level) for part, title in zip(parts, _titles(parts), strict=True)]


def _study(records: pd.DataFrame, title: str, level: float) -> Study:
    dataset, source, recipe = (str(records[name].fillna("").iloc[0]) for name in STUDY[:3])
    metric = headline(records)
    return Study(
        title=title, dataset=dataset, recipe=recipe, source=source, metric=metric, records=records, level=level
    )


def _titles(parts: Sequence[pd.DataFrame]) -> list[str]:
    """Data set and source; also recipe and data if titles would otherwise be equal."""
    heads = [part[STUDY].astype(object).where(part[STUDY].notna(), None).iloc[0] for part in parts]
    names = [f"{head.dataset} on {head.source}" if head.source else str(head.dataset) for head in heads]
    several = len({head.recipe for head in heads}) > 1
    names = [f"{name}, recipe {head.recipe}" if several else name for name, head in zip(names, heads, strict=True)]
    count = Counter(names)
    return [
        f"{name}, data {head['data'] or 'not recorded'}" if count[name] > 1 else name
        for name, head in zip(names, heads, strict=True)
    ]


def headline(records: pd.DataFrame) -> str:
    """The score in tables: accuracy for classification, macro F1 for segmentation."""
    # Older records have null in this column, and were all segmentation.
    return "test_accuracy" if (records["task"] == "classification").all() else "test_f1_macro"
