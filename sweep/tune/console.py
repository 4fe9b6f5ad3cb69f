"""What a command prints while cells run: a line for each cell that ends, and a live view on a terminal."""

import os
import sys
import time

from sweep.monitor.progress import now
from sweep.tune.board import Board
from sweep.tune.live_view import view_of
from trainables.cell import Cell

EVERY = 60.0
"""Without a live view, a line about the whole sweep follows the line of a cell, but only once in so many seconds."""


class Console:
    """Prints a line per cell. Terminals and notebooks show how the sweep stands, others get a line about it."""

    def __init__(self, board: Board | None = None) -> None:
        """`board` is told how cells end; without one only lines are printed."""
        self._board = board or Board()
        self._view = view_of(board) if board else None
        self._drawn = time.monotonic()
        self.unread = False
        """Whether the output pipe was closed by its reader, as by `head`."""

    def cell_done(self, cell: Cell, score: str, seconds: float) -> None:
        """A cell is recorded, with its score."""
        self._board.recorded(cell, seconds)
        self.print(f"{cell!s:<46} {score}   {seconds:5.0f} s")
        self._sum_up()

    def cell_failed(self, cell: Cell, reason: str) -> None:
        """A cell has failed."""
        self._board.recorded(cell, None)
        self.print(f"{cell!s:<46} failed: {reason}")
        self._sum_up()

    def cell_postponed(self, cell: Cell, reason: str, *, alone: bool) -> None:
        """A cell has ended without a result and runs again later, alone or together with others."""
        self.print(f"{cell!s:<46} runs again {'alone, ' if alone else ''}at the end: {reason}")

    def print(self, line: str) -> None:
        """Print a line. After the output pipe is closed this has no effect."""
        if self._view:
            self._view.print(line)
            self.refresh()
            return
        try:
            print(line, flush=True)
        except BrokenPipeError:  # otherwise Tune would treat it as an error of its own
            self.unread = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def refresh(self, *, every: float = 0.0) -> None:
        """Redraw the live view, unless it was drawn less than `every` seconds ago."""
        if self._view and time.monotonic() - self._drawn >= every:
            self._drawn = time.monotonic()
            self._view.refresh()

    def close(self) -> None:
        """Remove the live view."""
        if self._view:
            self._view.close()
            self._view = None

    def _sum_up(self) -> None:
        if not self._view and time.monotonic() - self._drawn >= EVERY:
            self._drawn = time.monotonic()
            self.print(", ".join(filter(None, (self._board.counts(), self._board.pace(now())))))
