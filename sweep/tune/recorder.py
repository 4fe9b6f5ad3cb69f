"""Driver-side Ray Tune callback: what workers report becomes records, curves and MLflow runs."""

import logging
import signal
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune import Callback

from analysis.errors import RecordsError
from analysis.records.io import write_curves, write_record
from analysis.records.predictions import Prediction, write_predictions
from analysis.records.schema import empty_row
from analysis.text import failure_reason
from sweep.config.sweep import Sweep
from sweep.signals import Stop
from sweep.storage.object_store import Store, StoreError
from sweep.storage.run_dir import Folder
from sweep.tracking.background import Logbook
from sweep.tune.console import Terminal
from sweep.tune.retries import DIVERGED, ERROR, LOST, Failure, Retries, bare_row
from trainables.cell import Cell

log = logging.getLogger(__name__)

BULKY = ("points", "row", "curves", "examples", "traceback")
"""What workers report and nobody but the recorder needs."""


class Recorder(Callback):
    """Writes a record as soon as a cell is done. Idempotent by cell: a cell that runs again overwrites itself."""

    def __init__(
        self,
        sweep: Sweep,
        classes: tuple[str, ...],
        origin: Mapping[str, Any],
        logbook: Logbook,
        terminal: Terminal,
        stop: Stop,
        store: Store | None = None,
        *,
        score: Callable[[Mapping[str, Any]], str] | None = None,
    ) -> None:
        """What all cells share, and where what they give goes.

        Args:
            sweep: what is run.
            classes: names of the classes.
            origin: provenance: commit, version, data fingerprint.
            logbook: MLflow.
            terminal: what is shown.
            stop: whether the sweep is to end.
            store: sends what is recorded to the sweep's address, where it has one.
            score: makes of a row what the terminal shows of it; by default the test score.
        """
        self._sweep, self._classes, self._origin = sweep, classes, origin
        self._logbook, self._terminal, self._stop = logbook, terminal, stop
        self._score = score or tested
        self._keeping, self._store = sweep.keeping, store or Store(sweep.root)
        self._log = Folder(sweep.root, store).log.relative_to(sweep.root).as_posix()
        self.recorded: set[str] = set()
        """Keys recorded by this command."""
        self.failures: dict[str, str] = {}
        """Why a cell has failed or gave no record, by key."""
        self.retries = Retries()
        """What went wrong on the way, and who may try again."""
        self._again: dict[str, Cell] = {}
        self._postponed: dict[str, Cell] = {}
        self._running: set[str] = set()
        self.stopped: str | None = None
        """Why the sweep cannot go on (records cannot be written), if so."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune writes its callbacks down for a restore that is never asked for, and a thread cannot be."""
        return {}

    @property
    def over(self) -> bool:
        """Whether nothing that runs or waits is worth waiting for."""
        return self.stopped is not None or (self._stop.asked and not self._running)

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A cell begins, or begins again after its worker was lost."""
        cell = _cell(trial)
        self._running.add(cell.key)
        self.retries.begin(cell)
        self._terminal.start(cell)
        self._logbook.start(cell)

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """A worker reports points of the curves, a finished cell, or what went wrong."""
        cell = _cell(trial)
        if points := result.get("points"):
            self._logbook.curves(cell, points)
        if line := result.get("said"):
            log.warning("%s: %s", cell, line)
        if result.get("stopped"):
            self._leave(cell, "stopped")
        elif error := result.get("error"):
            told = (result.get("row"), result.get("curves"), result["traceback"])
            self._failed(cell, result["kind"], error, *told)
        elif row := result.get("row"):
            self._record(cell, row, result["curves"], result["examples"])
        for name in BULKY:  # Tune writes each trial's last result down again and again
            result.pop(name, None)
        result["heard"] = True  # of a trial whose last result is empty Tune prints a line, whatever it was told

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A worker was lost, and Ray begins its cell again, which goes on from its checkpoint."""
        cell = _cell(trial)
        self.retries.counts[LOST] += 1
        self._running.discard(cell.key)
        log.warning("%s: its worker was lost, %d of %d times", cell, trial.num_failures, trial.max_failures)
        self._terminal.leave(cell)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Ray gave the cell up: its worker was lost too often."""
        cell = _cell(trial)
        if cell.key in self.recorded:
            return
        # Whoever kills a process for want of memory does not say so.
        self._failed(cell, LOST, f"its worker was lost {trial.num_failures} times; see {trial.error_file}")

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A cell's attempt has ended."""
        self._running.discard(_cell(trial).key)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """Once a turn of Ray's loop."""
        self.stopped = self.stopped or self._store.lost
        if self._terminal.unread and not self._stop.asked:
            self._stop.ask(signal.SIGPIPE)
        if line := self._stop.take_note():
            log.warning(line)
            self._terminal.note(line)
        self._terminal.refresh(every=1.0)

    def take_again(self) -> tuple[Cell, ...]:
        """The cells that had an error, for their second try; none where the sweep is to end."""
        return self._take(self._again)

    def take_postponed(self) -> tuple[Cell, ...]:
        """The cells that did not fit beside others, for their last try: what fails there has failed."""
        self.retries.last_round = True
        return self._take(self._postponed)

    def _take(self, waiting: dict[str, Cell]) -> tuple[Cell, ...]:
        cells = tuple(waiting.values())
        waiting.clear()
        return () if self._stop.asked or self.stopped else cells

    def _record(self, cell: Cell, row: Mapping[str, Any], curves: list, examples: list) -> None:
        if cell.key in self.recorded:  # its worker was lost after it had reported: Ray ran it again
            return
        # What a baseline or a failed cell does not have is null.
        row = {
            **empty_row(self._classes),
            **row,
            **self._origin,
        }
        try:
            self._write(cell, row, curves, examples)
        except RecordsError as error:  # the cell's fault and no other's
            self._give_up(cell, f"not recorded: {error}")
            return
        except OSError as error:
            self.stopped = f"{self._sweep.out} cannot be written ({error})"
            self._give_up(cell, f"not recorded: {self.stopped}")
            return
        self.recorded.add(cell.key)
        self._running.discard(cell.key)
        self._keeping.forget(cell.key)
        self._logbook.finish(cell, row, curves)
        if row["status"] == "failed":
            reason = failure_reason(str(row["error"]))
            self.failures[cell.key] = reason
            self._terminal.end(cell, None, None, reason)
        else:
            self.failures.pop(cell.key, None)
            log.info("%s: %s in %.1f s", cell, self._score(row), row["seconds"])
            self._terminal.end(cell, self._score(row), row["seconds"])

    def _write(self, cell: Cell, row: Mapping[str, Any], curves: list, examples: list) -> None:
        """Write all of a cell, the record last: with that it is recorded, here and at the sweep's address.

        Raises:
            RecordsError: the row is no record.
            OSError: it cannot be written; the cell is not recorded then.
        """
        root = self._sweep.root
        self._store.push(write_curves(root, cell.key, curves))
        if examples:
            found = [Prediction(key=cell.key, **one) for one in examples]
            self._store.push(write_predictions(root, cell.key, found))
        record = write_record(root, row, self._classes)
        try:
            self._store.push(record)
        except StoreError:
            record.unlink()  # what lies at the address counts
            raise

    def _failed(
        self,
        cell: Cell,
        kind: str,
        reason: str,
        row: Mapping[str, Any] | None = None,
        curves: list | None = None,
        traceback: str = "",
    ) -> None:
        """An attempt has failed: the cell tries once more, or has failed.

        The fault of a machine is not recorded: the same command runs such a cell again.
        """
        if cell.key in self.recorded:
            return
        self._running.discard(cell.key)
        self.retries.counts[kind] += 1
        tries = self.retries.tries(cell)
        failure = Failure(kind=kind, reason=reason, traceback=traceback, tries=tries, log=self._log)
        self.failures[cell.key] = str(failure)
        log.error("%s: %s\n%s", cell, failure, traceback)
        # The same seed diverges again.
        if kind != DIVERGED and self.retries.once_more(cell, kind):
            (self._again if kind == ERROR else self._postponed)[cell.key] = cell
            self._terminal.postpone(cell, reason, alone=kind != ERROR)
        elif kind == LOST:
            self._give_up(cell, str(failure))
        else:
            told = {**bare_row(cell), **(row or {}), "status": "failed", "error": failure.text}
            self._record(cell, told, curves or [], [])

    def _give_up(self, cell: Cell, reason: str) -> None:
        """The cell gives no record."""
        log.error("%s: %s", cell, reason)
        self.failures[cell.key] = reason
        self._running.discard(cell.key)
        self._logbook.abandon(cell)
        self._terminal.end(cell, None, None, reason)

    def _leave(self, cell: Cell, reason: str) -> None:
        """The cell has stopped because it was asked to."""
        self.failures[cell.key] = reason
        self._running.discard(cell.key)
        self._logbook.abandon(cell)
        self._terminal.leave(cell)


def tested(row: Mapping[str, Any]) -> str:
    """A row's test score."""
    name, score = ("accuracy", "test_accuracy") if row["task"] == "classification" else ("F1", "test_f1_macro")
    return f"test {name} {100 * row[score]:5.1f} %"


def _cell(trial: Any) -> Cell:
    return Cell(**trial.config["cell"])
