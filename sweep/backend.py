"""Where the cells of a command run: in Ray's workers, or in this process. This module imports Ray when it is needed."""

import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.allocation import allocation
from datasets.source import Settings, Source
from sweep.cluster.machine import Machine
from sweep.cluster.provenance import has_bf16, processor
from sweep.config.sweep import Sweep
from sweep.monitor.progress import MachineEntry
from sweep.prepare import machine_for
from trainables.cell import Cell

if TYPE_CHECKING:
    from sweep.tune.cell_runner import CellRunner


class Backend(ABC):
    """Where cells run."""

    grows = False
    """Whether machines may be added while cells run."""

    @abstractmethod
    def session(self, sweep: Sweep) -> AbstractContextManager[None]:
        """Context manager in which cells can run."""

    @abstractmethod
    def machines(self) -> Mapping[str, MachineEntry]:
        """Name of each machine that is up -> the machine; none outside a session."""

    @abstractmethod
    def first_machine(self, sweep: Sweep, files: Sequence[Path]) -> Machine:
        """The machine that cells go to first, which must be able to read `files`."""

    @abstractmethod
    def choose_engine(
        self, sweep: Sweep, missing: Sequence[Cell], machine: Machine, sources: Mapping[Settings, Source]
    ) -> tuple[Sweep, str]:
        """The sweep with the settings that it leaves open filled in, and the choice as text."""

    @abstractmethod
    def runner(self) -> "type[CellRunner]":
        """The class that runs cells."""

    @abstractmethod
    def at_once(self, sweep: Sweep, machine: Machine) -> int:
        """How many cells run at the same time."""


class RayBackend(Backend):
    """Ray's workers, on this machine or on a cluster."""

    def __init__(self, address: str | None) -> None:
        """`address`: HOST:PORT of a cluster; None: Ray is started on this machine."""
        self._address = address
        self.grows = address is not None

    def session(self, sweep: Sweep) -> AbstractContextManager[None]:
        """See `Backend`."""
        from sweep.cluster.session import ray_session

        if self._address is None:
            print("starting Ray on this machine ...", flush=True)  # which takes a minute if the machine is busy
        return ray_session(
            sweep.engine,
            self._address,
            packages=sweep.outside_packages,
            cores=sweep.cores,
            temp_dir=sweep.temp_dir,
        )

    def machines(self) -> Mapping[str, MachineEntry]:
        """See `Backend`."""
        from sweep.tune.resources import machines

        return machines()

    def first_machine(self, sweep: Sweep, files: Sequence[Path]) -> Machine:
        """See `Backend`."""
        return machine_for(sweep, self._address, files)

    def choose_engine(
        self, sweep: Sweep, missing: Sequence[Cell], machine: Machine, sources: Mapping[Settings, Source]
    ) -> tuple[Sweep, str]:
        """See `Backend`."""
        from sweep.autotune.choose import choose_engine
        from sweep.autotune.microbenchmark import benchmark_processes

        return choose_engine(sweep, missing, machine, sources, benchmark_processes)

    def runner(self) -> "type[CellRunner]":
        """See `Backend`."""
        from sweep.tune.runner import TuneRunner

        return TuneRunner

    def at_once(self, sweep: Sweep, machine: Machine) -> int:
        """See `Backend`."""
        from sweep.tune.resources import resources_for

        return resources_for(sweep, machine).at_once


class InlineBackend(Backend):
    """This process, which runs one cell after the other. It needs no Ray."""

    def __init__(self, cores: int) -> None:
        """`cores`: the most cores to use; 0: all that this process may use."""
        self._cores = cores

    @contextmanager
    def session(self, sweep: Sweep) -> Iterator[None]:
        """See `Backend`."""
        os.environ.update(sweep.engine.variables)  # torch reads them when a GPU is first used
        yield

    def machines(self) -> Mapping[str, MachineEntry]:
        """See `Backend`."""
        machine = this_machine(self._cores)
        return {machine.id: MachineEntry.of(machine)}

    def first_machine(self, sweep: Sweep, files: Sequence[Path]) -> Machine:
        """See `Backend`."""
        return this_machine(self._cores)

    def choose_engine(
        self, sweep: Sweep, missing: Sequence[Cell], machine: Machine, sources: Mapping[Settings, Source]
    ) -> tuple[Sweep, str]:
        """See `Backend`. Only the engine is chosen: how many cells share a machine is left to commands with Ray."""
        from sweep.autotune.choose import choose_engine
        from sweep.autotune.measurement import in_this_process

        alone = replace(sweep, workers=1, gpu_share=1.0)
        chosen, text = choose_engine(alone, missing, machine, sources, in_this_process)
        return replace(sweep, engine=chosen.engine, measure_again=False), text

    def runner(self) -> "type[CellRunner]":
        """See `Backend`."""
        from sweep.tune.inline import InlineRunner

        return InlineRunner

    def at_once(self, sweep: Sweep, machine: Machine) -> int:
        """See `Backend`."""
        return 1


def this_machine(cores: int) -> Machine:
    """This machine with at most `cores` cores, unless 0, and the GPU that this process uses."""
    import torch  # here, because a driver with Ray does not import it

    gpu, usable = torch.cuda.is_available(), allocation(cores)
    return Machine(
        id="inline",
        name=socket.gethostname(),
        cores=usable.cores.amount,
        gpus=int(gpu),
        memory=usable.memory.amount,
        accelerator=torch.cuda.get_device_name() if gpu else "",
        processor=processor(),
        bf16=has_bf16(),
    )
