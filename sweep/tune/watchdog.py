"""Kills a worker that is silent for too long. Ray then restarts its cell, which resumes from its checkpoint."""

import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from datasets.allocation import load_per_core
from sweep.tune.console import Console
from sweep.tune.running import CellListener, RunningCells, Worker

log = logging.getLogger(__name__)

LONGEST_STEP = 10.0
"""The most seconds that one step of Tune's loop takes. A longer step means that the driver itself was suspended."""


class Watchdog(CellListener):
    """Compares the silence of each running cell with the allowed time.

    On a busy machine time passes more slowly: with five programs for each core, a fifth of it counts.
    """

    def __init__(
        self,
        tracker: RunningCells,
        patience: float,
        console: Console,
        *,
        kill: Callable[[Worker], None] | None = None,
        load_per_core: Callable[[], float] = load_per_core,
    ) -> None:
        """Watch the cells of `tracker`. `patience` is in seconds, `kill` and `load_per_core` are for tests."""
        self._tracker, self._patience, self._console = tracker, patience, console
        self._kill, self._load_per_core = kill or kill_worker, load_per_core
        self._step = tracker.clock()
        self.killed = 0
        """The number of killed workers."""

    def step_ended(self) -> None:
        """Kill the workers that have been silent for longer than allowed."""
        now = self._tracker.clock()
        passed = now - self._step
        self._step = now
        # After a long step the driver was suspended, for example by Ctrl-Z: the reports of that time are still unread.
        counted = 0.0 if passed > LONGEST_STEP else passed / self._load_per_core()
        for running in self._tracker.running.values():
            running.last_report += passed - counted
            if now - running.last_report > self._patience and running.worker:
                running.last_report = now  # kills again only if this has no effect
                self.killed += 1
                reason = f"no report for {self._patience:g} s: its worker is killed, and the cell resumes in another"
                log.error("%s: %s (process %d on node %s)", running.cell, reason, *running.worker)
                self._console.print(f"{running.cell!s:<46} {reason}")
                self._kill(running.worker)


def kill_worker(worker: Worker) -> None:
    """Send SIGKILL to a process on any machine of the cluster. It is no error if the process has ended."""
    process, node = worker
    if node == ray.get_runtime_context().get_node_id():
        _kill(process)
        return
    placement = NodeAffinitySchedulingStrategy(node, soft=False)
    ray.remote(num_cpus=0, max_retries=0)(_kill).options(scheduling_strategy=placement).remote(process)


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
