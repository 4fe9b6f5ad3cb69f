"""Ray on this machine: started, looked at, and stopped."""

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

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

from sweep.logs import redirect
from sweep.machine import Machine, processor
from sweep.stopping import Terminated
from trainables.engine import Engine


@contextmanager
def started(engine: Engine) -> Iterator[None]:
    """Ray runs inside, with processes that can run cells by `engine`."""
    os.environ.update(environment(engine))  # inherited by Ray's processes
    redirect("ray", "ray.tune")
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False)
        signal.signal(signal.SIGTERM, handler)  # Ray has put its own there, which leaves without a word
        yield
    except SystemExit as error:  # Ray's handler, while it was there
        raise Terminated from error
    finally:
        ray.shutdown()


def environment(engine: Engine) -> dict[str, str]:
    """Variables a worker must start with."""
    variables = {"PYTHONPATH": os.pathsep.join(_import_roots())}
    # Tune runs each cell in a thread of its own, and glibc keeps what a thread has freed for that thread: else a worker
    # grows with every cell.
    variables["MALLOC_ARENA_MAX"] = "1"
    if engine.deterministic:
        variables["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    return variables


def _import_roots() -> list[str]:
    """Where our packages lie, first of all places: Hugging Face's `datasets` must not come before ours."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]


def machine() -> Machine:
    """The machine that cells run on, as Ray sees it: told without torch, whose import takes seconds.

    Where there are several, the one with the most GPUs, then the most cores: cells go there first.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    here = max(nodes, key=lambda node: (node.get("GPU", 0), node.get("CPU", 0)))
    name = next((word.split(":", 1)[1] for word in here if word.startswith("accelerator_type:")), "GPU")
    gpus = int(here.get("GPU", 0))
    return Machine(
        processor=name if gpus else processor(),
        cores=int(here.get("CPU", 1)),
        gpus=gpus,
        memory=int(here.get("memory", 0)),
        torch=version("torch"),
    )
