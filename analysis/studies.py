"""Studies: the records that may be compared, because one recipe was run on one set of data.

A sweep's folder holds one study. Records of several folders may hold several, of one data set too, and each is
judged, drawn and tabled by itself.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

#: What tells studies apart: records that agree in these columns (null is a value of its own) may be compared.
STUDY = ["dataset", "source", "recipe", "data"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """One recipe on one set of data: what its records share, and the records."""

    dataset: str
    recipe: str
    source: str
    """What the data were made from, in words; empty where the records do not say."""
    metric: str
    """The score that counts, a column of the records: see `headline`."""
    records: pd.DataFrame

    @property
    def title(self) -> str:
        """Its name for headings."""
        return f"{self.dataset} on {self.source}" if self.source else self.dataset

    @property
    def score(self) -> str:
        """The score in words, as axes and headings name it."""
        return "test accuracy" if self.metric == "test_accuracy" else "test macro F1"

    @property
    def seeds(self) -> int:
        """Seeds that have a cell that is done."""
        return int(self.records.loc[self.records["status"] == "done", "seed"].nunique())


def studies(records: pd.DataFrame) -> Iterator[Study]:
    """The studies among records, sorted by `STUDY`; `records` as from `read_records`."""
    number = records[STUDY].fillna("").groupby(STUDY).ngroup().to_numpy()
    order = np.argsort(number, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(number[order])) + 1) if len(order) else []:
        part = records.take(rows).reset_index(drop=True)
        dataset, source, recipe = (str(part[name].fillna("").iloc[0]) for name in STUDY[:3])
        yield Study(dataset=dataset, recipe=recipe, source=source, metric=headline(part), records=part)


def titles(found: Sequence[Study]) -> list[str]:
    """A heading for each study; recipe and data are named where other headings would be the same."""
    several = len({study.recipe for study in found}) > 1
    names = [f"{study.title}, recipe {study.recipe}" if several else study.title for study in found]
    count = Counter(names)
    prints = [study.records["data"].iloc[0] for study in found]
    return [
        f"{name}, data {'not recorded' if pd.isna(data) else data}" if count[name] > 1 else name
        for name, data in zip(names, prints, strict=True)
    ]


def headline(records: pd.DataFrame) -> str:
    """The score that tables show: accuracy where images are classified, macro F1 where they are segmented."""
    # Records of before the column have null, and were all segmentation.
    return "test_accuracy" if (records["task"] == "classification").all() else "test_f1_macro"
