"""The encoders that a sweep has kept, as the cells of a probe need them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors

from analysis.records.io import read_records, recorded_keys
from datasets.errors import InputError, one_line
from sweep.config.sweep import Sweep
from sweep.storage.run_dir import RunDir
from trainables.cell import Cell
from trainables.cell_job import KeptEncoders
from trainables.recipe import Encoder

COLUMNS = (
    "pretrain_loss",
    "pretrain_val_loss",
    "pretrain_plateau",
    "pretrain_floor",
    "collapsed",
    "feature_std",
    "feature_rank",
    "pretrain_best_step",
    "pretrain_steps",
    "noisy_pairs",
    "noise_pixels",
    "nu_measured",
    "weights",
)
"""The columns of a record that describe the encoder. A cell that probes it has the same."""


def kept_encoders(sweep: Sweep) -> dict[str, KeptEncoders]:
    """Fingerprint of each recipe of a probe -> the encoders of its cells.

    Raises:
        InputError: the folder has no kept encoders, or they belong to another recipe.
    """
    if sweep.encoders is None:
        return {}
    run_dir = RunDir(sweep.encoders)
    folder = run_dir.encoder("").parent
    files = {path.stem for path in folder.glob("*.safetensors")}
    if not files:
        raise InputError(
            f"{run_dir.name} has no kept encoders: run its sweep with --keep encoders (cells that are recorded do not "
            "run again, so choose another --out)"
        )
    columns = {key: one for key, one in _columns(run_dir).items() if key in files}
    found = {
        recipe: KeptEncoders(
            folder=folder.resolve(),
            recipe=replace(settings, probe=sweep.recipe.probe).fingerprint,
            columns=columns,
        )
        for recipe, settings in sweep.recipes.items()
    }
    usable = {found[cell.recipe].path(cell) for cell in sweep.cells() if found[cell.recipe].key(cell) in columns}
    if not usable:
        raise InputError(
            f"{folder} holds encoders of another recipe: none of its {len(files)} files belongs to a recorded cell of "
            f"{run_dir.config}"
        )
    for path in sorted(usable):
        _check_file(path, [settings.encoder for settings in sweep.recipes.values()])
    return found


def without_encoder(cells: Sequence[Cell], kept: Mapping[str, KeptEncoders]) -> dict[str, str]:
    """Key -> why it cannot run, for each cell of a probe whose encoder was not kept."""
    return {
        cell.key: f"{kept[cell.recipe].folder} has no encoder of its cell, or that cell is not recorded as done"
        for cell in cells
        if cell.recipe in kept and kept[cell.recipe].key(cell) not in kept[cell.recipe].columns
    }


def by_encoder(cells: Sequence[Cell], kept: Mapping[str, KeptEncoders], at_once: int = 1) -> list[Cell]:
    """The cells in an order in which a worker gets those of one encoder after each other: it encodes images once.

    Cells of `at_once` encoders take turns. A worker that ends with one cell thus mostly goes on with the same encoder.
    """
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(kept[cell.recipe].key(cell) if kept else cell.key, []).append(cell)
    waiting = list(groups.values())
    rounds = (zip_longest(*waiting[first : first + at_once]) for first in range(0, len(waiting), at_once))
    return [cell for turns in rounds for turn in turns for cell in turn if cell]


def _columns(run_dir: RunDir) -> dict[str, dict[str, Any]]:
    """Key -> values of `COLUMNS`, for each cell that is recorded as done."""
    if not recorded_keys(run_dir.root).status:
        return {}
    records = read_records(run_dir.root)
    done = records[records["status"] == "done"].set_index("key")[list(COLUMNS)].astype(object)
    rows = done.where(done.notna(), None).to_dict("index")
    return {str(key): {str(name): _plain(value) for name, value in row.items()} for key, row in rows.items()}


def _plain(value: Any) -> Any:
    """A value of pandas as one of Python, which every process reads."""
    return None if value is None or value is pd.NA else value.item() if hasattr(value, "item") else value


def _check_file(path: Path, encoders: Sequence[Encoder]) -> None:
    """Check the head of a file of weights.

    Raises:
        InputError: it cannot be read, or is of none of these encoders.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            encoder = json.loads((file.metadata() or {}).get("encoder", "null"))
    except (OSError, safetensors.SafetensorError, ValueError) as error:
        raise InputError(f"{path}: is not a kept encoder ({one_line(error, most=120)}): remove it") from error
    known = [json.loads(json.dumps(asdict(one))) for one in encoders]
    if encoder not in known:
        raise InputError(f"{path}: was kept by a sweep with other encoder settings: remove it, or restore the file")
