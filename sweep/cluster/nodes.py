"""The machines of a running Ray: list them, and call a function on each one."""

from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.cluster.machine import Machine, NoAnswer

TIMEOUT = 120.0
"""Seconds within which machines must answer. The first task on a machine copies our code and starts a process, which
takes long on a busy machine."""


def list_machines() -> tuple[Machine, ...]:
    """The machines that are up, ordered by name, including those that run no cells."""
    nodes = [node for node in ray.nodes() if node["Alive"]]
    addresses = [node["NodeName"] for node in nodes]
    machines = []
    for node, address in zip(nodes, addresses, strict=True):
        resources = node["Resources"]
        gpus = int(resources.get("GPU", 0))
        accelerators = [key.split(":", 1)[1] for key in resources if key.startswith("accelerator_type:")]
        machines.append(
            Machine(
                id=node["NodeID"],
                name=address if addresses.count(address) == 1 else f"{address} ({node['NodeID'][:6]})",
                cores=int(resources.get("CPU", 0)),
                gpus=gpus,
                memory=int(resources.get("memory", 0)),
                accelerator=(accelerators or ["GPU"])[0] if gpus else "",
            )
        )
    return tuple(sorted(machines, key=lambda machine: machine.name))


def call_on_each(
    function: Callable[..., Any], *arguments: Any, among: Sequence[Machine] | None = None, seconds: float = TIMEOUT
) -> dict[str, Any]:
    """Call a function on all machines at the same time. The call needs no free core, so busy machines answer too.

    Args:
        function: a function that a worker can import or unpickle.
        arguments: its arguments.
        among: the machines; by default all that are up.
        seconds: time limit for all of them together.

    Returns:
        Name of each machine -> the function's result there, or `NoAnswer` if it was too slow or failed.
    """
    names = {}
    for machine in list_machines() if among is None else among:
        placement = NodeAffinitySchedulingStrategy(machine.id, soft=False)
        task = ray.remote(num_cpus=0, max_retries=0)(function).options(scheduling_strategy=placement)
        names[task.remote(*arguments)] = machine.name
    ready, late = ray.wait(list(names), num_returns=len(names), timeout=seconds) if names else ([], [])
    for reference in late:
        ray.cancel(reference, force=True)
    results = {names[reference]: _result(reference) for reference in ready}
    results |= {names[reference]: NoAnswer(f"no answer within {seconds:g} s") for reference in late}
    return {name: results[name] for name in names.values()}


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayError as error:
        cause = getattr(error, "cause", None) or error
        return NoAnswer(f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}")
