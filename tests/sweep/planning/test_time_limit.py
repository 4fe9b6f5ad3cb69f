"""`--time-left`: what fits is begun, what would fit a later command is not, what fits none goes on by checkpoints."""

import time

import pytest

from datasets.errors import InputError
from sweep.cluster.slurm_job import NOTICE, Job, seconds_left
from sweep.planning import time_limit
from sweep.planning.time_limit import TimeLimit, TimeSpan, describe_late
from sweep.presets import preset
from sweep.storage.run_dir import RunDir


@pytest.fixture
def limit(tmp_path, monkeypatch):
    """A limit of 100 s of which some have passed, for cells that take as long as is said."""

    def made(passed, seconds):
        made = TimeLimit(TimeSpan(began=1000.0, seconds=100.0), SWEEP, RunDir(tmp_path), clock=lambda: 1000.0 + passed)
        monkeypatch.setattr(made, "expected", lambda cell: seconds)
        return made

    return made


SWEEP = preset("vts-smoke")
CELL = SWEEP.cells()[0]


@pytest.mark.parametrize(
    ("passed", "seconds", "begins"),
    [(0, 100, True), (20, 80, True), (20, 81, False), (99.9, 100, False), (99.9, 101, True), (200, None, True)],
)
def test_a_cell_is_left_if_it_does_not_fit_now_but_would_fit_a_whole_command(limit, passed, seconds, begins):
    assert limit(passed, seconds).allows(CELL) == begins


def test_a_cell_with_a_checkpoint_goes_on(limit, tmp_path):
    place = RunDir(tmp_path).cell_checkpoints(CELL.key)
    place.mkdir(parents=True)
    assert not limit(20, 90).allows(CELL)
    (place / "probe-3.ckpt").touch()
    assert limit(20, 90).allows(CELL)


def test_times_are_those_of_recorded_cells_of_the_same_kind(smoke, tmp_path):
    limit = TimeLimit(TimeSpan(began=time.time(), seconds=1e9), SWEEP, RunDir(smoke[0]))
    assert all((limit.expected(cell) or 0) > 0 for cell in SWEEP.cells())
    assert TimeLimit(TimeSpan(began=0.0, seconds=1.0), SWEEP, RunDir(tmp_path)).expected(CELL) is None


def test_a_fitting_plan_comes_first(tmp_path, monkeypatch):
    class Plan:
        parts = ("moco",)

        def cell_seconds(self, variant):
            return 7.0

    monkeypatch.setattr(time_limit, "read_plan", lambda root: Plan())
    monkeypatch.setattr(time_limit, "difference_from", lambda plan, sweep: None)
    moco = next(cell for cell in SWEEP.cells() if cell.objective == "moco")
    limit = TimeLimit(TimeSpan(began=time.time(), seconds=5.0), SWEEP, RunDir(tmp_path))
    assert limit.expected(moco) == 7.0
    assert "1 cells are left for a later command" in describe_late(limit, [moco])
    assert "takes about 7 s" in describe_late(limit, [moco])


def test_minutes_and_the_end_of_the_job():
    assert seconds_left("1.5", {}) == 90.0
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(time.time() + 1000)}
    assert seconds_left("auto", job) == pytest.approx(1000 - NOTICE, abs=5)
    assert seconds_left("auto", job | {"SLURM_JOB_END_TIME": "1"}) == 0.0


@pytest.mark.parametrize("asked", ["0", "-1", "nan", "inf", "soon", "auto"])
def test_what_is_no_time_is_refused_in_one_line(asked):
    with pytest.raises(InputError, match="give minutes"):
        seconds_left(asked, {})


def test_a_task_of_an_array_has_a_name_of_its_own():
    """The number of an array is also that of one of its tasks: it would name them all."""
    array = {"SLURM_JOB_ID": "9", "SLURM_ARRAY_JOB_ID": "9", "SLURM_ARRAY_TASK_ID": "2", "SLURM_JOB_END_TIME": "5"}
    assert Job.of(array) == Job(id="9_2", nodes="", ends=5.0)
    assert Job.of({}) is None


def test_older_versions_of_slurm_are_asked_for_the_end(monkeypatch):
    from sweep.cluster import slurm_job

    monkeypatch.setattr(slurm_job, "ask", lambda *words: "2030-01-02T03:04:05")
    assert time.localtime(Job.of({"SLURM_JOB_ID": "7"}).ends)[:6] == (2030, 1, 2, 3, 4, 5)
    monkeypatch.setattr(slurm_job, "ask", lambda *words: "NONE")
    assert Job.of({"SLURM_JOB_ID": "7"}).ends == float("inf")
