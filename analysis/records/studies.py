"""Studies: records that may be compared, because they have the same recipe and the same data.

The folder of a sweep holds one study. Records of several folders may hold several studies, even of one data set. Each
study has its own verdicts, figures and tables.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.names import LEVEL
from analysis.records.schema import varied_settings

Settings = tuple[tuple[str, float | str], ...]

#: The columns that identify a study: records with equal values in them (null is a value) may be compared. If a sweep
#: varies settings, a study has further recipes: see `studies`.
STUDY = ["dataset", "source", "recipe", "data"]


#: Column and name of the score of each task that has one of its own; macro F1 is that of all others.
SCORES = {"classification": ("test_accuracy", "accuracy"), "change": ("test_f1_changed", "F1 of change")}

#: What a probe predicts that the paper's does not, by the column `task`.
_OTHER_TASKS = {
    "change": "what changed between the two images of a pair",
    "classes_from_pair": "classes from both images of a pair",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """The records of one recipe on one set of data, and what they share."""

    title: str
    """Its heading, unique among the studies of the same records."""
    dataset: str
    recipe: str
    settings: Settings = ()
    """The settings that the sweep varies, with their values in this study."""
    varied: tuple[str, ...] = ()
    """Names of settings with several values among `records`: see `with_interactions`. Empty for other studies."""
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
    def split(self) -> str:
        """The images that its scores are of, `test` or `ood`."""
        return str(dict(self.settings).get("probe.split", "test"))

    @property
    def score(self) -> str:
        """The name of the score in axes and headings."""
        return f"{self.split} {score_name(self.metric)}"

    @property
    def other_task(self) -> str:
        """What its probe predicts, if that is not what the paper's does (classes from one image); else empty."""
        tasks = self.records["task"].dropna().unique()
        return " or ".join(_OTHER_TASKS[task] for task in tasks if task in _OTHER_TASKS)

    @property
    def seeds(self) -> int:
        """Number of seeds with a done cell."""
        return int(self.records.loc[self.records["status"] == "done", "seed"].nunique())

    @property
    def about(self) -> str:
        """What verdicts on this study are about: data, seeds and budget; and what its intervals do not cover."""
        seeds = f"{self.seeds} seed{'' if self.seeds == 1 else 's'}"
        steps = sorted(self.records["pretrain_steps"].dropna().unique()) if "pretrain_steps" in self.records else []
        budget = [f"{' and '.join(f'{number:,.0f}' for number in steps)} steps of pretraining"] if steps else []
        others = "textures" if self.dataset == "vts" else "images"
        facts = ", ".join([_data_text(self), seeds, *budget])
        return f"These verdicts are about {facts}. An interval over seeds says nothing about other {others}."


def studies(records: pd.DataFrame, *, level: float = LEVEL) -> list[Study]:
    """The studies among `records` (as from `read_records`), sorted by `STUDY`; `level` is that of intervals.

    If a sweep varies settings, each combination of their values is a study. Cells of objectives that do not use a
    setting are in the studies of all its values.
    """
    return [study for study in with_interactions(records, level=level) if not study.varied]


def with_interactions(records: pd.DataFrame, *, level: float = LEVEL) -> list[Study]:
    """The studies and, before those of a sweep that varies settings, a study of all its levels (see `Study.varied`).

    Cells of several levels may not be compared one by one, so a study of all levels is only for
    `analysis.stats.interaction` and `analysis.stats.assignments`.
    """
    varies = records["base"].notna() if "base" in records else False
    # The cells of a sweep that varies nothing are not a level of one that does, even if the recipe is the same.
    by = records[STUDY].assign(recipe=base_recipe(records)).fillna("").assign(varies=varies)
    # Where the data vary, each level has data of its own.
    own = [name for name in varied_settings(records.columns) if name.startswith("data.")]
    by.loc[records[own].notna().any(axis=1), ["source", "data"]] = ""
    number = by.groupby([*STUDY, "varies"]).ngroup().to_numpy()
    order = np.argsort(number, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(number[order])) + 1) if len(order) else []
    parts = [part for rows in groups for part in _parts(records.take(rows).reset_index(drop=True))]
    return [_study(part, title, level) for part, title in zip(parts, _titles(parts), strict=True)]


def _data_text(study: Study) -> str:
    """The data in words; for VTS which textures are the classes and which the noise."""
    given = re.fullmatch(r"(.+) \((.+)\)", study.source)
    names = given[2].split(", ") if given else []
    if study.dataset != "vts" or given is None or len(names) not in (3, 4):
        return study.source or "data that are not named"
    irrelevant = f"; irrelevant noise {names[3]}" if (study.records["pairing"] == "irrelevant").any() else ""
    unseen = f", and {names[3]} in its place in the test" if study.split == "ood" else ""
    return f"scenes of {given[1]} (classes {names[0]} and {names[1]}; noise {names[2]}{irrelevant}{unseen})"


def _other_task(records: pd.DataFrame) -> str:
    """The task of all these records, if it is not one of the paper's; else empty."""
    tasks = records["task"].dropna().unique()
    return str(tasks[0]) if len(tasks) == 1 and tasks[0] in _OTHER_TASKS else ""


def settings_text(settings: Settings) -> str:
    """Varied settings with their values, such as `pretrain.steps 960`."""
    return ", ".join(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in settings)


def base_recipe(records: pd.DataFrame) -> pd.Series:
    """The recipe of each record's sweep, before it varies settings."""
    return records["base"].fillna(records["recipe"]) if "base" in records else records["recipe"]


class _Part(NamedTuple):
    records: pd.DataFrame
    settings: Settings = ()
    varied: tuple[str, ...] = ()


def _parts(records: pd.DataFrame) -> list[_Part]:
    """The records at each combination of the values of varied settings; before them all of them, if there are two."""
    values = {name: records[name].dropna().unique() for name in varied_settings(records.columns)}
    axes = [[(name, value) for value in sorted(found)] for name, found in values.items() if len(found)]
    levels = []
    for settings in product(*axes):
        part = records
        for name, value in settings:
            part = part[(part[name] == value) | part[name].isna()]
        if len(part):
            levels.append(_Part(part.reset_index(drop=True), settings))
    varied = tuple(name for name, found in values.items() if len(found) > 1)
    return [_Part(records, varied=varied), *levels] if varied else levels


def _study(part: _Part, title: str, level: float) -> Study:
    records = part.records
    # The cells that use the most settings have the recipe of the whole level.
    specific = records[varied_settings(records.columns)].notna().sum(axis=1).argmax()
    dataset, source, recipe = (str(records[name].fillna("").iloc[specific]) for name in STUDY[:3])
    return Study(
        title=title,
        dataset=dataset,
        recipe=str(records["base"].iloc[0]) if part.varied else recipe,
        settings=part.settings,
        varied=part.varied,
        source=source,
        metric=headline(records),
        records=records,
        level=level,
    )


def _titles(parts: Sequence[_Part]) -> list[str]:
    """Data set, source and varied settings; also recipe and data if titles would otherwise be equal."""
    heads = [part.records[STUDY].astype(object).where(part.records[STUDY].notna(), None).iloc[0] for part in parts]
    plain = [not part.settings and not part.varied for part in parts]
    names = []
    for head, part in zip(heads, parts, strict=True):
        one = head.source and part.records["source"].nunique() == 1  # where the data vary, levels have several
        name = f"{head.dataset} on {head.source}" if one else str(head.dataset)
        by = f" by {' and '.join(part.varied)}" if part.varied else ""
        task = "" if "probe.target" in dict(part.settings) else _other_task(part.records)
        names.append(", ".join(filter(None, (name + by, task, settings_text(part.settings)))))
    several = len({head.recipe for head, alone in zip(heads, plain, strict=True) if alone}) > 1
    count = Counter(names)
    names = [
        f"{name}, recipe {head.recipe}" if (several if alone else count[name] > 1) else name
        for name, head, alone in zip(names, heads, plain, strict=True)
    ]
    count = Counter(names)
    return [
        f"{name}, data {head['data'] or 'not recorded'}" if count[name] > 1 else name
        for name, head in zip(names, heads, strict=True)
    ]


def headline(records: pd.DataFrame) -> str:
    """The score in tables: accuracy for classification, F1 of what changed for change detection, else macro F1."""
    # Older records have null in this column, and were all segmentation.
    found = [metric for task, (metric, _) in SCORES.items() if (records["task"] == task).all()]
    return found[0] if found else "test_f1_macro"


def score_name(metric: str) -> str:
    """What a score of `headline` is called."""
    return dict(SCORES.values()).get(metric, "macro F1")
