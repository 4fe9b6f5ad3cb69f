"""A worker without a sign of life is killed, so that Ray begins its cell anew, which goes on from its checkpoint."""

import logging
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import ray
from ray.tune import Callback
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.tune.console import Terminal
from trainables.cell import Cell

log = logging.getLogger(__name__)

GAP = 10.0
"""Seconds that a turn of Ray's loop takes at most: if it took longer, it is the driver that was away."""

Place = tuple[int, str]
"""A worker's process, and Ray's name of its node."""


@dataclass
class _Sign:
    cell: Cell
    seen: float
    place: Place | None = None


class Watch(Callback):
    """Notes when each running cell was last heard of. A worker tells where it runs before it does anything else."""

    def __init__(
        self,
        patience: float,
        terminal: Terminal,
        *,
        kill: Callable[[Place], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`patience` in seconds; `kill` and `clock` for tests."""
        self._patience, self._terminal = patience, terminal
        self._kill, self._clock = kill or kill_worker, clock
        self._signs: dict[str, _Sign] = {}
        self._turn = clock()
        self.killed = 0
        """Workers killed so far."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune writes its callbacks down for a restore that is never asked for."""
        return {}

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A cell begins, or begins again."""
        self._signs[trial.trial_id] = _Sign(Cell(**trial.config["cell"]), self._clock())

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """A cell is heard of."""
        if sign := self._signs.get(trial.trial_id):
            sign.seen = self._clock()
            sign.place = result.get("worker", sign.place)

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A worker was lost: nothing is to be heard before the cell begins again."""
        self._signs.pop(trial.trial_id, None)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A cell has ended."""
        self._signs.pop(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Ray gave a cell up."""
        self._signs.pop(trial.trial_id, None)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """Once a turn of Ray's loop."""
        now = self._clock()
        away = now - self._turn
        self._turn = now
        for sign in self._signs.values():
            if away > GAP:  # stopped with Ctrl-Z, say: what cells had to tell is yet to be heard
                sign.seen += away
            if now - sign.seen > self._patience and sign.place:
                sign.seen = now  # it is killed once, and again only if even that has no effect
                self.killed += 1
                reason = f"no sign of life for {self._patience:g} s: its worker is killed, and it goes on in another"
                log.error("%s: %s (process %d on node %s)", sign.cell, reason, *sign.place)
                self._terminal.note(f"{sign.cell!s:<46} {reason}")
                self._kill(sign.place)


def kill_worker(place: Place) -> None:
    """Kill -9 of a process on any node; nothing where it is gone already."""
    process, node = place
    if node == ray.get_runtime_context().get_node_id():
        _kill(process)
        return
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    ray.remote(num_cpus=0, max_retries=0)(_kill).options(scheduling_strategy=there).remote(process)


def _kill(process: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)
