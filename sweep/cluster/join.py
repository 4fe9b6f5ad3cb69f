"""Join a running Ray cluster: find its address, and copy our code to its machines."""

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
    get_default_ray_temp_dir,  # pinned; no public function returns the folder with the address of Ray's cluster
)
from ray.exceptions import AuthenticationError, RayError

from datasets.errors import InputError

PACKAGES = ("analysis", "datasets", "sweep", "trainables")
HEALTH_TIMEOUT = 90.0
"""Seconds within which Ray's head must answer. The process that asks must start in this time, on a busy machine too."""
CONNECT_TIMEOUT = 10.0
"""Seconds within which the cluster's address must accept a connection."""


def join_cluster(address: str, variables: Mapping[str, str], packages: Sequence[Path] = ()) -> None:
    """Connect to a running Ray. Its workers import a copy of our code.

    Args:
        address: HOST:PORT, from `resolve_address`.
        variables: environment variables of the workers.
        packages: packages and modules from outside this project that workers import, as folders and files.

    Raises:
        InputError: the cluster has another version of Ray or Python, or this machine does not belong to it.
    """
    try:
        with code_folder(packages) as folder:
            ray.init(
                address=address,
                # The folder comes before any other copy of our packages on the machine, and before other `datasets`.
                runtime_env={"working_dir": str(folder), "env_vars": {**_store_variables(), **variables}},
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
    except AuthenticationError as error:
        ray.shutdown()
        raise InputError(
            f"--address {address}: the cluster asks for a token: set RAY_AUTH_MODE=token and copy the head's "
            "~/.ray/auth_token to this machine (machines of `ray up` have both)"
        ) from error
    except (ConnectionError, RuntimeError, ValueError, AssertionError, TimeoutError, RayError) as error:
        ray.shutdown()
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        if "mismatch" in reason:
            raise InputError(
                f"--address {address}: {reason}: install the same Ray and Python here and on the cluster "
                "(constraints.txt pins Ray)"
            ) from error
        raise InputError(
            f"--address {address}: cannot join the cluster ({reason}): run the command on one of its machines, where "
            "`ray status` shows it (`ray exec cluster.yaml '...'`), or leave --address out to run on this machine only"
        ) from error


def _store_variables() -> dict[str, str]:
    """The variables that name an object store. Secrets are not copied: each machine has its own credentials."""
    names = ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")
    return {name: os.environ[name] for name in names if name in os.environ}


def resolve_address(address: str) -> str:
    """Find HOST:PORT of the cluster, and check that Ray answers there. Ray itself would try for minutes.

    Args:
        address: `auto` for the cluster that this machine belongs to, or HOST:PORT.

    Raises:
        InputError: this machine belongs to no cluster, the address is invalid, or Ray does not answer there.
    """
    if address.startswith("ray://"):
        raise InputError(
            f"--address {address}: the command writes the records and runs on a machine of the cluster: log in there "
            "(`ray attach cluster.yaml`, or `ray exec`) and give --address auto"
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
            f"--address {address}: nothing answers there ({getattr(error, 'strerror', None) or error}): start the "
            "cluster (`ray up cluster.yaml`, or `ray start --head`), or leave --address out to run on this machine only"
        ) from error
    _check_is_ray(address)
    return address


def _check_is_ray(address: str) -> None:
    """Check that a Ray head listens at the address.

    Raises:
        InputError: the answer is not that of a Ray head.
    """
    health_check = ("health-check", "--skip-version-check", "--address", address)
    command = [sys.executable, "-m", "ray.scripts.scripts", *health_check]
    try:  # other problems are reported when the cluster is joined
        subprocess.run(command, capture_output=True, timeout=HEALTH_TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"--address {address}: the process that listens there does not answer as a Ray head: give the head's "
            "address and port (6379, unless `ray start` got another --port)"
        ) from error


def _current_address() -> str:
    """The address of the cluster that this machine belongs to, from the file that `ray start` writes.

    Ray's own `auto` also searches processes, and would join a Ray that another command has started for itself.
    """
    if address := os.environ.get("RAY_ADDRESS"):
        return address
    file = Path(get_default_ray_temp_dir(), "ray_current_cluster")
    with suppress(OSError):
        if (owner := file.stat().st_uid) != os.getuid():  # all users of a machine share the folder
            raise InputError(
                f"--address auto: the Ray on this machine belongs to another user (number {owner}): start one of your "
                "own, leave --address out to run on this machine only, or give HOST:PORT if you may use that one"
            )
        if address := file.read_text().strip():
            return address
    raise InputError(
        "--address auto: this machine belongs to no cluster: run the command on a machine of one (`ray exec "
        "cluster.yaml '...'`), start one with `ray start --head`, or leave --address out to run on this machine only"
    )


@contextmanager
def code_folder(packages: Sequence[Path]) -> Iterator[Path]:
    """A temporary folder with our packages and the given ones, and nothing else. Ray copies it to the machines."""
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory(prefix="noisy-pairs-") as folder:
        for package in (*(root / name for name in PACKAGES), *packages):
            copy = Path(folder, package.name)
            if package.is_dir():
                shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", ".*"))
            else:
                shutil.copyfile(package, copy)
        yield Path(folder)
