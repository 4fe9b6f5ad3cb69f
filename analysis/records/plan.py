"""The plan of a sweep, from its `sweep.yaml`: axes, adaptive seeds, confidence level."""

from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from analysis.errors import RecordsError
from analysis.names import LEVEL

_AXES = {"objectives": (str,), "rho": (int, float), "nu": (int, float), "pairings": (str,), "seeds": (int,)}


def plan_path(where: Path) -> Path:
    """The sweep.yaml of a folder, or of the folder of a summary.parquet."""
    return (where.parent if where.suffix == ".parquet" else where) / "sweep.yaml"


def read_plan(folder: Path) -> dict[str, Any]:
    """The settings of the last command in a folder, from its `plan_path`; {} if it cannot be read."""
    try:
        plan = yaml.safe_load(plan_path(folder).read_text(encoding="utf-8"))
    except Exception:  # PyYAML raises many types
        return {}
    return plan if isinstance(plan, dict) and _is_valid(plan) else {}


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by dotted name, such as `pretrain.steps`."""
    rows = pd.json_normalize(dict(settings)).to_dict("records")
    return {str(name): value for row in rows for name, value in row.items()}


def added_seeds(plan: Mapping[str, Any]) -> dict[str, list[int]]:
    """The adaptive seeds that `--until` added, by loss or baseline; {} if there are none or they are malformed."""
    grown = plan.get("grown")
    added = grown.get("added") if isinstance(grown, dict) else None
    if not isinstance(added, dict):
        return {}
    return {
        str(name): seeds
        for name, seeds in added.items()
        if isinstance(seeds, list) and seeds and all(isinstance(seed, int) for seed in seeds)
    }


def planned_levels(plan: Mapping[str, Any]) -> list[dict[str, str]]:
    """The combinations of the values, as text, of the settings that a sweep varies; [] if it varies none."""
    axes = plan.get("vary")
    if not isinstance(axes, list) or not all(isinstance(axis, list) and len(axis) > 1 for axis in axes) or not axes:
        return []
    names = [str(axis[0]) for axis in axes]
    return [dict(zip(names, map(str, values), strict=True)) for values in product(*(axis[1:] for axis in axes))]


def _is_valid(plan: Mapping[str, Any]) -> bool:
    """Whether each axis is a list of values of its type."""
    axes = [(plan.get(name) or [], kinds) for name, kinds in _AXES.items()]
    return all(isinstance(axis, list) and all(isinstance(value, kinds) for value in axis) for axis, kinds in axes)


def interval_level(folders: Iterable[Path]) -> float:
    """The confidence level for the records of these folders: the highest of their levels.

    It is `LEVEL`, or higher in folders with adaptive seeds. The level of a summary.parquet is in the sweep.yaml of its
    folder. Raises `RecordsError` for a sweep.yaml with an invalid level.
    """
    return max([LEVEL, *(_level(read_plan(path), plan_path(path)) for path in folders)])


def level_note(level: float) -> str:
    """A note for readers on a raised level; empty if it is `LEVEL`."""
    if level <= LEVEL:
        return ""
    return (
        f"Seeds were added until intervals were narrow enough (--until): intervals have level {100 * level:.4g} %, "
        f"which keeps {100 * LEVEL:g} % coverage; compare p with {1 - level:.3g} instead of {1 - LEVEL:.2g}"
    )


def _level(plan: Mapping[str, Any], path: Path) -> float:
    grown = plan.get("grown") or {}
    level = grown.get("level", LEVEL) if isinstance(grown, dict) else None
    if not isinstance(level, int | float) or not LEVEL <= level < 1:
        raise RecordsError(
            f"{path}: grown.level must be a number from {LEVEL:g} to below 1, because it sets the width "
            "of intervals: restore it from the log of the sweep, or run the command of the sweep again"
        )
    return float(level)
