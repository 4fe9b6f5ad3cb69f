"""`progress.json`: written in time, continued by the next command, refused with one line if it is damaged."""

import json
from types import SimpleNamespace

import pytest

from datasets.errors import InputError
from sweep.monitor import progress
from sweep.monitor.progress import MachineEntry, Used, read_progress
from sweep.presets import preset
from sweep.storage.run_dir import RunDir
from sweep.tune.progress_writer import ProgressWriter
from sweep.tune.tracker import TrialTracker

ONE, TWO = preset("vts-smoke").cells()[:2]
MACHINE = MachineEntry(name="a", cpus=8, gpus=2, gpu="H100")
HEAD = MachineEntry(name="head", cpus=0, gpus=0)


class Command:
    """A command with its own clock, whose cells start and end at the test's request."""

    def __init__(self, path, nodes=None):
        self.now = 1000.0
        self.nodes = {"1": MACHINE, "2": HEAD} if nodes is None else nodes
        self.recorder = SimpleNamespace(recorded=set(), failures={})
        self.tracker = TrialTracker()
        self.writer = ProgressWriter(
            RunDir(path.parent), {ONE.key: None, TWO.key: None}, lambda: self.nodes, clock=lambda: self.now
        )
        self.path = path

    def follow(self):
        self.tracker.listeners = [self.writer.follow(self.tracker, self.recorder)]

    def start(self, cell):
        self.tracker.on_trial_start(0, [], self.trial(cell))

    def end(self, cell, failure=None):
        self.recorder.recorded.add(cell.key)
        if failure:
            self.recorder.failures[cell.key] = failure
        self.tracker.on_trial_complete(0, [], self.trial(cell))

    def wait(self, seconds):
        self.now += seconds
        self.tracker.on_step_end(0, [])

    def trial(self, cell):
        return SimpleNamespace(trial_id=cell.key, config={"cell": vars(cell)}, num_failures=1, max_failures=9)

    @property
    def said(self):
        return read_progress(self.path)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "progress.json"


def test_what_goes_on_is_told_every_ten_seconds_and_when_a_cell_ends(path):
    command = Command(path)
    with command.writer:
        assert command.said.driver.stage == "starting"
        assert command.said.nodes == (MACHINE, HEAD)
        command.follow()
        assert command.said.driver.stage == "running"
        command.start(ONE)
        command.wait(9)
        assert not command.said.running
        command.wait(1)
        (running,) = command.said.running
        assert (running.key, running.cell, running.objective) == (ONE.key, str(ONE), ONE.objective)
        command.start(TWO)
        command.now += 2
        command.end(ONE)
        assert (command.said.done, command.said.failed, command.said.most) == (1, 0, 2)
        assert [one.key for one in command.said.running] == [TWO.key]
        command.now += 2
        command.end(TWO, "diverged")
    assert (command.said.planned, command.said.done, command.said.failed) == (2, 1, 1)
    assert command.said.driver.stage == "ended"


def test_how_busy_the_machine_is_is_told(path, monkeypatch):
    monkeypatch.setattr("os.getloadavg", lambda: (10.0, 1.0, 1.0))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    command = Command(path)
    with command.writer:
        assert command.said.driver.load_per_core == 5.0
        monkeypatch.setattr("os.getloadavg", lambda: (0.1, 1.0, 1.0))
        command.follow()
        assert command.said.driver.load_per_core == 1.0


def test_machine_time_counts_while_cells_run_and_is_summed_over_commands(path):
    for _ in range(2):
        command = Command(path)
        with command.writer:
            command.wait(1000)  # the machine is measured
            command.follow()
            command.wait(50)  # for a worker
            command.start(ONE)
            command.wait(100)
            command.nodes = {"2": HEAD}  # noticed at the next look only
            command.wait(10)
            command.wait(30)
            command.end(ONE)
            command.wait(500)
    used = command.said.used
    assert used == Used(seconds=280, node_seconds=500, core_seconds=1760, gpu_seconds=440, cells=2)
    assert {node.name: node.alive for node in command.said.nodes} == {"a": False, "head": True}


def test_a_lost_worker_is_not_running_until_it_begins_again(path):
    command = Command(path)
    with command.writer:
        command.follow()
        command.start(ONE)
        command.now += 5
        command.tracker.on_trial_recover(0, [], command.trial(ONE))
        assert not command.said.running
        assert command.said.done == 0


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "\x00\xff", '{"schema": 1}', "null", "9" * 5000, "[" * 100_000, '{"schema": 2}']
)
def test_a_damaged_file_is_one_line_and_the_next_command_counts_anew(path, text):
    path.write_text(text)
    with pytest.raises(InputError, match="delete it") as error:
        read_progress(path)
    assert "\n" not in str(error.value)
    command = Command(path)
    assert "this command writes a new one" in command.writer.warning
    with command.writer:
        assert command.said.used == Used()


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("schema",), 2),
        (("used", "seconds"), -1.0),
        (("used", "seconds"), "NaN"),
        (("driver", "began"), "2026-11-24T15:00:00"),
        (("driver", "stage"), "dreaming"),
        (("nodes", 0, "cpus"), None),
        (("more",), 1),
    ],
)
def test_no_value_is_taken_that_cannot_be(path, where, value):
    with Command(path).writer:
        pass
    content = json.loads(path.read_text())
    part = content
    for step in where[:-1]:
        part = part[step]
    part[where[-1]] = value
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match="damaged or of another version"):
        read_progress(path)


def test_a_full_disk_is_logged_once_and_stops_nothing(path, monkeypatch, caplog):
    def full(where, content):
        raise OSError(28, "No space left on device")

    command = Command(path)
    with command.writer:
        command.follow()
        monkeypatch.setattr(progress, "write_progress", full)
        command.start(ONE)
        for _ in range(3):
            command.wait(20)
        assert caplog.text.count("No space left") == 1
        monkeypatch.undo()
        command.wait(20)
    assert command.said.used.seconds == 80


def test_where_there_is_none_nothing_is_said(path):
    assert read_progress(path) is None
    assert Command(path).writer.warning == ""
