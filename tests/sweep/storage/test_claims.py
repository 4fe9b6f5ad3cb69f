"""Drivers that share a folder: each cell has one owner, that of a dead one is free, a plain driver stays out."""

import os
import signal
import subprocess
import sys
from multiprocessing.dummy import Pool

import pytest

from datasets.errors import InputError
from sweep.storage import claims, lock
from sweep.storage.claims import Claims, living
from sweep.storage.lock import locked, shared, turn
from sweep.storage.run_dir import RunDir
from tests.helpers.command import ROOT, wait_for

SHARE = """
import sys
from pathlib import Path
from sweep.storage.run_dir import RunDir
from sweep.storage.lock import shared
with shared(RunDir(Path(sys.argv[1])), "grid", lambda killed: None) as run_dir:
    print(run_dir.claims.take("cell"), run_dir.shard, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that shares the folder and has `cell`, and its name."""
    command = [sys.executable, "-c", SHARE, str(tmp_path / "out")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        took, name = process.stdout.readline().split()
        assert took == "True"
        yield process, name
        process.kill()


@pytest.fixture
def claim(tmp_path):
    """Make drivers that are there until the end of the test."""
    made = []

    def enter():
        made.append(Claims(tmp_path, "grid"))
        made[-1].enter()
        return made[-1]

    yield enter
    for one in made:
        one.leave()


def entered(run_dir, grid="grid"):
    found = []
    return shared(run_dir, grid, found.append), found


def test_of_many_drivers_that_want_the_same_cells_each_cell_gets_one(claim):
    drivers = [claim() for _ in range(4)]
    keys = [f"cell-{number}" for number in range(40)]

    def taken(driver):
        return [key for key in keys if driver.take(key)]

    with Pool(4) as pool:
        found = pool.map(taken, drivers)
    assert sorted(key for one in found for key in one) == sorted(keys)
    assert [driver.owns(key) for driver, mine in zip(drivers, found, strict=True) for key in mine] == [True] * 40


def test_a_cell_that_is_given_back_or_left_is_free_and_one_that_is_held_is_not(claim):
    one, two = claim(), claim()
    assert one.take("a")
    assert one.take("a")  # for its second try
    assert one.take("b")
    assert not two.take("a")
    one.give_back("a")
    assert two.take("a")
    one.leave()
    assert two.take("b")
    assert two.others == {}


def test_the_cells_of_a_killed_driver_of_this_machine_are_free_at_once(other, tmp_path):
    process, name = other
    context, cleaned = entered(RunDir(tmp_path / "out"))
    with context as run_dir:
        assert run_dir.claims.others == {name: "grid"}
        assert not run_dir.claims.take("cell")
        process.send_signal(signal.SIGKILL)
        process.wait()
        wait_for(lambda: run_dir.claims.take("cell"), 5)
        assert run_dir.claims.others == {}
    assert cleaned == []  # another driver was there
    assert os.listdir(tmp_path / "out") == []


def test_a_driver_of_another_machine_is_dead_when_its_lease_is_old(claim, tmp_path):
    one = claim()
    assert one.take("a")
    place = tmp_path / ".shards" / "drivers" / f"elsewhere-7.{one.grid}"
    place.write_text((tmp_path / ".shards" / "drivers" / f"{one.name}.grid").read_text().replace("host=", "host=x"))
    assert living(tmp_path) == {one.name: "grid", "elsewhere-7": "grid"}
    old = place.stat().st_mtime - claims.STALE - 5
    os.utime(place, (old, old))
    assert living(tmp_path) == {one.name: "grid"}
    assert not place.exists()


def test_leases_are_renewed_and_a_driver_whose_lease_was_taken_away_owns_nothing(claim, tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "RENEWED", 0.1)
    one = claim()
    assert one.take("a")
    first = one.renewals(["a", "b"])
    assert first["b"] is None
    wait_for(lambda: one.renewals(["a"])["a"] > first["a"], 10)
    assert one.owns("a")
    (tmp_path / ".shards" / "drivers" / f"{one.name}.grid").unlink()
    assert not one.owns("a")
    wait_for(lambda: one.lost, 10)
    assert "other commands use" in RunDir(tmp_path, claims=one).lost


def test_a_plain_driver_is_refused_while_others_share_and_the_other_way_round(other, tmp_path, monkeypatch):
    process, name = other
    run_dir = RunDir(tmp_path / "out")
    with (
        pytest.raises(InputError, match=rf"in use by another command \({name}\) with --shard auto") as no,
        locked(run_dir),
    ):
        pass
    assert "\n" not in str(no.value)
    process.communicate("end\n", timeout=20)
    monkeypatch.setattr(lock, "LONGEST_TURN", 1.0)
    with locked(run_dir) as killed:
        assert killed is None
        context, _ = entered(run_dir)
        with pytest.raises(InputError, match=rf"process {os.getpid()}, .*does not share it"), context:
            pass


def test_drivers_with_other_cells_are_refused_in_one_line(other, tmp_path):
    context, _ = entered(RunDir(tmp_path / "out"), "another")
    with pytest.raises(InputError, match="with other cells or another recipe: all commands") as no, context:
        pass
    assert "\n" not in str(no.value)


def test_what_a_killed_driver_left_is_cleaned_by_the_first_that_comes_after(other, tmp_path):
    process, _ = other
    process.send_signal(signal.SIGKILL)
    process.wait()
    context, cleaned = entered(RunDir(tmp_path / "out"))
    with context:
        assert cleaned == [lock.SHARING]


def test_turns_do_not_overlap(tmp_path):
    run_dir, inside = RunDir(tmp_path), []

    def take(_):
        with turn(run_dir, 20.0):
            inside.append(1)
            assert sum(inside) == 1
            inside.append(-1)

    with Pool(4) as pool:
        pool.map(take, range(20))
    with turn(run_dir, 1.0), pytest.raises(InputError, match="writes its results"), turn(run_dir, 0.0):
        pass
