"""What a Ray worker does: run one cell after another and report; it writes nothing and knows no MLflow."""

import gc
import traceback
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from ray import tune

from datasets.source import Source
from sweep.provenance import library_versions
from trainables.cell import Cell
from trainables.contrastive_probe import run_cell
from trainables.engine import Engine
from trainables.examples import Example
from trainables.imagenet import file_digest
from trainables.pretrain import NonFiniteLossError
from trainables.recipe import Recipe


def train(config: dict[str, Any], *, recipe: Recipe, source: Source, engine: Engine, imagenet: Path | None) -> None:
    """Ray Tune trainable: run the cell `config["cell"]`, report points of its curves, then its row.

    A failure of the cell is reported and not raised, so that Ray's own retries are left to lost workers.
    """
    cell = Cell(**config["cell"])
    torch.set_num_threads(engine.threads)
    torch.use_deterministic_algorithms(engine.deterministic)
    torch.backends.cudnn.benchmark = not engine.deterministic
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    curves: list[tuple[str, int, str, float]] = []
    shown: list[Example] = []

    def report(stage: str, step: int, values: dict[str, float]) -> None:
        points = [(stage, step, name, value) for name, value in values.items()]
        curves.extend(points)
        tune.report({"points": points})

    row = {
        **asdict(cell),
        "key": cell.key,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        "precision": engine.precision,
        "layout": engine.layout,
        "compile": engine.compile,
        "threads": engine.threads,
        "weights": f"{imagenet.name} {file_digest(imagenet)}" if imagenet and cell.objective == "imagenet" else None,
        "versions": library_versions(),
        "started": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    try:
        metrics = run_cell(
            cell,
            recipe,
            source,
            device=device,
            report=report,
            engine=engine,
            imagenet=imagenet,
            show=shown.extend,
        )
        # Plain arrays: the driver knows no torch, and would import it with their class.
        examples = [vars(one) for one in shown]
        tune.report({"row": {**row, **metrics, "status": "done"}, "curves": curves, "examples": examples})
    except NonFiniteLossError as error:
        # The same seed diverges again: recorded as failed, so that the same command does not try for ever.
        row |= {"status": "failed", "error": str(error)}
        tune.report({"row": row, "curves": curves, "examples": []})
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        tune.report({"error": reason, "traceback": traceback.format_exc(), "did_not_fit": out_of_memory(error)})
    finally:
        # The worker is used again: what this cell held must not add to what the next one needs.
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def out_of_memory(error: Exception) -> bool:
    """Whether this is a lack of memory, of the GPU or the host: such a cell may fit when it runs alone."""
    # Only some have a class of their own: the host's, cuBLAS's and cuDNN's are told by their text.
    signs = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in signs)
