"""`python -m sweep.status`: correct during a sweep, after it, and after an interruption."""

import json
import math
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from analysis.records.io import compact, write_record
from analysis.records.schema import empty_row
from analysis.text import duration
from sweep import status
from sweep.monitor.progress import Driver, MachineEntry, Progress, Running, SlurmJob, Used, write_progress
from sweep.monitor.snapshot import RecordRow, take_snapshot
from sweep.monitor.time_left import estimate_time_left
from sweep.prepare import claim
from sweep.presets import preset
from sweep.status import main, render
from sweep.storage.run_dir import RunDir
from tests.helpers.command import ROOT

SWEEP = preset("vts-smoke")
CELLS = SWEEP.cells()
MOCO = [cell for cell in CELLS if cell.objective == "moco"]
NOW = datetime(2026, 11, 24, 15, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def record(folder, cell, seconds=60.0, ended=NOW, **changes):
    row = empty_row(("a",)) | cell.coordinates
    row |= {"key": cell.key, "status": "done", "version": "0", "task": "segmentation", "seconds": seconds}
    row |= {"started": (ended - timedelta(seconds=seconds)).isoformat(timespec="milliseconds")}
    row |= {"test_f1_macro": 0.5, "test_miou": 0.5, "test_accuracy": 0.5, "test_f1_a": 0.5}
    write_record(folder, row | changes, ("a",))


def tell(
    folder,
    *,
    stage="running",
    heard=4.0,
    began=NOW - 90 * MINUTE,
    running=(),
    process=1,
    host="far",
    load_per_core=1.0,
    job=None,
    to=None,
    **more,
):
    driver = Driver(
        host=host,
        process=process,
        command="python -m sweep.run vts-smoke --out o",
        began=began,
        updated=NOW - timedelta(seconds=heard),
        stage=stage,
        load_per_core=load_per_core,
        job=job,
    )
    usual = {"planned": 7, "done": 0, "failed": 0, "most": 2, "used": Used()}
    usual |= {
        "nodes": (
            MachineEntry(name="a", cpus=8, gpus=2, gpu="H100"),
            MachineEntry(name="b", cpus=8, gpus=2, gpu="H100"),
        )
    }
    there = [
        Running(key=cell.key, cell=str(cell), objective=cell.objective, since=NOW - age * MINUTE)
        for cell, age in running
    ]
    write_progress(to or RunDir(folder).progress, Progress(driver=driver, running=tuple(there), **(usual | more)))


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "out"
    claim(RunDir(root), replace(SWEEP, out=root), ["data"])
    return root


def said(folder, price=None):
    return render(take_snapshot(folder, NOW), price, NOW)


def test_cells_are_counted_by_loss_and_each_once(folder):
    record(folder, CELLS[0])
    record(folder, CELLS[1], status="failed", error="no (error in the cell, tried twice; logs/sweep.log) | File x")
    record(folder, replace(CELLS[0], seed=99))
    tell(folder, running=[(CELLS[2], 3), (CELLS[1], 1)])
    found = take_snapshot(folder, NOW)
    assert (found.planned, found.total("done"), found.total("failed")) == (7, 1, 1)
    assert (found.total("missing"), found.total("running")) == (5, 2)
    assert found.beyond == 1
    text = said(folder)
    assert "1 of 7 cells done, 1 failed, 5 missing" in text
    assert f"failed    {CELLS[1]}: no" in text
    assert f"running   {CELLS[2]}, 3 min" in text
    assert "File x" not in text


def test_cells_that_have_collapsed_are_named(folder):
    record(folder, CELLS[0], collapsed=True)
    record(folder, CELLS[1], collapsed=False)
    record(folder, CELLS[2])
    assert take_snapshot(folder, NOW).collapsed == (str(CELLS[0]),)
    assert f"collapsed {CELLS[0]}\n" in said(folder) + "\n"


@pytest.mark.parametrize(
    ("stage", "heard", "state", "words"),
    [
        ("running", 4, "running", "running on far (process 1) since"),
        ("running", 119, "running", "last update 2 min ago"),
        ("running", 720, "cut off", "no update for 12 min; the same command resumes the sweep"),
        ("running", -600, "running", "its clock is 10 min ahead"),
        ("starting", 720, "starting", "starting on far"),
        ("starting", 7200, "cut off", "interrupted on far"),
        ("ended", 7200, "ended", "ended on far (process 1) 2.0 h ago"),
    ],
)
def test_the_driver_is_believed_for_as_long_as_it_may_be_silent(folder, stage, heard, state, words):
    tell(folder, stage=stage, heard=heard)
    assert take_snapshot(folder, NOW).state == state
    text = said(folder)
    assert words in text
    assert ("resume    python -m sweep.run vts-smoke --out o (on far)" in text) == (state in ("cut off", "ended"))


def test_the_driver_of_a_busy_machine_is_believed_for_longer(folder):
    for heard, state in ((590, "running"), (610, "cut off")):
        tell(folder, heard=heard, load_per_core=5.0)
        assert take_snapshot(folder, NOW).state == state


def test_a_file_that_does_not_tell_how_busy_the_machine_was_is_read(folder):
    tell(folder)
    file = RunDir(folder).progress
    written = json.loads(file.read_text())
    assert written["driver"].pop("load_per_core") == 1.0
    file.write_text(json.dumps(written))
    assert take_snapshot(folder, NOW).state == "running"


def test_a_slurm_job_is_shown_with_its_nodes_and_time_while_it_runs(folder, monkeypatch):
    monkeypatch.setattr(status, "state", lambda job: "RUNNING")
    job = SlurmJob(id="7_3", nodes="n[1-2]", ends=NOW + 90 * MINUTE)
    tell(folder, job=job)
    assert "job       7_3 (RUNNING) on n[1-2], 90 min left" in said(folder)
    tell(folder, job=job.model_copy(update={"ends": None}))
    assert "without a time limit" in said(folder)
    tell(folder, job=job, stage="ended")
    assert "7_3" not in said(folder)


def test_commands_that_share_the_folder_are_shown_together_without_those_that_are_gone(folder):
    tell(folder, stage="ended", used=Used(seconds=10, cells=1))
    for name, host, heard, cell in (
        ("a", "one", 3, CELLS[0]),
        ("b", "two", 5, CELLS[1]),
        ("c", "dead", 9999, CELLS[2]),
    ):
        to = RunDir(folder, shard=name).progress
        tell(folder, host=host, heard=heard, running=[(cell, 1)], used=Used(seconds=10, cells=2), to=to)
    snapshot = take_snapshot(folder, NOW)
    assert snapshot.state == "running"
    assert [driver.host for driver in snapshot.drivers] == ["one", "two"]
    assert {one.key for one in snapshot.progress.running} == {CELLS[0].key, CELLS[1].key}
    assert (snapshot.progress.most, snapshot.progress.used.cells) == (4, 7)
    assert "sharing   one (process 1)" in said(folder)
    for name in ("a", "b"):
        RunDir(folder, shard=name).progress.unlink()
    assert take_snapshot(folder, NOW).state == "cut off"


def test_the_command_that_resumes_a_moved_folder_names_its_new_place(folder, tmp_path):
    tell(folder, stage="ended")
    moved = folder.rename(tmp_path / "its new place")
    assert f"resume    python -m sweep.run vts-smoke --out o --out '{moved}' (on far)" in said(moved)


def test_a_process_of_this_machine_that_is_gone_was_cut_off(folder):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    tell(folder, heard=30, host=socket.gethostname(), process=process.pid)
    assert take_snapshot(folder, NOW).state == "cut off"
    tell(folder, heard=30, host=socket.gethostname(), process=os.getpid())
    assert take_snapshot(folder, NOW).state == "running"


def test_rates_are_of_the_last_hour_and_of_all_time_in_which_cells_ran(folder):
    for cell, minutes in zip(CELLS[:4], (5, 30, 59, 80), strict=True):
        record(folder, cell, ended=NOW - minutes * MINUTE)
    tell(folder, heard=0, used=Used(seconds=7200, cells=10))
    found = take_snapshot(folder, NOW)
    assert found.last_hour == pytest.approx(3)
    assert found.overall == pytest.approx(5)
    tell(folder, heard=0, began=NOW - 30 * MINUTE)  # by another command than the cells before
    assert take_snapshot(folder, NOW).last_hour == pytest.approx(2)
    tell(folder, heard=0, began=NOW)
    assert take_snapshot(folder, NOW).last_hour is None


def test_time_left_is_that_of_equal_cells(folder):
    """Five cells of 100 s, one of which has run for 60 s, two at a time."""
    rows = {cell: 100.0 for cell in CELLS if cell.objective != "within_image"}
    for cell, seconds in rows.items():
        record(folder, cell, seconds=seconds)
    found = take_snapshot(folder, NOW)
    left = found.left
    assert left.guessed == ("within_image",)
    assert left.cells == len(rows)
    assert left.at_once == 1
    record(folder, next(cell for cell in CELLS if cell.objective == "within_image"), seconds=100)
    (last,) = [cell for cell in CELLS if cell.objective == "within_image"][1:]
    left = take_snapshot(folder, NOW).left
    assert left.seconds == pytest.approx(100)
    assert left.low < 100 < left.high
    tell(folder, running=[(last, 1)])
    left = take_snapshot(folder, NOW).left
    assert left.seconds == pytest.approx(40)
    assert "about 40 s (0 s to" in said(folder)


def test_time_left_has_less_doubt_the_more_is_recorded():
    cells = [replace(MOCO[0], seed=seed) for seed in range(100)]

    def left(count):
        seconds = [("moco", 90.0 + 20 * (number % 2)) for number in range(count)]
        return estimate_time_left(cells, seconds, (), NOW)

    few, many = left(2), left(50)
    assert few.seconds == many.seconds == pytest.approx(10_000)
    assert few.high - few.low > 2 * (many.high - many.low) > 0


def test_the_last_of_equal_cells_takes_its_whole_time():
    cells = [replace(MOCO[0], seed=seed) for seed in range(3)]
    left = estimate_time_left(cells, [("moco", 100.0), ("moco", 100.0)], (), NOW, at_once=2)
    assert (left.seconds, left.at_once) == (200, 2)
    begun = [Running(key=cell.key, cell="", objective="moco", since=NOW - MINUTE) for cell in cells[1:]]
    assert estimate_time_left(cells, [("moco", 100.0), ("moco", 100.0)], begun, NOW).seconds == 140


def test_before_the_first_record_no_time_is_told(folder):
    tell(folder)
    assert "remaining unknown until the first cell is recorded" in said(folder)


def test_cost_is_gpu_hours_times_the_price_and_machine_hours_where_there_are_no_gpus(folder):
    tell(folder, used=Used(seconds=3600, node_seconds=7200, core_seconds=57600, gpu_seconds=14400, cells=1))
    assert "2 machine hours, 16 core hours, 4 GPU hours while cells ran" in said(folder).splitlines()[-1]
    assert "while cells ran: 10.00 USD" in said(folder, 2.5)
    record(folder, CELLS[0], seconds=3600)
    hours = take_snapshot(folder, NOW).left.seconds / 3600
    assert f", and about {4 * 2.5 * hours:.2f} USD for the remaining cells" in said(folder, 2.5)
    assert "machines  2 machines of 8 cores, 2 x H100 (a, b)" in said(folder)
    tell(folder, used=Used(node_seconds=7200, core_seconds=57600), nodes=(MachineEntry(name="a", cpus=8, gpus=0),))
    assert f"while cells ran: 5.00 USD, and about {2.5 * hours:.2f} USD" in said(folder, 2.5)


def test_a_record_that_cannot_be_read_is_named_and_counts_as_missing(folder):
    record(folder, CELLS[0])
    record(folder, CELLS[1])
    victim = next(folder.rglob(f"{CELLS[1].key}.parquet"))
    victim.write_bytes(victim.read_bytes()[:100])
    assert take_snapshot(folder, NOW).total("missing") == 6
    assert f"damaged   {victim}" in said(folder)


def test_a_folder_that_was_copied_tells_the_same_and_nothing_is_written(folder, tmp_path):
    record(folder, CELLS[0])
    tell(folder)
    before = sorted(folder.rglob("*"))
    shutil.copytree(folder, tmp_path / "copy")
    assert said(folder) == said(tmp_path / "copy")
    assert sorted(folder.rglob("*")) == before


def test_a_complete_sweep_is_not_to_be_gone_on_with(folder):
    for cell in CELLS:
        record(folder, cell)
    tell(folder, stage="ended")
    text = said(folder)
    assert "7 of 7 cells done" in text
    assert "resume" not in text
    assert "remaining" not in text


def test_failed_cells_are_run_again_with_a_flag(folder):
    for cell in CELLS:
        record(folder, cell, status="failed", error="no")
    tell(folder, stage="ended")
    assert "retry     python -m sweep.run vts-smoke --out o --retry-failed: runs the failed cells" in said(folder)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("progress.json", "{", "progress.json is damaged"),
        ("sweep.yaml", "[", "not valid YAML"),
        ("sweep.yaml", None, "there is no sweep.yaml in this folder"),
    ],
)
def test_a_mistake_is_one_line(folder, name, content, message, capsys):
    (folder / name).unlink(missing_ok=True)
    if content is not None:
        (folder / name).write_text(content)
    assert main([str(folder)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("sweep.status: ")
    assert error.count("\n") == 1


def test_json_is_one_object_with_the_same_numbers(folder, capsys):
    record(folder, CELLS[0])
    tell(folder, used=Used(gpu_seconds=7200))
    assert main([str(folder), "--json", "--price", "3"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert (found["planned"], found["done"], found["missing"]) == (7, 1, 6)
    assert found["losses"]["moco"]["done"] == 1
    assert found["cost"] == 6
    assert found["progress"]["driver"]["host"] == "far"


def test_watching_ends_with_the_sweep(folder, capsys):
    record(folder, CELLS[0])
    tell(folder, stage="ended")
    assert main([str(folder), "--watch", "0.01"]) == 0
    assert "\x1b" not in capsys.readouterr().out


def test_a_name_cannot_control_the_terminal(folder):
    tell(folder, host="a\x1b[2Jb")
    done = command(folder)
    assert done.returncode == 0
    assert "a [2Jb" in done.stdout


def test_it_needs_neither_ray_nor_torch_nor_mlflow(folder):
    tell(folder)
    code = "import sys, sweep.status as s; s.main(sys.argv[1:]); print([m for m in sys.modules if m in NAMES])"
    code = code.replace("NAMES", "('ray', 'torch', 'mlflow')")
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.endswith("[]\n"), done.stderr


def command(*words):
    return subprocess.run(
        [sys.executable, "-m", "sweep.status", *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("seconds", "words"), [(-1, "0 s"), (99, "99 s"), (100, "2 min"), (7200, "2.0 h"), (200_000, "2.3 days")]
)
def test_spans_are_as_one_says_them(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize("seconds", [math.nan, 1e300, -1e300, 1e12])
def test_a_record_of_impossible_seconds_has_no_end(seconds):
    row = RecordRow(key="k", status="done", seconds=seconds, started="2026-11-24T12:00:00+00:00", error=None)
    assert row.ended is None


def test_a_copy_of_the_summary_alone_tells_the_same(folder):
    record(folder, CELLS[0])
    record(folder, CELLS[1], status="failed", error="no")
    before = said(folder)
    compact(folder)
    shutil.rmtree(folder / "records")
    assert said(folder) == before
    assert "1 of 7 cells done, 1 failed" in before
