"""`--inline`: cells in the command's own process, with the records, checkpoints and exit codes of a sweep with Ray."""

import os
import signal
import subprocess
import sys
import threading
import time

import pandas as pd
import pytest

from analysis.records.io import read_curves, read_records
from analysis.records.predictions import read_predictions
from datasets.errors import InputError
from sweep.cli import parse
from sweep.config.yaml_io import from_yaml
from sweep.monitor.progress import read_progress
from sweep.storage.run_dir import RunDir
from tests.helpers.command import ROOT, call
from tests.sweep.test_run import results, runs

pytestmark = pytest.mark.usefixtures("torch_settings_stay")

WITHOUT_RAY = "import sys; sys.modules['ray'] = None; from sweep.cli import main; sys.exit(main(sys.argv[1:]))"
LONG = ("vts-smoke", "--inline", "--losses", "moco", "--rho", 0, "--pretrain.steps", 150, "--checkpoint-every", 0.2)


def test_where_ray_cannot_be_imported_a_sweep_has_the_same_bits_runs_and_files(smoke, tmp_path):
    folder = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, "vts-smoke", "--inline", "--no-report", "--out", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "running 7" in done.stdout
    pd.testing.assert_frame_equal(results(folder), results(smoke[0]), check_exact=True)
    pd.testing.assert_frame_equal(read_curves(folder), read_curves(smoke[0]), check_exact=True)
    keys = read_records(folder).key
    assert len(read_predictions(folder, keys)) == len(read_predictions(smoke[0], keys))
    assert len(runs(folder)[1]) == 8
    assert not RunDir(folder).checkpoints.exists()
    said = read_progress(RunDir(folder).progress)
    assert (said.driver.stage, said.done, said.most, said.used.cells) == ("ended", 7, 1, 7)
    assert from_yaml(folder / "sweep.yaml").engine == from_yaml(smoke[0] / "sweep.yaml").engine
    assert "nothing to run" in call("vts-smoke", "--out", folder).stdout


def signalled_at_a_checkpoint(folder, number, *words):
    """Call a command, and send it a signal when its folder has a checkpoint of a cell."""

    def send():
        due = time.monotonic() + 120
        while not RunDir(folder).cells_with_checkpoints() and time.monotonic() < due:
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=send)
    # Where the tests run in the background of a script, the shell has SIGINT ignored.
    before = signal.signal(number, signal.default_int_handler)
    thread.start()
    try:
        return call(*words, "--out", folder)
    finally:
        thread.join()
        signal.signal(number, before)


def test_a_signal_leaves_a_checkpoint_from_which_the_same_command_ends_with_the_same_bits(tmp_path):
    stopped = signalled_at_a_checkpoint(tmp_path / "stopped", signal.SIGINT, *LONG)
    assert stopped.returncode == 130, stopped.stdout + stopped.stderr
    assert "stopping: running cells write their checkpoints" in stopped.stdout
    assert "stopped, has a checkpoint" in stopped.stdout
    resumed = call(*LONG, "--out", tmp_path / "stopped")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "running 1, 1 of them from a checkpoint" in resumed.stdout
    assert call(*LONG, "--out", tmp_path / "whole").returncode == 0
    pd.testing.assert_frame_equal(results(tmp_path / "stopped"), results(tmp_path / "whole"), check_exact=True)


def test_a_cell_that_fails_or_lacks_memory_runs_once_more_after_all_others(fake_cells, tmp_path):
    def report_of(number, tried):
        kind = {0: "out of memory", 1: "error in the cell", 2: "error in the cell"}.get(number)
        return {"error": "E: no", "traceback": "", "kind": kind} if kind and (tried == 1 or number == 2) else None

    tries = fake_cells(report_of)
    done = call("vts-smoke", "--inline", "--out", tmp_path / "out")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "problems: 3 x error in the cell, 1 x out of memory" in done.stdout
    assert "1 of 7 cells are missing" in done.stdout
    first, second, hopeless, *others = tries.values()
    assert [len(times) for times in (first, second, hopeless, *others)] == [2, 2, 2, 1, 1, 1, 1]
    assert max(second[1], hopeless[1]) < first[1]  # what lacked memory comes last
    assert min(second[1], hopeless[1]) > max(times[0] for times in tries.values())
    assert sorted(read_records(tmp_path / "out").status) == ["done"] * 6 + ["failed"]


def test_a_process_that_can_run_no_further_cell_ends_in_one_line_and_loses_no_record(fake_cells, tmp_path):
    tries = fake_cells(lambda number, tried: RuntimeError("the device is gone") if number == 2 else None)
    done = call("vts-smoke", "--inline", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "the process stopped (the device is gone; see " in done.stderr
    assert "no record is lost" in done.stderr
    assert len(tries) == 3
    assert len(read_records(tmp_path / "out")) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--address", "auto"), "--inline and --address auto were both given: choose one"),
        (("--workers", "2"), "--workers 2: --inline runs one cell at a time; give --workers 1, or leave --inline out"),
        (("--plan",), "--plan times cells in Ray's workers: leave out --inline"),
    ],
)
def test_what_needs_ray_is_refused_before_anything_runs(words, said):
    with pytest.raises(InputError) as refusal:
        parse(["vts-smoke", "--inline", *words])
    assert str(refusal.value) == said
