"""The report of a worker becomes a record, or the reason why there is none."""

from dataclasses import replace

import numpy as np

from analysis.records.io import read_records, recorded_keys, write_record
from analysis.records.predictions import read_predictions
from sweep.presets import preset
from sweep.tune.retries import bare_record
from tests.sweep.tune.conftest import PROVENANCE, trial


def report(recorder, cell, examples=(), **scores):
    usual = {"test_f1_macro": 0.5, "test_miou": 0.5, "test_accuracy": 0.5, "status": "done", "seconds": 1.0}
    result = {"record": bare_record(cell).with_values(usual | scores), "curves": [], "examples": list(examples)}
    recorder.tracker.on_trial_result(0, [], trial(cell), result)


def test_a_row_that_is_no_record_is_its_cells_fault_and_stops_nothing(recorder, tmp_path, capsys):
    bad, good = preset("vts-smoke").cells()[:2]
    report(recorder, bad, test_accuracy=float("nan"))
    report(recorder, good)
    assert recorder.unwritable is None
    assert "null in test_accuracy" in recorder.failures[bad.key]
    assert read_records(tmp_path / "out").key.tolist() == [good.key]
    assert "failed: not recorded" in capsys.readouterr().out


def test_a_disk_that_cannot_be_written_stops_the_sweep(recorder, tmp_path):
    (tmp_path / "out").write_text("no folder")
    cell = preset("vts-smoke").cells()[0]
    report(recorder, cell)
    assert "cannot be written" in str(recorder.unwritable)
    assert cell.key in recorder.failures


def test_classified_images_are_shown_by_accuracy(make_recorder, sweep, capsys):
    recorder = make_recorder(replace(PROVENANCE, task="classification"))
    report(recorder, preset("vts-smoke").cells()[0], test_accuracy=0.25)
    assert "test accuracy  25.0 %" in capsys.readouterr().out
    assert set(recorded_keys(sweep.out).status.values()) == {"done"}


def test_a_collapsed_cell_is_marked_where_it_ends(recorder, capsys):
    fine, collapsed = preset("vts-smoke").cells()[:2]
    report(recorder, fine, collapsed=False)
    report(recorder, collapsed, collapsed=True)
    lines = capsys.readouterr().out.splitlines()
    assert [", collapsed" in line for line in lines] == [False, True]
    assert "test F1  50.0 %, collapsed" in lines[1]


def test_predictions_are_there_before_the_record_that_says_done(recorder, tmp_path, monkeypatch):
    flat = np.zeros((2, 2), np.uint8)
    example = {"number": 7, "image": np.ones((2, 2, 3), np.uint8), "truth": flat, "predicted": flat}
    cell = preset("vts-smoke").cells()[0]

    def found(folder, row, *rest):
        assert [one.number for one in read_predictions(folder, [row["key"]])] == [7]
        return write_record(folder, row, *rest)

    monkeypatch.setattr("sweep.tune.recorder.write_record", found)
    report(recorder, cell, examples=[example])
    assert recorder.recorded == {cell.key}
