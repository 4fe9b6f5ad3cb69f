"""Functions that run on a machine, in one of Ray's processes or in ours, and report what it is and can do."""

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
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from datasets.files import cache_folder
from sweep.provenance import LIBRARIES, commit, processor, project_version

_LIST_GPUS = """
import json, torch
gpus = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
print(json.dumps([[gpu.name, gpu.total_memory] for gpu in gpus]))
"""


@dataclass(frozen=True, kw_only=True)
class ReportRequest:
    """What a machine is asked beyond what it always reports."""

    folders: Mapping[str, str] = field(default_factory=dict)
    """Purpose -> folder whose disk's free space is wanted; the folder need not exist."""
    paths: tuple[str, ...] = ()
    """Files and folders that it must be able to read."""
    gpus: bool = False
    """Whether torch is to list the GPUs, which takes seconds."""


@dataclass(frozen=True, kw_only=True)
class MachineReport:
    """What a machine reports of itself."""

    python: str
    project: str
    """Our version."""
    commit: str
    libraries: dict[str, str]
    """Name -> version of what results depend on, `absent` where it is not installed."""
    datasets: str
    """Folder of the package `datasets` that is imported there."""
    ours: str
    """Folder of our package `datasets`."""
    processor: str
    cores: int
    memory: int
    """Bytes, all of it."""
    gpus: tuple[tuple[str, int], ...]
    """Name and bytes of each GPU that torch can use; empty if not asked for."""
    gpu_fault: str
    """Why torch cannot list them, if so."""
    disks: dict[str, tuple[str, int]]
    """Purpose -> folder, free bytes on its disk."""
    unreadable: tuple[str, ...]
    """Those of the requested paths that it cannot read."""


def report_machine(request: ReportRequest) -> MachineReport:
    """Report what this machine is."""
    import datasets

    gpus, gpu_fault = _list_gpus() if request.gpus else ((), "")
    folders = {**request.folders, "temporary files": tempfile.gettempdir(), "the cache": str(cache_folder())}
    return MachineReport(
        python=platform.python_version(),
        project=project_version(),
        commit=commit(),
        libraries={name: _version(name) for name in LIBRARIES},
        datasets=str(Path(datasets.__file__ or "").resolve().parent),
        ours=str(Path(__file__).resolve().parents[2] / "datasets"),
        processor=processor(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpus=gpus,
        gpu_fault=gpu_fault,
        disks={name: (folder, shutil.disk_usage(_nearest(folder)).free) for name, folder in folders.items()},
        unreadable=tuple(path for path in request.paths if not os.access(path, os.R_OK)),
    )


def clock() -> float:
    """Seconds since the epoch, by this machine."""
    return time.time()


def write_test_file(folder: str, token: str) -> tuple[str, str]:
    """Write a small file into a folder, or into the nearest parent that exists.

    Returns:
        The file, and why it could not be written, or nothing.
    """
    file = _nearest(folder) / f".doctor-{token}-{uuid.uuid4().hex[:8]}"
    try:
        file.write_text(token)
    except OSError as error:
        return str(file), error.strerror or str(error)
    return str(file), ""


def missing_files(files: list[str]) -> list[str]:
    """Those of the files that do not exist, as seen from here."""
    return [file for file in files if not os.path.exists(file)]


def remove_test_files(folder: str, token: str) -> None:
    """Remove the files that `write_test_file` has written."""
    for file in _nearest(folder).glob(f".doctor-{token}-*"):
        file.unlink(missing_ok=True)


def try_object_store(uri: str, name: str) -> str:
    """Write an object below a URI, read it, and delete it; returns why that is not possible, or nothing."""
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
    return "" if same else "what is read is not what was written"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _nearest(folder: str) -> Path:
    """The folder, or its nearest parent that exists."""
    path = Path(folder).absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def _list_gpus() -> tuple[tuple[tuple[str, int], ...], str]:
    """Ask torch in a process of its own, which gives the GPU's memory back. Ray hides GPUs from tasks that ask for
    none."""
    hidden = ("CUDA_VISIBLE_DEVICES",) if not os.environ.get("CUDA_VISIBLE_DEVICES") else ()
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", _LIST_GPUS]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
        return tuple((str(name), int(size)) for name, size in json.loads(done.stdout.splitlines()[-1])), ""
    except subprocess.CalledProcessError as error:
        return (), (error.stderr.strip().splitlines() or ["torch ended without a word"])[-1][:200]
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return (), f"torch does not answer ({type(error).__name__})"
