"""The machines of Ray: what a cell requests of them, and how many cells fit on them at the same time."""

from collections.abc import Mapping
from dataclasses import dataclass

import ray

from sweep.cluster.machine import Machine
from sweep.cluster.nodes import list_machines
from sweep.config.sweep import Sweep
from sweep.monitor.progress import MachineEntry


@dataclass(frozen=True, kw_only=True)
class Resources:
    """How Ray's machines are shared among cells."""

    share: dict[str, float]
    """The resources of one cell: cpu, gpu, memory (bytes)."""
    slots: int
    """Workers that start at the same time."""
    at_once: int
    """Cells that fit on all machines together."""
    a_machine: int
    """Cells that fit on the machine that cells go to first."""
    gpus: int
    """GPUs of all machines together."""


def resources_for(sweep: Sweep, machine: Machine) -> Resources:
    """How Ray's machines are shared among the cells of a sweep whose engine is chosen.

    Args:
        sweep: the sweep that runs.
        machine: the machine that cells go to first.
    """
    threads, machines = sweep.engine.threads, [one for one in list_machines() if one.runs_cells]
    # A request for more memory than the machine has would wait forever. Such a cell runs alone instead.
    memory = min(sweep.cell_memory * 1e9, machine.memory)
    share = {"cpu": float(threads), "gpu": sweep.gpu_share if machine.gpus else 0.0, "memory": memory}
    fitting = sum(_fitting(one, share) for one in machines)
    return Resources(
        share=share,
        slots=sweep.workers or max(1, sum(one.cores // threads for one in machines)),
        at_once=max(1, min(sweep.workers or fitting, fitting)),
        a_machine=max(1, min(sweep.workers or fitting, _fitting(machine, share))),
        gpus=sum(one.gpus for one in machines),
    )


def _fitting(machine: Machine, share: Mapping[str, float]) -> int:
    """Cells that fit on one machine at the same time."""
    total = {"cpu": machine.cores, "gpu": machine.gpus, "memory": machine.memory}
    # The small number makes a tenth of a GPU fit ten times in spite of rounding.
    return min(int(total[name] / needed + 1e-6) for name, needed in share.items() if needed)


def machines() -> dict[str, MachineEntry]:
    """Ray's name of each machine -> the machine; none if Ray does not run."""
    if not ray.is_initialized():
        return {}
    return {machine.id: MachineEntry.of(machine) for machine in list_machines()}
