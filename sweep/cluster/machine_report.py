"""Functions that run on a machine, in a process of Ray or in ours, and report its hardware, software and disks."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from datasets.allocation import RAY_WORKER, allocation
from datasets.files import cache_folder
from sweep.cluster.provenance import LIBRARIES, commit, library_version, processor, project_version

_LIST_GPUS = """
import json, torch
gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
print(json.dumps([[gpu.name, gpu.total_memory] for gpu in gpus]))
"""


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What a machine reports in addition to the usual facts."""

    folders: Mapping[str, str] = field(default_factory=dict)
    """Purpose -> folder; the free space of its disk is reported. The folder need not exist."""
    paths: tuple[str, ...] = ()
    """Files and folders that the machine must be able to read."""
    gpus: bool = False
    """Whether torch lists the GPUs, which takes seconds."""


@dataclass(frozen=True, kw_only=True)
class MachineReport:
    """The facts that a machine reports."""

    python: str
    project: str
    """Our version."""
    commit: str
    libraries: dict[str, str]
    """Name -> version of the libraries that affect results; `absent` if not installed."""
    datasets: str
    """Folder of the package `datasets` that the machine imports."""
    ours: str
    """Folder of our package `datasets`."""
    processor: str
    cores: int
    """Cores that processes may use."""
    memory: int
    """Bytes that processes may use."""
    gpus: tuple[tuple[str, int], ...]
    """Name and bytes of each GPU that torch can use; empty if not requested."""
    gpu_fault: str
    """Why torch cannot list the GPUs; empty if it can."""
    disks: dict[str, tuple[str, int]]
    """Purpose -> folder, free bytes on its disk."""
    unreadable: tuple[str, ...]
    """The requested paths that the machine cannot read."""
    limits: str = ""
    """What limits the use of the machine, as text; empty if nothing does."""


def report_machine(request: ReportRequest) -> MachineReport:
    """Report the facts of this machine."""
    import datasets

    usable = allocation()
    gpus, gpu_fault = _list_gpus() if request.gpus else ((), "")
    folders = {**request.folders, "temporary files": tempfile.gettempdir(), "the cache": str(cache_folder())}
    return MachineReport(
        python=platform.python_version(),
        project=project_version(),
        commit=commit(),
        libraries={name: library_version(name) for name in LIBRARIES},
        datasets=str(Path(datasets.__file__ or "").resolve().parent),
        ours=str(Path(__file__).resolve().parents[2] / "datasets"),
        processor=processor(),
        cores=usable.cores.amount,
        memory=usable.memory.amount,
        gpus=gpus,
        gpu_fault=gpu_fault,
        disks={name: (folder, shutil.disk_usage(_nearest(folder)).free) for name, folder in folders.items()},
        unreadable=tuple(path for path in request.paths if not os.access(path, os.R_OK)),
        limits=usable.limits,
    )


def clock() -> float:
    """Seconds since the epoch, by the clock of this machine."""
    return time.time()


def write_test_file(folder: str, token: str) -> tuple[str, str]:
    """Write a small file into a folder, or into its nearest existing parent.

    Returns:
        The file, and why it could not be written; empty text if it was.
    """
    file = _nearest(folder) / f".doctor-{token}-{uuid.uuid4().hex[:8]}"
    try:
        file.write_text(token)
    except OSError as error:
        return str(file), error.strerror or str(error)
    return str(file), ""


def missing_files(files: list[str]) -> list[str]:
    """The files that do not exist, as seen from this machine."""
    return [file for file in files if not os.path.exists(file)]


def remove_test_files(folder: str, token: str) -> None:
    """Remove the files of `write_test_file`."""
    for file in _nearest(folder).glob(f".doctor-{token}-*"):
        file.unlink(missing_ok=True)


def try_object_store(uri: str, name: str) -> str:
    """Write an object below a URI, read it and delete it; returns the problem, or empty text."""
    from analysis.records.remote import open_store

    try:
        store, root = open_store(uri)
        path = f"{root}/{name}"
        with store.open_output_stream(path) as stream:
            stream.write(name.encode())
        with store.open_input_stream(path) as stream:
            same = stream.read() == name.encode()
        store.delete_file(path)
    except (ValueError, OSError) as error:  # RecordsError is a ValueError
        return " ".join(str(error).split())[:200] or type(error).__name__
    return "" if same else "an object reads back different from what was written"


def _nearest(folder: str) -> Path:
    """The folder, or its nearest existing parent."""
    path = Path(folder).absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def _list_gpus() -> tuple[tuple[tuple[str, int], ...], str]:
    """Let torch list the GPUs in a process of its own, which frees the GPU's memory when it ends.

    Ray hides GPUs from tasks that do not ask for them, so in its workers the variable that hides them is removed.

    Returns:
        Name and bytes of each GPU, and why torch cannot list them; empty text if it can.
    """
    by_ray = RAY_WORKER in os.environ and not os.environ.get("CUDA_VISIBLE_DEVICES")
    hidden = ("CUDA_VISIBLE_DEVICES",) if by_ray else ()
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", _LIST_GPUS]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
        return tuple((str(name), int(size)) for name, size in json.loads(done.stdout.splitlines()[-1])), ""
    except subprocess.CalledProcessError as error:
        return (), (error.stderr.strip().splitlines() or ["torch ended without a message"])[-1][:200]
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return (), f"torch gave no answer ({type(error).__name__})"
