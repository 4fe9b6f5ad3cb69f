"""Each kind of failure has its number of tries. The record of a failed cell says why."""

from types import SimpleNamespace

from analysis.records.io import read_records, recorded_keys
from analysis.text import failure_reason
from sweep.presets import preset
from sweep.summarize import recorded_errors, summarize
from sweep.tune.outcome import Outcome
from sweep.tune.retries import DIVERGED, ERROR, LOST, MEMORY, Failure
from tests.sweep.tune.conftest import trial

ONE, TWO = preset("vts-smoke").cells()[:2]
TRACE = 'Traceback (most recent call last):\n  File "a.py", line 1, in f\n    g(x)\n    ~^^^\nValueError: no\n'


def fail(recorder, cell, kind):
    recorder.tracker.on_trial_start(0, [], trial(cell))
    recorder.tracker.on_trial_result(0, [], trial(cell), {"error": "ValueError: no", "kind": kind, "traceback": TRACE})


def test_an_error_is_tried_once_more_beside_others_then_recorded_with_all_of_it(recorder, sweep):
    fail(recorder, ONE, ERROR)
    assert recorded_keys(sweep.out).status == {}
    assert recorder.take_again() == (ONE,)
    fail(recorder, ONE, ERROR)
    assert recorder.take_again() == ()
    assert recorder.take_postponed() == ()
    (row,) = read_records(sweep.out).to_dict("records")
    assert row["status"] == "failed"
    said = "ValueError: no (error in the cell, tried 2 times; logs/sweep.log)"
    last = ["Traceback (most recent call last):", 'File "a.py", line 1, in f', "g(x)", "ValueError: no"]
    assert row["error"] == " | ".join([said, *last])
    assert recorder.failures[ONE.key] == failure_reason(row["error"]) == said
    assert recorder.retries.counts == {ERROR: 2}


def test_lack_of_memory_is_tried_once_more_alone_then_recorded(recorder, sweep):
    fail(recorder, ONE, MEMORY)
    assert recorder.take_again() == ()
    assert recorder.take_postponed() == (ONE,)
    fail(recorder, ONE, MEMORY)
    assert recorded_keys(sweep.out).status == {ONE.key: "failed"}


def test_an_error_then_lack_of_memory_are_two_kinds(recorder, sweep):
    fail(recorder, ONE, ERROR)
    assert recorder.take_again() == (ONE,)
    fail(recorder, ONE, MEMORY)
    assert recorder.take_postponed() == (ONE,)
    fail(recorder, ONE, ERROR)
    assert "tried 3 times" in read_records(sweep.out).error[0]


def test_a_loss_that_is_not_finite_is_recorded_at_once(recorder, sweep):
    fail(recorder, ONE, DIVERGED)
    assert recorded_keys(sweep.out).status == {ONE.key: "failed"}
    assert "(loss not finite, tried once; " in recorder.failures[ONE.key]


def test_a_machine_that_is_lost_is_not_the_cells_fault(recorder, sweep):
    recorder.tracker.on_trial_start(0, [], trial(ONE))
    recorder.tracker.on_trial_recover(0, [], trial(ONE))
    recorder.tracker.on_trial_start(0, [], trial(ONE))
    recorder.tracker.on_trial_error(0, [], trial(ONE))
    assert recorder.take_postponed() == (ONE,)
    recorder.tracker.on_trial_error(0, [], trial(ONE))
    assert recorded_keys(sweep.out).status == {}
    assert "its worker was lost 11 times; see e.txt (machine lost, tried 2 times" in recorder.failures[ONE.key]
    assert recorder.retries.counts == {LOST: 3}


def test_a_sweep_that_is_stopping_tries_nothing_again_and_is_over_when_nothing_runs(recorder, stop, sweep):
    fail(recorder, ONE, ERROR)
    recorder.tracker.on_trial_start(0, [], trial(TWO))
    recorder.tracker.on_trial_complete(0, [], trial(ONE))
    stop.signal = 2
    assert not recorder.over
    recorder.tracker.on_trial_result(0, [], trial(TWO), {"stopped": True})
    recorder.tracker.on_trial_complete(0, [], trial(TWO))
    assert recorder.over
    assert recorder.failures[TWO.key] == "stopped"
    assert recorder.take_again() == ()
    assert recorded_keys(sweep.out).status == {}


def test_checkpoints_go_when_a_cell_is_recorded_and_no_earlier(recorder, sweep):
    place = sweep.run_dir.cell_checkpoints(ONE.key)
    place.mkdir(parents=True)
    (place / "probe-3.ckpt").touch()
    assert sweep.run_dir.cells_with_checkpoints() == {ONE.key}
    fail(recorder, ONE, ERROR)
    assert sweep.run_dir.cells_with_checkpoints() == {ONE.key}
    fail(recorder, ONE, ERROR)
    assert not place.exists()


def test_the_end_says_everything_in_one_place(recorder, sweep, capsys, tmp_path):
    fail(recorder, ONE, DIVERGED)
    fail(recorder, TWO, ERROR)
    capsys.readouterr()
    book = SimpleNamespace(uri="sqlite:///x", runs="#", fault=None)
    for failures in (recorder.failures, {}):  # of this command, and of an earlier one
        outcome = Outcome(failures=failures, counts=recorder.retries.counts)
        assert len(summarize(sweep, outcome, sweep.run_dir, book)) == 7
        said = capsys.readouterr().out
        assert "problems: 1 x error in the cell, 1 x loss not finite" in said
        assert f"  {ONE}: ValueError: no (loss not finite, tried once; logs/sweep.log)\n" in said
        assert "the same command runs the missing cells" in said
        assert "with --retry-failed it runs only the failed cells (1) once more" in said
    assert set(recorded_errors(sweep.out)) == {ONE.key}


def test_a_failure_is_one_line_whatever_it_was():
    for trace in ("", "\n\n", TRACE):
        assert "\n" not in Failure(kind=ERROR, reason="r", traceback=trace).text
