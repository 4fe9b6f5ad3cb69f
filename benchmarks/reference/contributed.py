"""`python -m benchmarks.reference.contributed FOLDER...`: whether published sweeps can go to docs/results/contributed.

Such a folder is as `python -m analysis.publish` writes it. It must be whole and readable, and agree with itself: every
record with sweep.yaml, every file with the metadata.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from analysis.cli import local_path
from analysis.errors import RecordsError
from analysis.names import in_order
from analysis.publish.croissant import CROISSANT, described_files, sha256
from analysis.publish.private import free_text, told_places
from analysis.records.io import SUMMARY, column_types, read_records
from analysis.records.schema import described_columns
from analysis.records.studies import studies
from analysis.text import first_few
from benchmarks.reference.verdicts import Judged, verdicts
from datasets.errors import InputError
from sweep.config.sweep import Sweep
from sweep.config.yaml_io import from_yaml
from trainables.cell import Cell

#: The fewest seeds of each loss.
SEEDS = 3

_NEEDED = ("README.md", CROISSANT, SUMMARY, "sweep.yaml")
_NOT_NEGATIVE = ("s", "steps", "images/s", "threads")
_SHOWN = 3

_HEAD = """# Contributed results

Sweeps that others have run, side by side. The order is that of their names: nothing is ranked, because they differ in
more than one setting. Each folder says what was run, by which commit, and what it is not.

To add one: a sweep with three seeds or more, from a commit without changes;

```
python -m analysis.publish results/NAME --out docs/results/contributed/NAME --creator "YOU"
python -m benchmarks.reference.contributed docs/results/contributed/NAME
python -m benchmarks.reference --pages
```

The second command checks the columns and ranges of the records, their seeds and commit, that each is of a cell with a
recipe of sweep.yaml, that the files are those that croissant.json describes, and that no path of your machine is told.
The third writes this page. Tests do both. [docs/sharing.md](../../sharing.md) says more.
"""


def problems(folder: Path) -> list[str]:
    """What prevents a folder from being shown; [] if nothing does."""
    absent = [name for name in _NEEDED if not (folder / name).is_file()]
    if absent:
        return [f"{', '.join(absent)} missing: write the folder with `python -m analysis.publish`"]
    try:
        records = read_records(folder / SUMMARY)
        sweep = from_yaml(folder / "sweep.yaml")
    except (RecordsError, InputError) as error:
        return [str(error)]
    return [
        *_wrong_files(folder),
        *_wrong_ranges(records),
        *_few_seeds(records),
        *_unknown_code(records),
        *_foreign_cells(records, sweep),
        *_told(folder, records),
    ]


def contributed_page(sweeps: Sequence[Judged]) -> str:
    """docs/results/contributed/README.md."""
    if not sweeps:
        return f"{_HEAD}\nNothing has been contributed yet.\n"
    lines = [
        "| sweep | data | losses and baselines | score | seeds | steps | commit |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in sweeps:
        records = one.study.records
        columns = [
            f"[{one.folder.name}]({one.folder.name}/README.md){f', {one.level}' * bool(one.level)}",
            f"{one.study.dataset}: {one.study.source}",
            ", ".join(in_order(records["objective"])),
            one.study.score,
            str(one.study.seeds),
            ", ".join(f"{steps:,}" for steps in sorted(records["pretrain_steps"].dropna().unique())),
            ", ".join(sorted({str(commit)[:7] for commit in records["commit"].dropna()})),
        ]
        lines.append(f"| {' | '.join(columns)} |")
    table = "\n".join(lines)
    return f"{_HEAD}\n{table}\n\nVerdicts on [the paper's sentences](../claims.md):\n\n```\n{verdicts(sweeps)}```\n"


def _wrong_files(folder: Path) -> Iterator[str]:
    try:
        listed = json.loads((folder / CROISSANT).read_text(encoding="utf-8"))["distribution"]
        described = {one["@id"]: one["sha256"] for one in listed}
    except (ValueError, KeyError, TypeError) as error:
        yield f"{CROISSANT} cannot be read ({error!r}): publish the sweep again"
        return
    there = {path.relative_to(folder).as_posix(): sha256(path) for path in described_files(folder)}
    differ = sorted(name for name in {*described, *there} if described.get(name) != there.get(name))
    if differ:
        yield f"{first_few(differ, _SHOWN)} not as {CROISSANT} describes: publish the sweep again instead of editing it"


def _wrong_ranges(records: pd.DataFrame) -> Iterator[str]:
    for column in described_columns(column_types(records)):
        most = 1.0 if column.unit == "0-1" else float("inf") if column.unit in _NOT_NEGATIVE else None
        if most is not None:
            values = records[column.name].astype(float)
            wrong = records.loc[values.notna() & ~values.between(0, most), "key"]
            if len(wrong):
                allowed = "0 to 1" if most == 1 else "0 or more"
                yield f"{column.name} is outside {allowed} in {first_few(wrong, _SHOWN)}"


def _few_seeds(records: pd.DataFrame) -> Iterator[str]:
    for study in studies(records):
        done = study.records[study.records["status"] == "done"]
        seeds = done.groupby("objective")["seed"].nunique().reindex(study.records["objective"].unique(), fill_value=0)
        few = in_order(seeds.index[seeds < SEEDS])
        if few:
            yield f"{study.title}: fewer than {SEEDS} seeds of {', '.join(few)}: run more, as in --seeds 0 1 2"


def _unknown_code(records: pd.DataFrame) -> Iterator[str]:
    commits = records["commit"].fillna("not recorded").unique()
    if wrong := sorted(commit for commit in commits if not re.fullmatch("[0-9a-f]{40}", commit)):
        yield f"the commit is {first_few(wrong, _SHOWN)}: run the sweep from a checkout without changes"


def _foreign_cells(records: pd.DataFrame, sweep: Sweep) -> Iterator[str]:
    """Records whose recipe is not in sweep.yaml, or whose key is not that of their coordinates and recipe."""
    recipes = set(sweep.recipes)
    if unknown := sorted(set(records["recipe"]) - recipes):
        yield (
            f"recipe {first_few(unknown, _SHOWN)} of the records is not that of sweep.yaml, "
            f"{first_few(sorted(recipes), _SHOWN)}: run the sweep with all its axes again (cells are kept), and publish"
        )
    names = ["dataset", "objective", "rho", "nu", "pairing", "seed", "recipe"]
    try:
        keys = [Cell(**dict(zip(names, row, strict=True))).key for row in records[names].itertuples(index=False)]
    except InputError as error:
        yield f"a record is of no cell of this project: {error}"
        return
    if wrong := list(records.loc[records["key"] != keys, "key"]):
        yield f"the key {first_few(wrong, _SHOWN)} is not that of its cell and recipe"


def _told(folder: Path, records: pd.DataFrame) -> Iterator[str]:
    texts = {"the records": " ".join(free_text(records))}
    texts |= {name: (folder / name).read_text(encoding="utf-8") for name in ("README.md", "sweep.yaml", CROISSANT)}
    for name, text in texts.items():
        if places := told_places(text):
            yield f"{name} tells a path of a machine, {first_few(places, _SHOWN)}: publish the sweep again"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the problems of each folder. The exit code is 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reference.contributed", description=__doc__)
    parser.add_argument("folders", nargs="+", type=local_path, metavar="FOLDER", help="as `analysis.publish` writes it")
    found = [(folder, problem) for folder in parser.parse_args(arguments).folders for problem in problems(folder)]
    for folder, problem in found:
        print(f"{folder}: {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
