"""What a machine says of itself, for `python -m sweep.doctor`: asked on each node, in a process of Ray's or in ours."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from datasets.files import cache_folder
from sweep.provenance import commit, processor, project_version

LIBRARIES = ("ray", "torch", "torchvision", "timm", "numpy")
"""What must not differ between machines."""
_GPUS = """
import json, torch
found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
print(json.dumps([[one.name, one.total_memory] for one in found]))
"""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a machine says of itself."""

    python: str
    project: str
    commit: str
    libraries: dict[str, str]
    """Name -> version, `absent` where it is not installed."""
    datasets: str
    """Folder of the package `datasets` that is imported there."""
    ours: str
    """Folder of ours."""
    processor: str
    cores: int
    memory: int
    """Bytes, all of it."""
    gpus: tuple[tuple[str, int], ...]
    """Name and bytes of each GPU that torch can use."""
    gpu_fault: str
    """Why torch cannot tell, if so."""
    disks: dict[str, tuple[str, int]]
    """What it is for -> folder, free bytes where it lies."""
    lacking: tuple[str, ...]
    """The data that cannot be seen there."""


def look(folders: dict[str, str], data: tuple[str, ...]) -> Facts:
    """Look at this machine.

    Args:
        folders: what for -> folder, whose disk's free space is wanted; it need not exist.
        data: files and folders that must be there.
    """
    import datasets

    gpus, fault = _gpus()
    places = folders | {"temporary files": tempfile.gettempdir(), "the cache": str(cache_folder())}
    return Facts(
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
        gpu_fault=fault,
        disks={name: (place, shutil.disk_usage(_existing(Path(place))).free) for name, place in places.items()},
        lacking=tuple(place for place in data if not os.access(place, os.R_OK)),
    )


def clock() -> float:
    """Seconds since the epoch, by this machine."""
    return time.time()


def touch(folder: str, token: str) -> tuple[str, str]:
    """Put a small file into a folder, or into what there is of the way to it, so that nothing has to be made.

    Returns:
        The file, and why it could not be written, or nothing.
    """
    file = _existing(Path(folder)) / f".doctor-{token}-{uuid.uuid4().hex[:8]}"
    try:
        file.write_text(token)
    except OSError as error:
        return str(file), error.strerror or str(error)
    return str(file), ""


def unseen(files: list[str]) -> list[str]:
    """Those of the files that are not there, as seen from here."""
    return [file for file in files if not os.path.exists(file)]


def sweep_up(folder: str, token: str) -> None:
    """Take the files away again that `touch` has put there."""
    for file in _existing(Path(folder)).glob(f".doctor-{token}-*"):
        file.unlink(missing_ok=True)


def touch_remotely(uri: str, name: str) -> str:
    """Put an object below a URI, read it, and take it away again; returns why that is not possible, or nothing."""
    from analysis.records.remote import open_store

    try:
        store, root = open_store(uri)
        place = f"{root}/{name}"
        with store.open_output_stream(place) as stream:
            stream.write(name.encode())
        with store.open_input_stream(place) as stream:
            same = stream.read() == name.encode()
        store.delete_file(place)
    except (ValueError, OSError) as error:  # RecordsError is a ValueError
        return " ".join(str(error).split())[:200] or type(error).__name__
    return "" if same else "what is read is not what was written"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _existing(place: Path) -> Path:
    return next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())


def _gpus() -> tuple[tuple[tuple[str, int], ...], str]:
    """In a process of its own, so that the GPU's memory is given back. Ray hides GPUs from tasks that ask for none."""
    hidden = ("CUDA_VISIBLE_DEVICES",) if not os.environ.get("CUDA_VISIBLE_DEVICES") else ()
    clean = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-c", _GPUS]
    try:
        done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=120, check=True)
        return tuple((str(name), int(size)) for name, size in json.loads(done.stdout.splitlines()[-1])), ""
    except subprocess.CalledProcessError as error:
        return (), (error.stderr.strip().splitlines() or ["torch ended without a word"])[-1][:200]
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return (), f"torch does not answer ({type(error).__name__})"
