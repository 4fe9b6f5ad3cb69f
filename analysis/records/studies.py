"""Studies: records that may be compared, because one recipe was run on one set of data.

A sweep's folder holds one study. Records of several folders may hold several, even of one data set. Each has its own
verdicts, figures and tables.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.names import LEVEL

#: The columns that identify a study: records that agree in them (null is a value) may be compared.
STUDY = ["dataset", "source", "recipe", "data"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """One recipe on one set of data: what its records share, and the records."""

    title: str
    """Its name for headings, unique among the studies of the same records."""
    dataset: str
    recipe: str
    source: str
    """What the data were made from; empty where the records do not say."""
    metric: str
    """The score that counts, a column of the records: see `headline`."""
    records: pd.DataFrame
    level: float = LEVEL
    """Of intervals. Adaptive seeds raise it above `LEVEL` (see `analysis.stats.seed_stopping`)."""

    @property
    def grown(self) -> bool:
        """Whether adaptive seeds were added, to some losses and not to others."""
        return self.level > LEVEL

    @property
    def score(self) -> str:
        """The score as axes and headings name it."""
        return "test accuracy" if self.metric == "test_accuracy" else "test macro F1"

    @property
    def seeds(self) -> int:
        """Seeds that have a cell that is done."""
        return int(self.records.loc[self.records["status"] == "done", "seed"].nunique())


def studies(records: pd.DataFrame, *, level: float = LEVEL) -> list[Study]:
    """The studies among records, sorted by `STUDY`; `records` as from `read_records`, `level` that of intervals."""
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
    """Data set and source; also recipe and data, where titles would be the same without."""
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
    """The score that tables show: accuracy where images are classified, macro F1 where they are segmented."""
    # Records from before this column have null, and were all segmentation.
    return "test_accuracy" if (records["task"] == "classification").all() else "test_f1_macro"
