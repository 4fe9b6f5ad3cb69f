"""Cells that do not fit together with others run again, alone, and only then count as failed."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from analysis.records.io import read_records
from datasets.vts.config import CLASSES
from sweep.cluster import session
from sweep.monitor.progress import read_progress
from sweep.tune import runner
from sweep.tune.job import WorkerJob
from sweep.tune.progress_writer import ProgressWriter
from sweep.tune.resources import machines
from sweep.tune.runner import TuneRunner
from tests.sweep.tune.conftest import Silent
from trainables.engine import PLAIN


@pytest.mark.slow  # a whole sweep; tests/sweep/test_inline.py has the order without Ray
def test_a_cell_that_did_not_fit_runs_again_alone_and_the_others_do_not(sweep, stop, tmp_path, monkeypatch, capsys):
    cells = sweep.cells()
    crowded, hopeless = cells[1], cells[2]

    def train(config, *, job, features):
        # Nested, so that workers get it by value.
        import time

        from ray import tune

        from sweep.tune.retries import bare_record
        from trainables.cell import Cell

        cell = Cell(**config["cell"])
        tries = Path(job.cell_jobs[cell.recipe].source.files[0], cell.key)
        tries.write_text(json.dumps([*json.loads(tries.read_text() if tries.exists() else "[]"), time.time()]))
        again = len(json.loads(tries.read_text())) > 1
        if cell == hopeless or (cell == crowded and not again):
            tune.report({"error": "OutOfMemoryError: too large", "traceback": "a\nb", "kind": "out of memory"})
            return
        scores = {"test_f1_macro": 0.5, "test_miou": 0.5, "test_accuracy": 0.5, "seconds": 1.0}
        record = bare_record(cell).with_values({"status": "done", **scores})
        tune.report({"record": record, "curves": [], "examples": []})

    monkeypatch.setattr(runner, "train_cell", train)
    tries = tmp_path / "tries"
    tries.mkdir()
    source = SimpleNamespace(files=(tries,), classes=CLASSES, fingerprint="d", title="s", notes=())
    states = dict.fromkeys([cell.key for cell in cells])
    run_dir = sweep.run_dir
    run_dir.logs.mkdir(parents=True)
    with session.ray_session(PLAIN), ProgressWriter(run_dir, states, machines) as progress:
        given = (
            sweep,
            WorkerJob.of(sweep, {sweep.recipe.data: source}),
            session.first_machine(1),
            run_dir,
            Silent(),
            stop,
        )
        outcome = TuneRunner(*given, progress=progress).run(cells)
    said = read_progress(run_dir.progress)
    assert (said.driver.stage, said.planned, said.done, said.failed) == ("ended", len(cells), len(cells) - 1, 1)
    assert said.used.cells == len(cells)
    assert 0 < said.used.seconds <= said.used.core_seconds
    assert said.nodes[0].alive
    times = {cell: json.loads((tries / cell.key).read_text()) for cell in cells}
    assert {cell for cell, found in times.items() if len(found) == 2} == {crowded, hopeless}
    assert all(len(found) <= 2 for found in times.values())
    first_round = max(found[0] for found in times.values())
    assert all(found[1] > first_round for found in times.values() if len(found) == 2)
    records = read_records(sweep.out).set_index("key")
    assert set(records.index[records.status == "done"]) == {cell.key for cell in cells} - {hopeless.key}
    reason = "OutOfMemoryError: too large (out of memory, tried 2 times; logs/sweep.log)"
    assert outcome.failures == {hopeless.key: reason}
    assert records.error[hopeless.key] == f"{reason} | a | b"
    assert outcome.counts == {"out of memory": 3}
    said = capsys.readouterr().out
    assert said.count("runs again alone, at the end: OutOfMemoryError") == 2
    assert said.count("failed: OutOfMemoryError") == 1


@pytest.fixture(autouse=True)
def root_on_the_path(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
