"""A silent worker is killed. A reporting worker is not, nor one whose reports nobody has read."""

from types import SimpleNamespace

import pytest

from sweep.presets import preset
from sweep.tune.console import Console
from sweep.tune.tracker import TrialTracker
from sweep.tune.watchdog import Watchdog

ONE, TWO = preset("vts-smoke").cells()[:2]


class Sweep:
    """A watchdog with its own clock, and the list of killed workers."""

    def __init__(self, patience):
        self.now, self.killed, self.load_per_core = 1000.0, [], 1.0
        self.tracker = TrialTracker(clock=lambda: self.now)
        self.watchdog = Watchdog(
            self.tracker, patience, Console(), kill=self.killed.append, load_per_core=lambda: self.load_per_core
        )
        self.tracker.listeners = [self.watchdog]
        self.trials = {
            cell.key: SimpleNamespace(
                trial_id=cell.key, config={"cell": vars(cell)}, num_failures=1, max_failures=9, error_file=""
            )
            for cell in (ONE, TWO)
        }

    def start(self, cell, process):
        self.tracker.on_trial_start(0, [], self.trials[cell.key])
        self.hear(cell, worker=(process, "node"))

    def hear(self, cell, **result):
        self.tracker.on_trial_result(0, [], self.trials[cell.key], result)

    def wait(self, seconds, turn=1.0):
        for _ in range(int(seconds / turn)):
            self.now += turn
            self.tracker.on_step_end(0, [])


@pytest.fixture
def sweep():
    return Sweep(patience=30)


def test_only_the_silent_worker_is_killed_and_once(sweep, capsys):
    sweep.start(ONE, 11)
    sweep.start(TWO, 22)
    for _ in range(4):
        sweep.wait(10)
        sweep.hear(TWO, alive=True)
    assert sweep.killed == [(11, "node")]
    assert f"{ONE!s:<46} no report for 30 s: its worker is killed" in capsys.readouterr().out
    assert sweep.watchdog.killed == 1


def test_it_has_its_time_again_in_another_worker(sweep):
    sweep.start(ONE, 11)
    sweep.wait(31)
    sweep.tracker.on_trial_recover(0, [], sweep.trials[ONE.key])
    sweep.wait(100)  # until there is room for it
    assert sweep.killed == [(11, "node")]
    sweep.start(ONE, 12)
    sweep.wait(29)
    assert len(sweep.killed) == 1
    sweep.wait(2)
    assert sweep.killed == [(11, "node"), (12, "node")]


@pytest.mark.parametrize("end", ["on_trial_complete", "on_trial_error"])
def test_what_has_ended_is_not_waited_for(sweep, end):
    sweep.start(ONE, 11)
    getattr(sweep.tracker, end)(0, [], sweep.trials[ONE.key])
    sweep.wait(100)
    assert not sweep.killed


def test_a_driver_that_was_away_blames_nobody_for_it(sweep):
    sweep.start(ONE, 11)
    sweep.now += 3600
    sweep.tracker.on_step_end(0, [])
    sweep.wait(29)
    assert not sweep.killed
    sweep.wait(2)
    assert sweep.killed


def test_a_worker_that_never_said_where_it_is_cannot_be_killed(sweep):
    sweep.tracker.on_trial_start(0, [], sweep.trials[ONE.key])
    sweep.wait(100)
    assert not sweep.killed


def test_on_a_busy_machine_a_worker_has_as_much_more_time(sweep):
    """At a load of ten on two cores, also if it ends before the worker reports."""
    sweep.load_per_core = 5.0
    sweep.start(ONE, 11)
    sweep.wait(140)
    sweep.load_per_core = 1.0
    assert not sweep.killed
    sweep.wait(1)
    sweep.hear(ONE, alive=True)
    sweep.wait(29)
    assert not sweep.killed
    sweep.wait(2)
    assert sweep.killed == [(11, "node")]
    sweep.load_per_core = 5.0
    sweep.wait(149)
    assert len(sweep.killed) == 1
    sweep.wait(2)
    assert len(sweep.killed) == 2
