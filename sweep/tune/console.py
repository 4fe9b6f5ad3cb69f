"""What is seen while a sweep runs: a live status line on a terminal, a line for each cell that ends."""

import os
import sys
import time

from tqdm import tqdm

from trainables.cell import Cell


class Terminal:
    """One live line (a terminal only) and one line a cell. Into a pipe or file go the cells' lines alone."""

    def __init__(self, total: int, done: int) -> None:
        """`done` of the `total` cells are recorded already."""
        self._running: set[str] = set()
        self._failed = 0
        self._drawn = 0.0
        self.unread = False
        """Whether whoever read this has left, as `head` does."""
        self._bar = tqdm(
            total=total,
            initial=done,
            disable=not sys.stdout.isatty(),
            file=sys.stdout,
            bar_format="{n_fmt}/{total_fmt} cells done{postfix}, {elapsed} so far, {remaining} left",
            postfix="0 running, 0 failed",
            leave=False,
        )

    def start(self, cell: Cell) -> None:
        """A cell has begun."""
        self._running.add(cell.key)
        self.refresh()

    def end(self, cell: Cell, score: str | None, seconds: float | None, failure: str | None = None) -> None:
        """A cell has ended, with its score or the reason why it failed."""
        self._running.discard(cell.key)
        if failure is None:
            self._bar.update()
            self.note(f"{cell!s:<46} {score}   {seconds or 0:5.0f} s")
        else:
            self._failed += 1
            self.note(f"{cell!s:<46} failed: {failure}")

    def postpone(self, cell: Cell, reason: str, *, alone: bool) -> None:
        """A cell has ended without a result and runs again later, alone or beside others."""
        self._running.discard(cell.key)
        self.note(f"{cell!s:<46} runs again {'alone, ' if alone else ''}at the end: {reason}")

    def leave(self, cell: Cell) -> None:
        """A cell runs no longer, and has not ended."""
        self._running.discard(cell.key)
        self.refresh()

    def note(self, line: str) -> None:
        """A line that the user should know. Where nobody reads it, no line from now on is an error."""
        try:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()
        except BrokenPipeError:  # raised here it would be an error of Tune's
            self.unread = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        self.refresh()

    def refresh(self, *, every: float = 0.0) -> None:
        """Draw the status line again, unless it was drawn less than `every` seconds ago."""
        if time.monotonic() - self._drawn >= every:
            self._drawn = time.monotonic()
            self._bar.set_postfix_str(f"{len(self._running)} running, {self._failed} failed")

    def close(self) -> None:
        """Take the status line away."""
        self._bar.close()
