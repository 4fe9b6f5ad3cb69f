"""What a Ray worker does: run one cell after another and report; it writes checkpoints alone and knows no MLflow."""

import gc
import json
import shutil
import time
import traceback
from contextlib import closing
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from ray import tune

from datasets.source import Source
from sweep.provenance import library_versions, project_version
from sweep.storage.cell_files import Keeping
from sweep.storage.checkpoint_sync import StopSeen, StoreMirror
from sweep.storage.object_store import StoreError
from sweep.tune.retries import DIVERGED, ERROR, LOST, MEMORY
from trainables.cell import Cell
from trainables.cell_job import CellJob
from trainables.checkpoints import Checkpoints, StoppedError
from trainables.engine import Engine
from trainables.examples import Example
from trainables.models.imagenet import file_digest
from trainables.pretrain import NonFiniteLossError
from trainables.recipe import Recipe
from trainables.run_cell import run_cell

LOOK = 0.5
"""Seconds between two looks for the request to stop."""


def train(
    config: dict[str, Any],
    *,
    recipe: Recipe,
    source: Source,
    engine: Engine,
    imagenet: Path | None,
    keeping: Keeping,
) -> None:
    """Ray Tune trainable: run the cell `config["cell"]`, report points of its curves, then its row.

    A failure of the cell is reported and not raised, so that Ray's own retries are left to lost workers.
    """
    stop = StopSeen(keeping)
    if stop.now():
        tune.report({"stopped": True})
        return
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
        # Closed before anything is reported: the driver then takes the checkpoints away.
        given = cell, source, engine, device, str(row["weights"]), keeping, stop
        with closing(stop), closing(_checkpoints(*given)) as checkpoints:
            metrics = run_cell(
                cell,
                CellJob(recipe=recipe, source=source, engine=engine, imagenet=imagenet),
                device,
                report=report,
                checkpoints=checkpoints,
                take_examples=shown.extend,
                export_to=keeping.encoder(cell.key),
            )
        _send(keeping, cell.key)
        # Plain arrays: the driver knows no torch, and would import it with their class.
        examples = [vars(one) for one in shown]
        tune.report({"row": {**row, **metrics, "status": "done"}, "curves": curves, "examples": examples})
    except StoppedError:
        tune.report({"stopped": True})
    except NonFiniteLossError as error:
        # The same seed diverges again: recorded as failed, so that the same command does not try for ever.
        tune.report({"error": str(error), "kind": DIVERGED, "traceback": "", "row": row, "curves": curves})
    except StoreError as error:
        # The machine's or the store's fault: it is not recorded.
        tune.report({"error": str(error), "kind": LOST, "traceback": "", "row": row, "curves": curves})
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        kind = MEMORY if out_of_memory(error) else ERROR
        trace = traceback.format_exc()
        tune.report({"error": reason, "kind": kind, "traceback": trace, "row": row, "curves": curves})
    finally:
        # The worker is used again: what this cell held must not add to what the next one needs.
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _checkpoints(
    cell: Cell,
    source: Source,
    engine: Engine,
    device: torch.device,
    weights: str,
    keeping: Keeping,
    stop: StopSeen,
) -> Checkpoints:
    """The cell's checkpoints; one that was made on other data or by another engine is not gone on from."""
    identity = {
        "cell": cell.key,
        "data": source.fingerprint,
        "engine": asdict(engine),
        "device": device.type,
        "weights": weights,
        "torch": torch.__version__,
        "noisy-pairs": project_version(),
    }
    return Checkpoints(
        keeping.of(cell.key),
        json.dumps(identity),
        every=keeping.every,
        heartbeat=_Pulse(keeping, stop),
        notify=lambda line: tune.report({"said": line}),
        mirror=StoreMirror(keeping.store, keeping.of(cell.key)) if keeping.remote else None,
    )


def _send(keeping: Keeping, key: str) -> None:
    """Of a sweep at an address: send the cell's encoder, and leave nothing of the cell on this machine.

    Raises:
        StoreError: it could not be sent.
    """
    if not keeping.remote:
        return
    if path := keeping.encoder(key):
        keeping.store.push(path)
        path.unlink()
    shutil.rmtree(keeping.of(key), ignore_errors=True)


class _Pulse:
    """Called in every step: a sign of life now and then, and whether the cell is to stop."""

    def __init__(self, keeping: Keeping, stop: StopSeen) -> None:
        self._keeping, self._stop = keeping, stop
        self._looked = self._told = time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self._looked < min(LOOK, self._keeping.alive):  # a shared disk may take a while to answer
            return False
        self._looked = now
        if now - self._told >= self._keeping.alive:
            self._told = now
            tune.report({"alive": True})
        return self._stop()


def out_of_memory(error: Exception) -> bool:
    """Whether this is a lack of memory, of the GPU or the host: such a cell may fit when it runs alone."""
    # Only some have a class of their own: the host's, cuBLAS's and cuDNN's are told by their text.
    signs = ("out of memory", "can't allocate memory", "ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(sign in str(error) for sign in signs)
