"""Start Ray on this machine or join a running cluster, and find the machine that cells go to first."""

import logging
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import ray

from sweep.cluster.join import join_cluster
from sweep.cluster.machine import Machine, NoAnswer
from sweep.cluster.nodes import call_on_each, list_machines
from sweep.logs import redirect
from sweep.provenance import processor
from sweep.signals import Terminated
from trainables.engine import Engine


@contextmanager
def ray_session(engine: Engine, address: str | None = None, *, packages: Sequence[Path] = ()) -> Iterator[None]:
    """Run Ray inside this context, with processes that can run cells by `engine`.

    Args:
        engine: how cells are executed.
        address: of a cluster, HOST:PORT: it is joined, and stays when this ends. None: Ray is started here, for this
            process alone.
        packages: from outside this project, for workers to import: folders of packages, or files of modules.

    Raises:
        InputError: the cluster cannot be joined.
    """
    redirect("ray", "ray.tune")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            os.environ.update(worker_environment(engine, packages))  # inherited by Ray's processes
            # Without an address Ray would join whatever cluster happens to run here.
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
        else:
            join_cluster(address, _portable_variables(engine), packages)
        signal.signal(signal.SIGTERM, handler)  # Ray has installed its own, which exits silently
        yield
    except SystemExit as error:  # by Ray's handler, while it was installed
        raise Terminated from error
    finally:
        ray.shutdown()


def worker_environment(engine: Engine, packages: Sequence[Path] = ()) -> dict[str, str]:
    """Environment variables that a worker on this machine must start with."""
    return {"PYTHONPATH": os.pathsep.join(_import_roots(packages)), **_portable_variables(engine)}


def _portable_variables(engine: Engine) -> dict[str, str]:
    """Those variables that are right on any machine."""
    # Tune runs each cell in a thread of its own, and glibc keeps what a thread has freed for that thread: else a worker
    # grows with every cell.
    variables = {"MALLOC_ARENA_MAX": "1"}
    if engine.deterministic:
        variables["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    return variables


def _import_roots(packages: Sequence[Path]) -> list[str]:
    """Folders to import from, ours first: Hugging Face's `datasets` must not come before ours."""
    root = str(Path(__file__).resolve().parents[2])
    outside = dict.fromkeys(str(package.parent) for package in packages)
    return [root, *outside, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def first_machine(threads: int, address: str | None = None) -> Machine:
    """Find the machine that cells go to first: the one with the most GPUs, then the most cores.

    It is described without torch, whose import takes seconds. Where no machine of a cluster runs cells yet, one is
    requested and waited for, with a printed message.

    Args:
        threads: cores that a cell needs; 0: not known yet.
        address: as of `ray_session`.

    Returns:
        The machine with its processor's name.
    """
    machine = _largest_machine()
    if machine is None:
        if address is None:
            raise RuntimeError("Ray was started here and has no node")
        machine = _wait_for_machine(max(1, threads))
    if machine.accelerator:
        return machine
    return replace(machine, processor=processor() if address is None else _ask_processor(machine))


def _largest_machine() -> Machine | None:
    """The machine that cells go to first; None where none runs cells."""
    machines = [machine for machine in list_machines() if machine.runs_cells]
    return max(machines, key=lambda machine: (machine.gpus, machine.cores), default=None)


def _wait_for_machine(cores: int) -> Machine:
    """Wait for a machine that runs cells. Ray's autoscaler starts one because a task of ours waits for it."""
    print(
        f"waiting for a machine: none of the cluster has cores for cells yet, {cores} at least; "
        "the autoscaler starts one if there is one to be had (Ctrl-C ends this)",
        flush=True,
    )
    task = ray.remote(num_cpus=cores)(_do_nothing).remote()
    while True:
        ray.wait([task], timeout=5)  # with a limit, so that Ctrl-C is seen
        if (machine := _largest_machine()) and machine.cores >= cores:
            ray.cancel(task)
            return machine


def _do_nothing() -> None:
    """The task that waits for a machine."""


def _ask_processor(machine: Machine) -> str:
    (name,) = call_on_each(processor, among=[machine]).values()
    return machine.name if isinstance(name, NoAnswer) else str(name)
