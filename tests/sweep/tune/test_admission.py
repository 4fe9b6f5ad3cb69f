"""Which cells a command begins: in order, none of other drivers, none that is recorded, none that ends too late."""

import pytest

from sweep.storage.claims import Claims
from sweep.storage.run_dir import RunDir
from sweep.tune import admission
from sweep.tune.admission import Admission, CellQueue
from trainables.cell import Cell

CELLS = [Cell(objective="moco", seed=seed, recipe="r") for seed in range(4)]


@pytest.fixture
def drivers(tmp_path, monkeypatch):
    """Two drivers of one folder."""
    monkeypatch.setattr(admission, "PAUSE", 0.0)
    made = [Claims(tmp_path, "grid") for _ in range(2)]
    for one in made:
        one.enter()
    yield [RunDir(tmp_path, claims=one, shard=one.name) for one in made]
    for one in made:
        one.leave()


def test_without_other_drivers_and_limits_the_order_is_kept(tmp_path):
    for queue in (CellQueue(CELLS), CellQueue(CELLS, Admission(RunDir(tmp_path)))):
        assert [queue.take() for _ in range(5)] == [*CELLS, None]
        assert queue.is_over()


def test_two_drivers_share_the_cells_and_wait_for_those_that_the_other_has(drivers):
    one, two = (CellQueue(CELLS, Admission(run_dir)) for run_dir in drivers)
    assert [one.take(), two.take(), two.take(), one.take()] == CELLS
    assert one.take() is None
    assert not one.is_over()  # the other has not been seen alive since
    drivers[1].claims.give_back(CELLS[1].key)
    assert one.take() == CELLS[1]
    assert one.take() is None


def test_the_wait_ends_when_the_owner_was_seen_alive(drivers, monkeypatch):
    one, two = (CellQueue(CELLS[:1], Admission(run_dir)) for run_dir in drivers)
    assert two.take() == CELLS[0]
    assert one.take() is None
    renewals = iter([5.0, 5.0, 6.0])
    monkeypatch.setattr(Claims, "renewals", lambda self, keys: dict.fromkeys(keys, next(renewals)))
    assert [one.is_over() for _ in range(3)] == [False, False, True]


def test_a_cell_that_another_driver_has_recorded_meanwhile_is_left(drivers, monkeypatch):
    recorded = {CELLS[0].key}
    monkeypatch.setattr(admission, "is_recorded", lambda root, cell: cell["key"] in recorded)
    queue = CellQueue(CELLS[:2], Admission(drivers[0]))
    assert queue.take() == CELLS[1]
    assert queue.take() is None
    assert queue.is_over()
    assert drivers[1].claims.take(CELLS[0].key)


def test_a_cell_that_would_end_too_late_is_left_and_not_claimed(drivers):
    rule = Admission(drivers[0], lambda cell: cell.seed != 1)
    queue = CellQueue(CELLS, rule)
    assert [queue.take() for _ in range(4)] == [CELLS[0], CELLS[2], CELLS[3], None]
    assert rule.late == {CELLS[1].key}
    assert queue.is_over()
    assert drivers[1].claims.take(CELLS[1].key)
