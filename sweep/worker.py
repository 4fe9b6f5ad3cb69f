"""What a Ray worker does: run one cell after another and report; it writes nothing and knows no MLflow."""

import gc
import os
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import torch
from ray import tune

from datasets.textures import TextureBank
from sweep.provenance import library_versions
from trainables.cell import Cell
from trainables.contrastive_probe import run_cell
from trainables.pretrain import NonFiniteLossError
from trainables.recipe import Recipe


def train(config: dict[str, Any], *, recipe: Recipe, bank: TextureBank, threads: int) -> None:
    """Ray Tune trainable: run the cell `config["cell"]`, report points of its curves, then its row.

    A failure of the cell is reported and not raised, so that Ray's own retries are left to lost workers.
    """
    cell = Cell(**config["cell"])
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    curves: list[tuple[str, int, str, float]] = []

    def report(stage: str, step: int, values: dict[str, float]) -> None:
        points = [(stage, step, name, value) for name, value in values.items()]
        curves.extend(points)
        tune.report({"points": points})

    row = {
        **asdict(cell),
        "key": cell.key,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "precision": recipe.precision,
        "threads": threads,
        "versions": library_versions(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    try:
        metrics = run_cell(cell, recipe, bank, device=device, report=report)
        tune.report({"row": {**row, **metrics, "status": "done"}, "curves": curves})
    except NonFiniteLossError as error:
        # The same seed diverges again: recorded as failed, so that the same command does not try for ever.
        tune.report({"row": {**row, "status": "failed", "error": str(error)}, "curves": curves})
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        tune.report({"error": reason, "traceback": traceback.format_exc()})
    finally:
        # The worker is used again: what this cell held must not add to what the next one needs.
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def environment(threads: int) -> Mapping[str, str]:
    """Variables a worker must start with: libraries size their thread pools when they are loaded."""
    return {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": os.pathsep.join(_import_roots())}


def _import_roots() -> list[str]:
    """Where our packages lie, first of all places: Hugging Face's `datasets` must not come before ours."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
