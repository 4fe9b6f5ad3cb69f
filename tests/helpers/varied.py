"""Records of a sweep that varies settings, made up."""

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from analysis.records import parquet
from analysis.records.schema import schema
from tests.analysis.conftest import CLASSES, made_up

STEPS, TEMPERATURE = "pretrain.steps", "dense.temperature"


def at(objective: str, settings: Mapping[str, Any], *where: Any, **changes: Any) -> dict[str, Any]:
    """A row at a level; `where` is as in `made_up`. Null settings are those that the objective does not use."""
    used = tuple((name, value) for name, value in settings.items() if value is not None)
    recipe = hashlib.sha256(repr((used, objective.partition("_")[0])).encode()).hexdigest()[:8]
    return made_up(objective, *where, base="ba5e", recipe=recipe, **settings, **changes)


def sweep(
    steps: Sequence[Any] = (2.0, 8.0, 32.0), temperatures: Sequence[float] = (0.07, 0.2), *, seeds: int = 2
) -> list[dict[str, Any]]:
    """Steps x temperatures. Noisy pairs gain a point per step beyond the first, MoCo uses no temperature."""
    rows = []
    for seed in range(seeds):
        rows.append(at("random", {STEPS: None, TEMPERATURE: None}, 0.0, 0.0, "none", seed, 0.4))
        for (index, step), heat in itertools.product(enumerate(steps), (None, *temperatures)):
            loss = "moco" if heat is None else "within_image"
            settings = {STEPS: step, TEMPERATURE: heat}
            rows.append(at(loss, settings, 0.0, 0.0, "none", seed, 0.5))
            for nu, (pairing, gain) in itertools.product((0.5, 1.0), (("noisy", 0.01 * index), ("exposure", -0.02))):
                rows.append(at(loss, settings, 1.0, nu, pairing, seed, 0.5 + 0.01 * seed + gain - 0.2 * (nu == 1)))
    return rows


def write(folder: Path, rows: Sequence[Mapping[str, Any]], *names: str) -> Path:
    """Write the rows, in which these settings vary, as summary.parquet."""
    kinds = {name: str if any(isinstance(row.get(name), str) for row in rows) else float for name in names}
    return parquet.write(folder / "summary.parquet", pa.Table.from_pylist(list(rows), schema(CLASSES, kinds)))
