"""MLflow in the background: calls keep their order, and an error of MLflow stops and loses nothing."""

from urllib.parse import parse_qs

import pytest
from mlflow.exceptions import MlflowException

from sweep.presets import preset
from sweep.storage.run_dir import RunDir
from sweep.tracking import background as module
from sweep.tracking.background import BackgroundTracking


class Notes:
    """Stands for `Tracking`: lists its calls, and fails while `broken`."""

    experiment, parent = "1", "p"

    def __init__(self):
        self.told, self.broken = [], False

    def __getattr__(self, name):
        def tell(*what):
            if self.broken:
                raise MlflowException("gone")
            self.told.append((name, *what))

        return tell


@pytest.fixture
def notes(monkeypatch):
    made = Notes()
    monkeypatch.setattr(module, "connect", lambda uri, sweep, *, own, kind: made)
    return made


@pytest.fixture
def folder(tmp_path):
    return RunDir(tmp_path / "out")


SMOKE = preset("vts-smoke")
ONE, TWO = SMOKE.cells()[:2]


def test_what_is_told_is_written_in_order_and_curves_are_given_again_at_the_end(notes, folder):
    with BackgroundTracking(SMOKE, folder) as book:
        book.curves(ONE, [1])
        book.finish(ONE, {"status": "done"}, [1, 2])
        book.flush()
        book.start(TWO)
        book.end(True, {}, [])
        assert notes.told == [
            ("curves", ONE, [1]),
            ("curves", ONE, [1, 2]),
            ("finish", ONE, {"status": "done"}),
            ("start", TWO),
            ("end", True, {}, []),
        ]
        assert book.fault is None
        where, asked = book.runs.split("?")
        assert where == "#/experiments/1/runs"
        assert parse_qs(asked)["searchFilter"] == ["tags.`mlflow.parentRunId`='p'"]  # the cells of this sweep


@pytest.mark.parametrize(("server", "early"), [(None, []), ("http://127.0.0.1:9", [("curves", ONE, [1])])])
def test_commands_that_share_a_folder_write_to_a_server_at_once_and_to_a_database_in_turn(
    notes, folder, monkeypatch, server, early
):
    if server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    with BackgroundTracking(SMOKE, folder, shared=True) as book:
        book.curves(ONE, [1])
        book.flush()
        assert notes.told == early
        book.open()
        book.curves(TWO, [2])
        book.flush()
        assert notes.told == [*early, ("curves", TWO, [2])]


def test_nothing_is_connected_before_there_is_something_to_write(notes, folder):
    with BackgroundTracking(SMOKE, folder) as book:
        book.start(ONE)
        book.flush()
        assert notes.told == []
        assert book.runs == "#/experiments?workflowType=machine_learning"


def test_a_fault_is_told_left_alone_for_a_while_and_tried_again(notes, folder, monkeypatch):
    with BackgroundTracking(SMOKE, folder) as book:
        notes.broken = True
        book.curves(ONE, [1])
        book.flush()
        assert book.fault == "gone"
        notes.broken = False
        book.curves(ONE, [2])
        book.flush()
        assert notes.told == []
        monkeypatch.setattr(book, "_quiet_until", 0.0)
        book.finish(ONE, {}, [1, 2])
    assert notes.told == [("curves", ONE, [1, 2]), ("finish", ONE, {})]


def test_a_fault_that_nobody_foresaw_is_told_too(notes, folder):
    with BackgroundTracking(SMOKE, folder) as book:
        notes.told = None  # so that even noting fails
        book.curves(ONE, [1])
        book.flush()
        assert "append" in str(book.fault)
