"""How a sweep stands, drawn again and again below the lines about cells: on a terminal, or in a notebook."""

import sys
from collections.abc import Mapping

from rich.console import Console as Terminal
from rich.console import RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from tqdm import tqdm

from analysis.names import table_name
from analysis.text import duration
from sweep.monitor.progress import now
from sweep.monitor.snapshot import CellCounts
from sweep.tune.board import Board

BAR = 28
"""The longest bar, in characters."""
ROOM = 8
"""Lines of the terminal that the view leaves to others."""


class LiveView:
    """Shows a board at the bottom of a terminal until it is closed: a bar for each loss, and the sums."""

    def __init__(self, board: Board, terminal: Terminal) -> None:
        """Show the board on this terminal."""
        self._board, self._terminal = board, terminal
        # Without a thread of its own, which a signal could interrupt at any place. Whatever prints goes above the view.
        self._live = Live(
            console=terminal,
            auto_refresh=False,
            transient=True,
            redirect_stdout=True,
            redirect_stderr=sys.stderr.isatty(),
            get_renderable=self._draw,
        )
        self._live.start()
        terminal.show_cursor(True)  # Live hides it, and a process that is killed could not show it again

    def print(self, line: str) -> None:
        """Print a line above the view."""
        self._terminal.print(line, markup=False, highlight=False, soft_wrap=True)

    def refresh(self) -> None:
        """Draw the view again."""
        self._live.refresh()

    def close(self) -> None:
        """Remove the view."""
        self._live.stop()

    def _draw(self) -> Table:
        return draw(self._board, self._terminal.width, self._terminal.height)


class NotebookBar:
    """Shows a board as one line with a bar, because the output of a notebook's cell cannot draw more lines again."""

    def __init__(self, board: Board) -> None:
        """Show the board in the output of the running cell."""
        self._board = board
        total = board.total
        planned = total.done + total.failed + total.missing
        self._bar = tqdm(total=planned, file=sys.stdout, bar_format="{bar:24} {desc}", leave=False)
        self.refresh()

    def print(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.write(line, file=sys.stdout)

    def refresh(self) -> None:
        """Draw the bar again."""
        total = self._board.total
        self._bar.n = total.done + total.failed
        self._bar.set_description_str(", ".join(filter(None, (self._board.counts(), self._board.pace(now())))))

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()


def view_of(board: Board) -> LiveView | NotebookBar | None:
    """The view that this process's output can show; None if it can only take lines."""
    if type(sys.stdout).__module__.startswith("ipykernel"):
        return NotebookBar(board)
    found = terminal()
    return LiveView(board, found) if found else None


def terminal() -> Terminal | None:
    """The terminal of this process's output; None if it is none, or one that can only print lines."""
    found = Terminal(file=sys.stdout)
    return found if sys.stdout.isatty() and found.is_terminal and not found.is_dumb_terminal else None


def draw(board: Board, width: int, height: int) -> Table:
    """The view of a board for a terminal of this size."""
    at = now()
    shown = Table.grid(padding=0)
    losses = Table.grid(padding=(0, 2, 0, 0))
    bar = min(BAR, width - 52)
    for name, counts in _fitting(board.losses, max(1, height - ROOM)).items():
        planned = counts.done + counts.failed + counts.missing
        words = [f"{counts.done} of {planned}", *_further(counts)]
        row: list[RenderableType] = [Text(name, no_wrap=True, overflow="ellipsis")]
        if bar >= 8:
            row.append(ProgressBar(total=planned, completed=counts.done, width=bar, complete_style="cyan"))
        losses.add_row(*row, Text(", ".join(words), no_wrap=True))
    shown.add_row("")
    shown.add_row(losses)
    passed = f"{duration((at - board.began).total_seconds())} so far"
    shown.add_row(Text(board.counts(), style="bold"))
    shown.add_row(Text(", ".join(filter(None, (board.pace(at), passed)))))
    return shown


def _fitting(losses: Mapping[str, CellCounts], most: int) -> dict[str, CellCounts]:
    """As many losses as there are lines, unfinished ones first; the others are in one line."""
    names = {table_name(name): counts for name, counts in losses.items()}
    if len(names) <= most:
        return names
    begun = sorted(names, key=lambda name: (not names[name].running, not names[name].missing))
    kept = set(begun[: most - 1])
    rest = [counts for name, counts in names.items() if name not in kept]
    others = CellCounts(
        **{name: sum(getattr(one, name) for one in rest) for name in ("done", "failed", "missing", "running")}
    )
    return {**{name: counts for name, counts in names.items() if name in kept}, f"{len(rest)} more losses": others}


def _further(counts: CellCounts) -> list[str]:
    return [f"{count} {name}" for name, count in (("running", counts.running), ("failed", counts.failed)) if count]
