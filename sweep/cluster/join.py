"""A cluster is joined: our code travels to its machines, and they are asked whether they can run this sweep's cells."""

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import ray
from ray._common.utils import get_default_ray_temp_dir  # pinned; nothing public tells where Ray notes its clusters
from ray.exceptions import AuthenticationError

import datasets
import sweep
from datasets.errors import InputError
from sweep.cluster.nodes import Node, Unanswered, nodes, on_each_node
from sweep.cluster.probe import touch_remotely
from sweep.provenance import library_versions

PACKAGES = ("analysis", "datasets", "sweep", "trainables")
ANSWER = 30.0
"""Seconds in which Ray's head must answer, the start of the process that asks included."""
REACH = 10.0
"""Seconds in which a cluster's address must answer."""


def join(address: str, variables: Mapping[str, str]) -> None:
    """Connect to a Ray that runs, and have its workers run this very code.

    Args:
        address: HOST:PORT, as `reached` gives it.
        variables: what workers have in their environment.

    Raises:
        InputError: it runs another Ray or Python, or this machine is no part of it.
    """
    try:
        with _code() as folder:
            ray.init(
                address=address,
                # A folder of its own beats whatever of ours, or of that name, is installed there.
                runtime_env={"working_dir": str(folder), "env_vars": {**_store(), **variables}},
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
    except AuthenticationError as error:
        ray.shutdown()
        raise InputError(
            f"--address {address}: the cluster asks for a token: set RAY_AUTH_MODE=token, with the head's "
            "~/.ray/auth_token in the same place here (a login on a machine of `ray up` has both)"
        ) from error
    except (ConnectionError, RuntimeError, ValueError, AssertionError, TimeoutError) as error:
        ray.shutdown()
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if "mismatch" in reason:
            raise InputError(
                f"--address {address}: {reason}: run this with the cluster's Ray and Python, or the cluster with this "
                "one's (constraints.txt pins Ray)"
            ) from error
        raise InputError(
            f"--address {address}: cannot be joined ({reason}): run this on a machine of the cluster, where `ray "
            "status` shows it (`ray exec cluster.yaml '...'`), or leave --address out to run here alone"
        ) from error


def _store() -> dict[str, str]:
    """Where an object store is, if told here; who may use it is each machine's own matter: secrets do not travel."""
    names = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")
    return {name: os.environ[name] for name in names if name in os.environ}


def reached(address: str) -> str:
    """HOST:PORT of the cluster, where somebody listens: Ray itself would try for minutes.

    Args:
        address: `auto` for the cluster that this machine belongs to, or HOST:PORT.

    Raises:
        InputError: this machine belongs to none, or that is no address, or nobody listens there.
    """
    if address.startswith("ray://"):
        raise InputError(
            f"--address {address}: a sweep's driver writes records beside it and runs on a machine of the cluster: "
            "log in there (`ray attach cluster.yaml`, or `ray exec`) and give --address auto"
        )
    if address == "auto":
        address = _current()
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"--address {address}: give auto, or HOST:PORT of the cluster's head, such as 10.0.0.4:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--address {address}: nobody answers there ({getattr(error, 'strerror', None) or error}): start the "
            "cluster (`ray up cluster.yaml`, or `ray start --head`), or leave --address out to run here alone"
        ) from error
    _is_ray(address)
    return address


def _is_ray(address: str) -> None:
    """Make sure that what listens there is a cluster's head: Ray would wait for anything else for minutes.

    Raises:
        InputError: it gives no answer that Ray understands.
    """
    ask = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--skip-version-check", "--address", address]
    try:
        subprocess.run(ask, capture_output=True, timeout=ANSWER, check=False)  # what else may be wrong, joining says
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"--address {address}: what listens there does not answer as Ray's head does: give the head's address and "
            "its port (6379 unless `ray start` was told another)"
        ) from error


def _current() -> str:
    """The address of the cluster that this machine belongs to, where `ray start` wrote it down.

    Ray's own `auto` also searches the processes, and would join what another command has started for itself alone.
    """
    noted = Path(get_default_ray_temp_dir(), "ray_current_cluster")
    with suppress(OSError):
        if found := os.environ.get("RAY_ADDRESS") or noted.read_text().strip():
            return found
    raise InputError(
        "--address auto: this machine belongs to no cluster: run this on one of its machines (`ray exec cluster.yaml "
        "'...'`), start one with `ray start --head`, or leave --address out to run here alone"
    )


@contextmanager
def _code() -> Iterator[Path]:
    """A folder with our packages and nothing else: results, data and environments lie beside them."""
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory(prefix="noisy-pairs-") as place:
        for name in PACKAGES:
            shutil.copytree(root / name, Path(place, name), ignore=shutil.ignore_patterns("__pycache__", ".*"))
        yield Path(place)


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a machine has."""

    datasets: str
    """Folder that `import datasets` takes it from."""
    sweep: str
    """Likewise."""
    versions: str
    """Of the libraries that results depend on, as JSON."""
    absent: tuple[str, ...]
    """Those of the files asked for that it does not see."""


def look(paths: Sequence[str]) -> Found:
    """What this machine has: run on each."""
    return Found(
        datasets=_folder(datasets),
        sweep=_folder(sweep),
        versions=library_versions(),
        absent=tuple(path for path in paths if not os.path.exists(path)),
    )


def _folder(package: ModuleType) -> str:
    return str(Path(package.__file__ or "").resolve().parent.parent)


def check_machines(out: Path | str, files: Sequence[Path]) -> list[str]:
    """Make sure, before anything is run, that the cluster's machines can run cells.

    Args:
        out: the sweep's folder, which exists, or its address.
        files: what workers open.

    Returns:
        Lines to be said: the machines there are, those that do not answer, or do not see the sweep's folder.

    Raises:
        InputError: a machine has other code or libraries, or does not see a file, or may not write to the address.
    """
    here, cells = look([]), [node for node in nodes() if node.runs_cells]
    with ExitStack() as stack:
        marks = [stack.enter_context(_mark(out))] if isinstance(out, Path) else []
        found = on_each_node(look, [*marks, *map(str, files)], among=cells)
    lines, blind = [_told(cells)], []
    for name, one in found.items():
        if isinstance(one, Unanswered):
            lines.append(f"machine {name} does not answer ({one.reason}); cells go to the others")
            continue
        _same(name, one, here)
        if lost := [path for path in one.absent if path not in marks]:
            raise InputError(
                f"machine {name} of the cluster does not see {lost[0]}: put it on a disk that all machines share, or "
                "copy it to the same place on each"
            )
        if one.absent:
            blind.append(name)
    if isinstance(out, str):
        _reach(out, [node for node in cells if not isinstance(found.get(node.name), Unanswered)])
    if blind:
        lines.append(
            f"--out {out} is not seen by {len(blind)} of {len(cells)} machines ({', '.join(blind)}): checkpoints stay "
            "on the machine they were written on, so that a cell that moves begins anew, and Ctrl-C waits for cells to "
            "end; a shared disk or --out s3://BUCKET/NAME mends it"
        )
    return lines


def _reach(uri: str, cells: Sequence[Node]) -> None:
    """Make sure that machines can write to an object store and read from it.

    Raises:
        InputError: one cannot.
    """
    answers = on_each_node(touch_remotely, uri, f".seen-{uuid.uuid4().hex[:8]}", among=cells)
    if faults := {name: fault for name, fault in answers.items() if isinstance(fault, str) and fault}:
        name, fault = next(iter(faults.items()))
        raise InputError(
            f"--out {uri}: {len(faults)} of {len(cells)} machines cannot write there or read it ({name}: {fault}): "
            "give them the right to it (a role, or keys in their environment); `python -m sweep.doctor` asks again"
        )


@contextmanager
def _mark(folder: Path) -> Iterator[str]:
    """The path of a file in the folder, which is gone afterwards."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".seen-", suffix=".part") as mark:
        yield mark.name


def _same(name: str, there: Found, here: Found) -> None:
    """Refuse a machine whose cells would not be this command's.

    Raises:
        InputError: it has other code or libraries.
    """
    if there.datasets != there.sweep:
        raise InputError(
            f"machine {name} of the cluster imports another package named 'datasets', from {there.datasets}: uninstall "
            "it there (Hugging Face's has that name)"
        )
    if there.versions != here.versions:
        raise InputError(
            f"machine {name} of the cluster has other libraries, {there.versions} instead of {here.versions}: install "
            "the same on all, by constraints.txt"
        )


def _told(cells: Sequence[Node]) -> str:
    """The machines that run cells, in a line."""
    counts = {"cores": sum(node.cores for node in cells), "GPUs": sum(node.gpus for node in cells)}
    has = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"cluster: {has} on {', '.join(node.name for node in cells)}; machines that join later get cells too"
