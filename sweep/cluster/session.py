"""Start Ray on this machine or join a running cluster, and find the machine that cells go to first."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import ray
from ray._private.utils import estimate_available_memory, resolve_object_store_memory  # Ray's own defaults

from datasets.allocation import Allocation, allocation
from datasets.errors import InputError, describe_error
from sweep.cluster.join import join_cluster
from sweep.cluster.machine import Machine, NoAnswer
from sweep.cluster.nodes import call_on_each, list_machines
from sweep.cluster.provenance import has_bf16, processor
from sweep.cluster.ray_folder import create_ray_folder, ray_folder, shared_memory, token_variables
from sweep.logs import redirect
from sweep.signals import Terminated, descendants
from sweep.storage.system_errors import explain
from trainables.engine import Engine

START_TRIES = 10
"""How often Ray's start is tried. On a busy machine its processes miss time limits of 15 and 30 s, some of which cannot
be changed: this makes five minutes or more."""

OF_ANOTHER_RAY = (
    "RAY_ADDRESS",
    "RAY_GCS_SERVER_PORT",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_OVERRIDE_LABELS",
    "RAY_OVERRIDE_RESOURCES",
    "RAY_REDIS_ADDRESS",
    "RAY_RUNTIME_ENV_HOOK",
    "RAY_RUNTIME_ENV_PLUGINS",
    # Ray starts each worker in a shell that would run this file first, which may load another Python.
    "BASH_ENV",
)
"""Variables that are removed before Ray is started here. In the shell or a job of a cluster they describe that cluster,
and workers would start with its code, its Python or its number of cores."""


@contextmanager
def ray_session(
    engine: Engine,
    address: str | None = None,
    *,
    packages: Sequence[Path] = (),
    cores: int = 0,
    temp_dir: Path | None = None,
) -> Iterator[None]:
    """Context manager in which Ray runs, with processes that can run cells with `engine`.

    Args:
        engine: how cells are executed.
        address: HOST:PORT of a cluster to join; it keeps running afterwards. None: Ray is started on this machine, for
            this process only.
        packages: packages and modules from outside this project that workers import, as folders and files.
        cores: the most cores of this machine that Ray may use; 0: all that this process may use.
        temp_dir: folder for Ray's files on this machine; None: one that belongs to this user alone.

    Raises:
        InputError: Ray runs already or does not start, or the cluster cannot be joined.
    """
    if ray.is_initialized():
        raise InputError(
            "Ray runs in this process already, for other work: call ray.shutdown() first, or run cells without Ray "
            "(inline)"
        )
    redirect("ray", "ray.tune")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            for name in OF_ANOTHER_RAY:
                os.environ.pop(name, None)
            # Inherited by Ray's processes.
            os.environ.update({**worker_environment(engine, packages), **token_variables()})
            _start_ray(allocation(cores), ray_folder(temp_dir))
        else:
            join_cluster(address, engine.variables, packages)
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has installed its own, which exits silently
        yield
    except SystemExit as error:  # raised by Ray's handler while it was installed
        raise Terminated from error
    finally:
        ray.shutdown()


def _start_ray(usable: Allocation, folder: Path) -> None:
    """Start Ray on this machine, with a printed message and a new try after each failure of a busy machine.

    Args:
        usable: what it may use.
        folder: for its files.

    Raises:
        InputError: the last try has failed too, or another one would fail in the same way.
    """
    create_ray_folder(folder)
    # Ray itself would count all cores of the machine and all of its free memory.
    memory = min(usable.memory.amount, estimate_available_memory())
    shared, warning = shared_memory(resolve_object_store_memory(memory), folder)
    if warning:
        print(warning, flush=True)
    began = time.monotonic()
    for attempt in range(1, START_TRIES + 1):
        others = set(descendants(os.getpid()))
        try:
            # Without an address Ray would join whatever cluster happens to run here.
            ray.init(
                address="local",
                num_cpus=usable.cores.amount,
                # Otherwise Ray counts the visible ones. It takes `-1`, which hides all, for the name of one.
                num_gpus=0 if usable.gpus.reason and not usable.gpus.amount else None,
                object_store_memory=shared,
                _memory=memory - shared,
                _temp_dir=str(folder),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
            return
        except Exception as error:  # Ray raises a bare Exception when its processes are too slow
            _end_failed_start(others)
            if _is_permanent(error):
                reason = explain(error) if isinstance(error, OSError) else describe_error(error)
                raise InputError(f"Ray cannot start: {reason} (its files go to {folder})") from error
            load = f"the load is {os.getloadavg()[0]:.1f} on {usable.cores.total} cores"
            problem = f"Ray did not start within {time.monotonic() - began:.0f} s ({load})"
            if attempt == START_TRIES:
                raise InputError(
                    f"{problem}, in {START_TRIES} tries: {describe_error(error)}; run the same command again "
                    f"when the machine is less busy; Ray's logs are in {folder}/session_latest/logs"
                ) from error
            print(f"{problem}; trying again", flush=True)


def _is_permanent(error: Exception) -> bool:
    """Whether another try fails too: a folder or a variable is wrong, and no time limit was missed."""
    return isinstance(error, OSError | ValueError) and not isinstance(error, ConnectionError | TimeoutError)


def _end_failed_start(others: set[int]) -> None:
    """Kill the processes of a failed start, which `ray.shutdown` does not know; `others` are not Ray's."""
    ray.shutdown()
    for process in descendants(os.getpid()):  # parents first: they could start others in place of their children
        if process not in others:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def worker_environment(engine: Engine, packages: Sequence[Path] = ()) -> dict[str, str]:
    """The environment variables that a worker on this machine needs from its start."""
    return {"PYTHONPATH": os.pathsep.join(_import_roots(packages)), **engine.variables}


def _import_roots(packages: Sequence[Path]) -> list[str]:
    """Folders to import from. Ours comes first, so that Hugging Face's `datasets` cannot replace our package."""
    root = str(Path(__file__).resolve().parents[2])
    outside = dict.fromkeys(str(package.parent) for package in packages)
    return [root, *outside, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def first_machine(threads: int, address: str | None = None) -> Machine:
    """Find the machine that cells go to first: the one with the most GPUs, then the most cores.

    This does not import torch, which takes seconds. If no machine of a cluster runs cells yet, one is requested and
    waited for, with a printed message.

    Args:
        threads: cores that a cell needs; 0 if not known yet.
        address: as for `ray_session`.

    Returns:
        The machine, with the name of its processor.
    """
    machine = _largest_machine()
    if machine is None:
        if address is None:
            raise RuntimeError("Ray was started here and has no node")
        machine = _wait_for_machine(max(1, threads))
    if machine.accelerator:
        return machine
    name, bf16 = _describe_processor() if address is None else _ask_processor(machine)
    return replace(machine, processor=name, bf16=bf16)


def _largest_machine() -> Machine | None:
    """The machine that cells go to first; None if no machine runs cells."""
    machines = [machine for machine in list_machines() if machine.runs_cells]
    return max(machines, key=lambda machine: (machine.gpus, machine.cores), default=None)


def _wait_for_machine(cores: int) -> Machine:
    """Wait for a machine that runs cells. A waiting task makes Ray's autoscaler start one."""
    print(
        f"waiting for a machine with at least {cores} cores for cells: no machine of the cluster has them yet; the "
        "autoscaler starts one if it can (Ctrl-C stops the wait)",
        flush=True,
    )
    task = ray.remote(num_cpus=cores)(_do_nothing).remote()
    while True:
        ray.wait([task], timeout=5)  # with a limit, so that Ctrl-C interrupts it
        if (machine := _largest_machine()) and machine.cores >= cores:
            ray.cancel(task)
            return machine


def _do_nothing() -> None:
    """The task that waits for a machine."""


def _describe_processor() -> tuple[str, bool]:
    return processor(), has_bf16()


def _ask_processor(machine: Machine) -> tuple[str, bool]:
    (answer,) = call_on_each(_describe_processor, among=[machine]).values()
    return (machine.name, False) if isinstance(answer, NoAnswer) else answer
