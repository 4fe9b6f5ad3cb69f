"""The work of a worker, with Ray or without: it runs one cell after another, writes checkpoints and reports."""

import gc
import json
import shutil
import time
import traceback
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, replace
from typing import Any

import torch

from analysis.records.schema import Record
from sweep.cluster.provenance import library_versions, project_version
from sweep.storage.checkpoint_sync import StopFlag, StoreMirror
from sweep.storage.object_store import StoreError
from sweep.tune.job import WorkerJob
from sweep.tune.reporter import Reporter, SendReport
from sweep.tune.retries import DIVERGED, ERROR, LOST, MEMORY, bare_record
from trainables.cell import Cell
from trainables.cell_job import CellJob, SharedFeatures
from trainables.checkpoints import Checkpoints, StoppedError
from trainables.device import LostGpuError, out_of_memory, prepare_device, still_works
from trainables.examples import Example
from trainables.objective_names import objective_info
from trainables.pretrain import NonFiniteLossError
from trainables.run_cell import run_cell
from trainables.weights_file import digest_of, file_digest, weights_path

INTERVAL = 0.5
"""Seconds between two looks for the request to stop."""


def train(
    coordinates: Mapping[str, Any],
    job: WorkerJob,
    report: SendReport,
    *,
    needs_gpu: bool = False,
    features: SharedFeatures | None = None,
) -> None:
    """Run the cell of these coordinates; report points of its curves, then its record.

    An error of the cell is reported instead of raised, because Ray's own retries are for lost workers.

    Args:
        coordinates: of the cell.
        job: what all cells have in common.
        report: sends a report to the driver.
        needs_gpu: whether the cell must run on a GPU.
        features: of the kept encoder that this process probed last.

    Raises:
        NoGpuError, LostGpuError: this process can run no cell. The cell goes on elsewhere.
    """
    with Reporter(report) as reporter:
        _train(coordinates, job, reporter, needs_gpu, features)


def _train(
    coordinates: Mapping[str, Any], job: WorkerJob, report: Reporter, needs_gpu: bool, features: SharedFeatures | None
) -> None:
    """See `train`."""
    stop = StopFlag(job.run_dir)
    if stop.now():
        report({"stopped": True})
        return
    cell = Cell(**coordinates)
    cell_job = replace(job.cell_jobs[cell.recipe], features=features)
    device = prepare_device(cell_job.engine, needs_gpu=needs_gpu)
    curves: list[tuple[str, int, str, float]] = []
    examples: list[Example] = []

    def report_points(stage: str, step: int, values: dict[str, float]) -> None:
        points = [(stage, step, name, value) for name, value in values.items()]
        curves.extend(points)
        report({"points": points})

    record = _record(cell, cell_job, device)
    try:
        # Closed before the last report, after which the driver removes the checkpoints.
        with closing(stop), closing(_checkpoints(record, job, device, _Pulse(job, stop, report))) as checkpoints:
            metrics = run_cell(
                cell,
                cell_job,
                device,
                report=report_points,
                checkpoints=checkpoints,
                take_examples=examples.extend,
                export_to=job.run_dir.encoder(cell.key) if "encoders" in job.keep else None,
            )
        _upload(cell.key, job)
        # Plain arrays, because the class of the examples would make the driver import torch.
        plain = [vars(example) for example in examples]
        report({"record": record.with_values({**metrics, "status": "done"}), "curves": curves, "examples": plain})
    except StoppedError:
        report({"stopped": True})
    except NonFiniteLossError as error:
        # The same seed would diverge again. Recorded as failed, the cell does not run again by the same command.
        report({"error": str(error), "kind": DIVERGED, "traceback": "", "record": record, "curves": curves})
    except StoreError as error:
        # Not the cell's fault, so it is not recorded.
        report({"error": str(error), "kind": LOST, "traceback": "", "record": record, "curves": curves})
    except Exception as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        if not still_works(device):
            raise LostGpuError(f"{reason}; the GPU no longer works in this process") from error
        kind = MEMORY if out_of_memory(error) else ERROR
        trace = traceback.format_exc()
        report({"error": reason, "kind": kind, "traceback": trace, "record": record, "curves": curves})
    finally:
        # The worker runs further cells: the memory of this one must not add to theirs.
        gc.collect()
        if device.type == "cuda" and still_works(device):
            torch.cuda.empty_cache()


def _record(cell: Cell, job: CellJob, device: torch.device) -> Record:
    """The record of the cell, with the columns that are known before it runs."""
    engine = job.engine
    return replace(
        bare_record(cell),
        device=torch.cuda.get_device_name() if device.type == "cuda" else "cpu",
        precision=engine.precision,
        layout=engine.layout,
        compile=engine.compile,
        threads=engine.threads,
        weights=_weights(cell, job),
        versions=library_versions(),
    )


def _weights(cell: Cell, job: CellJob) -> str | None:
    """Name and digest of the weights file that the cell starts from; None without one."""
    if cell.objective == "imagenet":
        return f"{job.imagenet.name} {file_digest(job.imagenet)}" if job.imagenet else None
    weights = job.recipe.encoder.weights
    path = weights_path(weights) if objective_info(cell.objective).takes_weights else None
    return f"{path.name} {digest_of(weights)}" if path else None


def _checkpoints(record: Record, job: WorkerJob, device: torch.device, pulse: "_Pulse") -> Checkpoints:
    """The cell's checkpoints. Those of other data or of another engine are ignored."""
    cell_job = job.cell_jobs[record.recipe]
    identity = {
        "cell": record.key,
        "data": cell_job.source.fingerprint,
        "engine": asdict(cell_job.engine),
        "device": device.type,
        "weights": str(record.weights),
        "torch": torch.__version__,
        "noisy-pairs": project_version(),
    }
    folder, store = job.run_dir.cell_checkpoints(record.key), job.run_dir.store
    return Checkpoints(
        folder,
        json.dumps(identity),
        every=job.checkpoint_every,
        heartbeat=pulse,
        notify=lambda line: pulse.report({"warning": line}),
        mirror=StoreMirror(store, folder) if store.uri else None,
    )


def _upload(key: str, job: WorkerJob) -> None:
    """At an address: send the cell's encoder, and remove the cell's files from this machine.

    Raises:
        StoreError: the encoder could not be sent.
    """
    run_dir = job.run_dir
    if not run_dir.uri:
        return
    if "encoders" in job.keep:
        run_dir.send(run_dir.encoder(key))
        run_dir.encoder(key).unlink()
    shutil.rmtree(run_dir.cell_checkpoints(key), ignore_errors=True)


class _Pulse:
    """Called in every step: reports at intervals that the cell goes on, and returns whether it must stop.

    Only a step gives a sign of life, so that the driver notices a cell that hangs.
    """

    def __init__(self, job: WorkerJob, stop: StopFlag, report: Reporter) -> None:
        self._interval, self._stop, self.report = job.sign_of_life, stop, report
        self._looked = self._reported = time.monotonic()

    def __call__(self) -> bool:
        now = time.monotonic()
        if now - self._looked < min(INTERVAL, self._interval):  # a shared disk may answer slowly
            return False
        self._looked = now
        self.report.check()
        if now - self._reported >= self._interval and self.report.idle:  # else the driver has not read the last one
            self._reported = now
            self.report({"alive": True})
        return self._stop()
