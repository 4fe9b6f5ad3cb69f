"""The machines of a running Ray: which there are, and a function run on each of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

PATIENCE = 60.0
"""Seconds that machines have to answer: the first task on a machine starts a process there, and brings our code."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine, or part of one, that is up."""

    id: str
    """Ray's name of it."""
    name: str
    """What people call it: its address, with the beginning of `id` where several have the same."""
    cores: int
    """Cores that cells may use; 0 for a head that runs none."""
    gpus: int
    memory: int
    """Bytes of the host that processes may use."""
    accelerator: str
    """Name of its GPUs; empty where it has none."""

    @property
    def runs_cells(self) -> bool:
        """Whether cells can run there."""
        return self.cores > 0


@dataclass(frozen=True)
class Unanswered:
    """Instead of a result: why there is none."""

    reason: str


def nodes() -> tuple[Node, ...]:
    """The machines that are up, those that run no cells among them, ordered by name."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    names = [node["NodeName"] for node in alive]
    found = []
    for node, name in zip(alive, names, strict=True):
        has = node["Resources"]
        gpus = int(has.get("GPU", 0))
        kinds = [word.split(":", 1)[1] for word in has if word.startswith("accelerator_type:")]
        found.append(
            Node(
                id=node["NodeID"],
                name=name if names.count(name) == 1 else f"{name} ({node['NodeID'][:6]})",
                cores=int(has.get("CPU", 0)),
                gpus=gpus,
                memory=int(has.get("memory", 0)),
                accelerator=(kinds or ["GPU"])[0] if gpus else "",
            )
        )
    return tuple(sorted(found, key=lambda node: node.name))


def on_each_node(
    function: Callable[..., Any], *arguments: Any, among: Sequence[Node] | None = None, seconds: float = PATIENCE
) -> dict[str, Any]:
    """Call a function on every machine at the same time, beside whatever runs there.

    Args:
        function: one that a worker can import or unpickle.
        arguments: what it is called with.
        among: the machines; all that are up where it is left out.
        seconds: how long they have for it, all together.

    Returns:
        Name of each machine -> what the function returned there, or `Unanswered`: it was too slow, or has failed.
    """
    asked = {}
    for node in nodes() if among is None else among:
        there = NodeAffinitySchedulingStrategy(node.id, soft=False)
        task = ray.remote(num_cpus=0, max_retries=0)(function).options(scheduling_strategy=there)
        asked[task.remote(*arguments)] = node.name
    ready, late = ray.wait(list(asked), num_returns=len(asked), timeout=seconds) if asked else ([], [])
    for answer in late:
        ray.cancel(answer, force=True)
    answers = {asked[answer]: _result(answer) for answer in ready}
    silent = {asked[answer]: Unanswered(f"no answer within {seconds:g} s") for answer in late}
    return {name: {**answers, **silent}[name] for name in asked.values()}


def _result(answer: Any) -> Any:
    try:
        return ray.get(answer)
    except RayError as error:
        cause = getattr(error, "cause", None) or error
        return Unanswered(f"{type(cause).__name__}: {' '.join(str(cause).split())[:300]}")
