"""Join a Ray cluster that runs already: find its address, and copy our code to its machines."""

import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import ray
from ray._common.utils import (
    get_default_ray_temp_dir,  # pinned; no public function tells where Ray writes down its cluster
)
from ray.exceptions import AuthenticationError

from datasets.errors import InputError

PACKAGES = ("analysis", "datasets", "sweep", "trainables")
HEALTH_TIMEOUT = 30.0
"""Seconds in which Ray's head must answer, the start of the process that asks included."""
CONNECT_TIMEOUT = 10.0
"""Seconds in which a cluster's address must accept a connection."""


def join_cluster(address: str, variables: Mapping[str, str], packages: Sequence[Path] = ()) -> None:
    """Connect to a running Ray, whose workers will import a copy of this very code.

    Args:
        address: HOST:PORT, from `resolve_address`.
        variables: environment of the workers.
        packages: from outside this project, for workers to import: folders of packages, or files of modules.

    Raises:
        InputError: it runs another Ray or Python, or this machine is no part of it.
    """
    try:
        with code_folder(packages) as folder:
            ray.init(
                address=address,
                # A folder of its own beats whatever of ours, or of that name, is installed there.
                runtime_env={"working_dir": str(folder), "env_vars": {**_store_variables(), **variables}},
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


def _store_variables() -> dict[str, str]:
    """Variables that say where an object store is. Secrets are not copied: each machine has its own credentials."""
    names = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")
    return {name: os.environ[name] for name in names if name in os.environ}


def resolve_address(address: str) -> str:
    """Find HOST:PORT of the cluster, and make sure that Ray answers there: Ray itself would try for minutes.

    Args:
        address: `auto` for the cluster that this machine belongs to, or HOST:PORT.

    Raises:
        InputError: this machine belongs to no cluster, or that is no address, or nobody answers there.
    """
    if address.startswith("ray://"):
        raise InputError(
            f"--address {address}: a sweep's driver writes records beside it and runs on a machine of the cluster: "
            "log in there (`ray attach cluster.yaml`, or `ray exec`) and give --address auto"
        )
    if address == "auto":
        address = _current_address()
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise InputError(f"--address {address}: give auto, or HOST:PORT of the cluster's head, such as 10.0.0.4:6379")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"--address {address}: nobody answers there ({getattr(error, 'strerror', None) or error}): start the "
            "cluster (`ray up cluster.yaml`, or `ray start --head`), or leave --address out to run here alone"
        ) from error
    _check_is_ray(address)
    return address


def _check_is_ray(address: str) -> None:
    """Make sure that what listens there is a cluster's head.

    Raises:
        InputError: it gives no answer that Ray understands.
    """
    health_check = ("health-check", "--skip-version-check", "--address", address)
    command = [sys.executable, "-m", "ray.scripts.scripts", *health_check]
    try:  # whatever else is wrong is reported when the cluster is joined
        subprocess.run(command, capture_output=True, timeout=HEALTH_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"--address {address}: what listens there does not answer as Ray's head does: give the head's address and "
            "its port (6379 unless `ray start` was told another)"
        ) from error


def _current_address() -> str:
    """The address of the cluster that this machine belongs to, which `ray start` wrote down.

    Ray's own `auto` also searches processes, and would join a Ray that another command has started for itself.
    """
    file = Path(get_default_ray_temp_dir(), "ray_current_cluster")
    with suppress(OSError):
        if address := os.environ.get("RAY_ADDRESS") or file.read_text().strip():
            return address
    raise InputError(
        "--address auto: this machine belongs to no cluster: run this on one of its machines (`ray exec cluster.yaml "
        "'...'`), start one with `ray start --head`, or leave --address out to run here alone"
    )


@contextmanager
def code_folder(packages: Sequence[Path]) -> Iterator[Path]:
    """A temporary folder with our packages and these, and nothing else: Ray copies it to the machines."""
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory(prefix="noisy-pairs-") as folder:
        for package in (*(root / name for name in PACKAGES), *packages):
            copy = Path(folder, package.name)
            if package.is_dir():
                shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copyfile(package, copy)
        yield Path(folder)
