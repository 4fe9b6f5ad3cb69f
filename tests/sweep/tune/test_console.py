"""While cells run, a terminal shows how the sweep stands, and a pipe gets plain lines."""

import fcntl
import io
import os
import pty
import struct
import sys
import termios
import threading
from datetime import timedelta
from functools import partial

import pytest
from rich.console import Console as Terminal

from sweep.monitor.progress import now
from sweep.monitor.snapshot import RecordRow, count_by_loss
from sweep.presets import preset
from sweep.tune import console as module
from sweep.tune.board import Board
from sweep.tune.console import Console
from sweep.tune.live_view import draw
from sweep.tune.running import RunningCells

CELLS = preset("vts-smoke").cells()


def row(cell, status="done", seconds=10.0):
    return RecordRow(key=cell.key, status=status, seconds=seconds, started="2026-11-01T12:00:00+00:00", error=None)


def shown(board, width=100, height=40, **how):
    terminal = Terminal(file=io.StringIO(), width=width, height=height, **how)
    terminal.print(draw(board, width, height))
    return terminal.file.getvalue()


def test_the_board_counts_as_the_status_does():
    tracker = RunningCells()
    board = Board(CELLS, tracker.running, rows=[row(CELLS[0]), row(CELLS[1], "failed", None)])
    tracker.started("attempt", CELLS[2])
    board.recorded(CELLS[3], 12.0)
    entries = [one.entry for one in tracker.running.values()]
    by_key = {cell.key: cell for cell in CELLS}
    assert board.losses == count_by_loss(by_key, {CELLS[0].key, CELLS[3].key}, {CELLS[1].key}, entries)
    total = board.total
    assert (total.done, total.failed, total.running, total.missing) == (2, 1, 1, len(CELLS) - 3)


def test_a_cell_that_fails_and_then_succeeds_counts_once():
    board = Board(CELLS)
    board.recorded(CELLS[0], None)
    board.recorded(CELLS[0], 5.0)
    assert (board.total.done, board.total.failed) == (1, 0)


def test_a_search_may_propose_cells_as_it_runs():
    board = Board(CELLS[:1])
    board.recorded(CELLS[1], 5.0)
    assert (board.total.done, board.total.missing) == (1, 1)


def test_time_left_is_that_of_equal_cells_one_after_the_other():
    (first, *others) = [cell for cell in preset("vts-quick").cells() if cell.objective == "moco"]
    board = Board([first, *others], rows=[row(first, seconds=30.0)])
    assert board.left(now()).seconds == pytest.approx(30.0 * len(others))
    assert board.per_hour(board.began + timedelta(seconds=30)) is None
    board.recorded(others[0], 30.0)
    assert board.per_hour(board.began + timedelta(minutes=30)) == pytest.approx(2.0)
    assert board.pace(board.began + timedelta(minutes=30)).startswith("2 cells per hour, about ")


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_view_fits_terminals_of_any_size(width):
    board = Board(CELLS, rows=[row(CELLS[0])])
    lines = shown(board, width).splitlines()
    assert all(len(line) <= width for line in lines)
    words = " ".join(" ".join(lines).split())
    assert f"1 of {len(CELLS)} cells done" in words
    assert ("━" in words or "╸" in words) == (width >= 80)


def test_many_losses_leave_room_on_a_low_terminal():
    board = Board(CELLS)
    lines = shown(board, height=10).splitlines()
    assert len(lines) == 5
    assert "more losses" in lines[2]
    assert f"0 of {len(CELLS)} cells done" in lines[3]


def test_without_colours_and_in_ascii_the_view_is_plain():
    text = shown(Board(CELLS, rows=[row(CELLS[0])]), force_terminal=True, no_color=True)
    assert "\x1b[3" not in text  # no colour; bold is none
    ascii_only = Terminal(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), width=80, force_terminal=True)
    ascii_only.print(draw(Board(CELLS, rows=[row(CELLS[0])]), 80, 40))  # raises what the encoding lacks


def test_a_pipe_gets_plain_lines_and_one_about_the_sweep_now_and_then(capsys, monkeypatch):
    console = Console(Board(CELLS))
    console.cell_done(CELLS[0], "test F1  50.0 %", 3.0)
    monkeypatch.setattr(module, "EVERY", 0.0)
    console.cell_failed(CELLS[1], "no")
    console.close()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("test F1  50.0 %       3 s")
    assert lines[1].endswith("failed: no")
    assert lines[2].startswith(f"1 of {len(CELLS)} cells done, 1 failed")
    assert not any("\x1b" in line for line in lines)


@pytest.fixture
def on_terminal(monkeypatch):
    """Runs something whose output goes to a terminal, and returns what the terminal got."""

    def run(do, kind="xterm"):
        leader, follower = pty.openpty()
        fcntl.ioctl(leader, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        got = []
        reader = threading.Thread(target=lambda: got.extend(iter(partial(read, leader), b"")))
        reader.start()
        with monkeypatch.context() as patch, open(follower, "w") as output:
            patch.setenv("TERM", kind)
            for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLUMNS", "LINES"):
                patch.delenv(name, raising=False)
            patch.setattr(sys, "stdout", output)
            patch.setattr(sys, "stderr", output)
            do()
        reader.join(60)
        os.close(leader)
        return b"".join(got).decode()

    return run


def read(leader):
    """What a terminal has got; empty once nothing more can come."""
    try:
        return os.read(leader, 2**16)
    except OSError:
        return b""


def some_cells_end():
    """Cells end, and others print meanwhile; the view stays."""
    console = Console(Board(CELLS))
    for cell in CELLS[:3]:
        console.cell_done(cell, "test F1  50.0 %", 3.0)
        print("a line of another part")
        print("a warning", file=sys.stderr)
        console.refresh()
    return console


def test_lines_of_others_stand_above_the_view(on_terminal):
    text = on_terminal(lambda: (some_cells_end().close(), print("the end")))
    for line in ("a line of another part", "a warning"):
        # Each begins a line of its own: after a line break, or where the view was erased.
        assert text.count(line) == 3
        assert all(before.endswith(("\n", "\r", "\x1b[2K")) for before in text.split(line)[:-1])
    assert f"3 of {len(CELLS)} cells done" in text
    assert text.rstrip().endswith("the end")


def test_a_process_that_is_killed_leaves_the_cursor(on_terminal):
    left = []
    text = on_terminal(lambda: left.append(some_cells_end()))  # not closed
    assert f"3 of {len(CELLS)} cells done" in text
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l")


def test_a_dumb_terminal_gets_plain_lines(on_terminal):
    text = on_terminal(lambda: some_cells_end().close(), "dumb")
    assert "\x1b" not in text
    assert len(text.splitlines()) == 3 * 3
