"""Ray on this machine, or on a cluster that runs already: entered, looked at, and left."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

# Ray reads these when it is imported.
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# The workers that Ray starts early lack the environment that Tune's have: they would be started in vain.
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
# Ctrl-C shall raise KeyboardInterrupt here; Tune's own handler would end as if all were done.
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")

import ray

from sweep.cluster.join import join
from sweep.cluster.machine import Machine
from sweep.cluster.nodes import Node, Unanswered, nodes, on_each_node
from sweep.logs import redirect
from sweep.provenance import processor
from sweep.signals import Terminated
from trainables.engine import Engine


@contextmanager
def started(engine: Engine, address: str | None = None) -> Iterator[None]:
    """Ray runs inside, with processes that can run cells by `engine`.

    Args:
        engine: how cells are executed.
        address: of a cluster, HOST:PORT: it is joined, and stays when this ends. None: Ray is started here, for this
            process alone.

    Raises:
        InputError: the cluster cannot be joined.
    """
    redirect("ray", "ray.tune")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            os.environ.update(environment(engine))  # inherited by Ray's processes
            # Said outright: without an address Ray would join whatever cluster happens to run here.
            ray.init(
                address="local",
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                configure_logging=False,
            )
        else:
            join(address, _variables(engine))
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own there, which leaves without a word
        yield
    except SystemExit as error:  # Ray's handler, while it was there
        raise Terminated from error
    finally:
        ray.shutdown()


def environment(engine: Engine) -> dict[str, str]:
    """Variables a worker on this machine must start with."""
    return {"PYTHONPATH": os.pathsep.join(_import_roots()), **_variables(engine)}


def _variables(engine: Engine) -> dict[str, str]:
    """Those of them that hold on any machine."""
    # Tune runs each cell in a thread of its own, and glibc keeps what a thread has freed for that thread: else a worker
    # grows with every cell.
    variables = {"MALLOC_ARENA_MAX": "1"}
    if engine.deterministic:
        variables["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    return variables


def _import_roots() -> list[str]:
    """Where our packages lie, first of all places: Hugging Face's `datasets` must not come before ours."""
    root = str(Path(__file__).resolve().parents[2])
    return [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def machine(threads: int, address: str | None = None) -> Machine:
    """The machine that cells run on, as Ray sees it: told without torch, whose import takes seconds.

    Where there are several, the one with the most GPUs, then the most cores: cells go there first. Where none of a
    cluster's runs cells yet, one is asked for and waited for; that is said.

    Args:
        threads: cores that a cell asks for; 0: not known yet.
        address: as of `started`.
    """
    here = _best() if address is None else (_best() or _awaited(max(1, threads)))
    if here is None:
        raise RuntimeError("Ray was started here and has no node")
    return Machine(
        processor=here.accelerator or (processor() if address is None else _processor(here)),
        cores=here.cores,
        gpus=here.gpus,
        memory=here.memory,
        torch=version("torch"),
        node=here.id,
    )


def _best() -> Node | None:
    """The machine that cells go to first; None where none runs cells."""
    running = [node for node in nodes() if node.runs_cells]
    return max(running, key=lambda node: (node.gpus, node.cores), default=None)


def _awaited(cores: int) -> Node:
    """A machine that runs cells, as soon as there is one: a task that waits is what Ray's autoscaler starts one for."""
    print(
        f"waiting for a machine: none of the cluster has cores for cells yet, {cores} at least; "
        "the autoscaler starts one if there is one to be had (Ctrl-C ends this)",
        flush=True,
    )
    asked = ray.remote(num_cpus=cores)(_nothing).remote()
    while True:
        ray.wait([asked], timeout=5)  # with a limit, so that Ctrl-C is seen
        if (found := _best()) and found.cores >= cores:
            ray.cancel(asked)
            return found


def _nothing() -> None:
    """What a machine is asked for with."""


def _processor(node: Node) -> str:
    (name,) = on_each_node(processor, among=[node]).values()
    return node.name if isinstance(name, Unanswered) else str(name)
