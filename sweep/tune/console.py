"""The terminal's output while cells run: a live status line, and one line for each cell that ends."""

import os
import sys
import time
from collections.abc import Sized

from tqdm import tqdm

from trainables.cell import Cell


class Console:
    """Shows one live line, on a terminal or with a bar in Jupyter, and one line per cell.

    Pipes and files get only the cells' lines.
    """

    def __init__(self, total: int, done: int, running: Sized = ()) -> None:
        """`done` of the `total` cells are recorded already. `running` holds the running cells, and changes."""
        self._running = running
        self._failed = 0
        self._drawn = 0.0
        self.unread = False
        """Whether the output pipe was closed by its reader, as by `head`."""
        notebook = type(sys.stdout).__module__.startswith("ipykernel")
        self._bar = tqdm(
            total=total,
            initial=done,
            disable=not (notebook or sys.stdout.isatty()),
            file=sys.stdout,
            bar_format=("{bar:24} " if notebook else "")
            + "{n_fmt}/{total_fmt} cells done{postfix}, {elapsed} so far, {remaining} left",
            postfix="0 running, 0 failed",
            leave=False,
        )

    def cell_done(self, cell: Cell, score: str, seconds: float) -> None:
        """A cell is recorded, with its score."""
        self._bar.update()
        self.print(f"{cell!s:<46} {score}   {seconds:5.0f} s")

    def cell_failed(self, cell: Cell, reason: str) -> None:
        """A cell has failed."""
        self._failed += 1
        self.print(f"{cell!s:<46} failed: {reason}")

    def cell_postponed(self, cell: Cell, reason: str, *, alone: bool) -> None:
        """A cell has ended without a result and runs again later, alone or together with others."""
        self.print(f"{cell!s:<46} runs again {'alone, ' if alone else ''}at the end: {reason}")

    def print(self, line: str) -> None:
        """Print a line. After the output pipe is closed this has no effect."""
        try:
            tqdm.write(line, file=sys.stdout)
            sys.stdout.flush()
        except BrokenPipeError:  # otherwise Tune would treat it as an error of its own
            self.unread = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        self.refresh()

    def refresh(self, *, every: float = 0.0) -> None:
        """Redraw the status line, unless it was drawn less than `every` seconds ago."""
        if time.monotonic() - self._drawn >= every:
            self._drawn = time.monotonic()
            self._bar.set_postfix_str(f"{len(self._running)} running, {self._failed} failed")

    def close(self) -> None:
        """Remove the status line."""
        self._bar.close()
