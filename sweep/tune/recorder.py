"""Turns the reports of workers into records, learning curves and MLflow runs."""

import logging
import signal
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from typing import Any

from analysis.errors import RecordsError
from analysis.records.io import write_curves, write_record
from analysis.records.predictions import Prediction, write_predictions
from analysis.records.schema import Record, to_row
from analysis.records.studies import SCORES
from analysis.text import failure_reason
from sweep.cluster.provenance import commit, project_version
from sweep.config.sweep import Sweep
from sweep.config.vary import are_numbers
from sweep.signals import StopRequest
from sweep.storage.object_store import StoreError
from sweep.storage.run_dir import RunDir
from sweep.tracking.background import BackgroundTracking
from sweep.tune.console import Console
from sweep.tune.outcome import Outcome
from sweep.tune.retries import DIVERGED, ERROR, LOST, Failure, Retries, bare_record
from sweep.tune.running import CellListener
from trainables.cell import Cell
from trainables.cell_job import CellJob

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The origin of the records of one command: the columns that all of them share, and the classes."""

    classes: tuple[str, ...]
    """Downstream classes in label order."""
    commit: str
    version: str
    data: str
    """Fingerprint of the data."""
    source: str
    task: str
    base: str | None
    """Fingerprint of the recipe whose settings the sweep varies; None if it varies none."""
    settings: Mapping[str, type]
    """The settings that the sweep varies, each with `float` or `str`."""

    @classmethod
    def of(cls, sweep: Sweep, job: CellJob) -> "Provenance":
        """The provenance of a sweep's cells with this job, with the running code."""
        source = job.source
        return cls(
            classes=source.classes,
            commit=commit(),
            version=project_version(),
            data=source.fingerprint,
            source=source.title,
            task=job.recipe.task,
            base=sweep.recipe.fingerprint if sweep.vary else None,
            settings={axis[0]: float if are_numbers(sweep.recipe, axis) else str for axis in sweep.vary},
        )

    @property
    def columns(self) -> dict[str, str | None]:
        """The shared columns of the records: name -> value."""
        return {name: value for name, value in vars(self).items() if name not in ("classes", "settings")}


class Recorder(CellListener):
    """Writes a record as soon as a cell is done. A cell that runs again overwrites its earlier record."""

    def __init__(
        self,
        run_dir: RunDir,
        provenance: Callable[[Cell], Provenance],
        tracking: BackgroundTracking,
        console: Console,
        stop: StopRequest,
        *,
        running: Sized,
        score: Callable[[Mapping[str, Any]], str] | None = None,
    ) -> None:
        """Record nothing yet.

        Args:
            run_dir: the folder of the records.
            provenance: returns the columns that a cell's record shares with others.
            tracking: MLflow.
            console: the terminal's output.
            stop: whether the sweep must end.
            running: the running cells; changes.
            score: returns the text that the console shows for a row; by default the test score.
        """
        self._run_dir, self._provenance = run_dir, provenance
        self._tracking, self._console, self._stop, self._running = tracking, console, stop, running
        self._score = score or _test_score
        self.recorded: set[str] = set()
        """Keys of the cells that this command has recorded."""
        self.failures: dict[str, str] = {}
        """Key -> why the cell failed or has no record."""
        self.retries = Retries()
        """Counts failures, and decides which cells run again."""
        self._again: dict[str, Cell] = {}
        self._postponed: dict[str, Cell] = {}
        self.unwritable: str | None = None
        """Why records cannot be written, which ends the sweep; None if they can."""

    @property
    def over(self) -> bool:
        """Whether Tune's run can end, although cells may be left."""
        return self.unwritable is not None or (self._stop.asked and not self._running)

    @property
    def outcome(self) -> Outcome:
        """How the cells ended."""
        return Outcome(
            failures=self.failures,
            counts=self.retries.counts,
            unwritable=self.unwritable,
            stop=self._stop if self._stop.asked else None,
        )

    def cell_started(self, cell: Cell) -> None:
        """Count the attempt, and start the cell's run in MLflow."""
        self.retries.begin(cell)
        self._tracking.start(cell)

    def cell_reported(self, cell: Cell, result: dict[str, Any]) -> None:
        """Process points of the curves, a finished cell, or an error."""
        if points := result.get("points"):
            self._tracking.curves(cell, points)
        if line := result.get("warning"):
            log.warning("%s: %s", cell, line)
        if result.get("stopped"):
            self.failures[cell.key] = "stopped"
            self._tracking.abandon(cell)
        elif error := result.get("error"):
            self._fail(cell, result["kind"], error, result)
        elif record := result.get("record"):
            self._record(cell, record, result["curves"], result["examples"])

    def worker_lost(self, cell: Cell, losses: int, limit: int) -> None:
        """Count the loss; the cell resumes from its checkpoint."""
        self.retries.counts[LOST] += 1
        log.warning("%s: its worker was lost, %d of %d times", cell, losses, limit)

    def cell_given_up(self, cell: Cell, losses: int, error_file: str) -> None:
        """Run the cell once more, alone: its worker may have been killed for lack of memory, which nothing reports."""
        self._fail(cell, LOST, f"its worker was lost {losses} times; see {error_file}", {})

    def step_ended(self) -> None:
        """Check for a lost lease, a closed output pipe and a signal."""
        self.unwritable = self.unwritable or self._run_dir.lost
        if self._console.unread and not self._stop.asked:
            self._stop.ask(signal.SIGPIPE)
        if line := self._stop.take_message():
            log.warning(line)
            self._console.print(line)
        self._console.refresh(every=1.0)

    def take_again(self) -> tuple[Cell, ...]:
        """The cells with an error, for their second try; none if the sweep must end."""
        return self._take(self._again)

    def take_postponed(self) -> tuple[Cell, ...]:
        """The cells that must run alone, for their last try; none if the sweep must end."""
        self.retries.last_round = True
        return self._take(self._postponed)

    def _take(self, waiting: dict[str, Cell]) -> tuple[Cell, ...]:
        cells = tuple(waiting.values())
        waiting.clear()
        return () if self._stop.asked or self.unwritable else cells

    def _record(self, cell: Cell, record: Record, curves: list, examples: list) -> None:
        if cell.key in self.recorded:  # Ray ran it again, because its worker was lost after the last report
            return
        claims = self._run_dir.claims
        if claims and not claims.owns(cell.key):
            self._give_up(cell, "another command has taken it over, because this one was suspended")
            return
        try:
            origin = self._provenance(cell)
            row = to_row(record.with_values(origin.columns), origin.classes, origin.settings)
            self._write(cell, row, curves, examples)
        except RecordsError as error:  # concerns only this cell
            self._give_up(cell, f"not recorded: {error}")
            return
        except OSError as error:
            self.unwritable = f"{self._run_dir.name} cannot be written ({error})"
            self._give_up(cell, f"not recorded: {self.unwritable}")
            return
        self.recorded.add(cell.key)
        self._run_dir.remove_checkpoints(cell.key)
        if claims:
            claims.give_back(cell.key)
        self._tracking.finish(cell, row, curves)
        if row["status"] == "failed":
            self.failures[cell.key] = failure_reason(str(row["error"]))
            self._console.cell_failed(cell, self.failures[cell.key])
        else:
            self.failures.pop(cell.key, None)
            score = self._score(row) + ", collapsed" * bool(row["collapsed"])
            log.info("%s: %s in %.1f s", cell, score, row["seconds"])
            self._console.cell_done(cell, score, row["seconds"])

    def _write(self, cell: Cell, row: Mapping[str, Any], curves: list, examples: list) -> None:
        """Write the files of a cell, here and at the sweep's address. The record comes last; with it the cell counts.

        Raises:
            RecordsError: the row is no valid record.
            OSError: a file cannot be written; the cell is not recorded then.
        """
        root, origin = self._run_dir.root, self._provenance(cell)
        self._run_dir.send(write_curves(root, cell.key, curves))
        if examples:
            predictions = [Prediction(key=cell.key, classes=origin.classes, **example) for example in examples]
            self._run_dir.send(write_predictions(root, cell.key, predictions))
        record = write_record(root, row, origin.classes, origin.settings)
        try:
            self._run_dir.send(record)
        except StoreError:
            record.unlink()  # the files at the address count
            raise

    def _fail(self, cell: Cell, kind: str, reason: str, result: Mapping[str, Any]) -> None:
        """Handle a failed attempt: the cell runs once more, or is recorded as failed.

        A cell that failed because of its machine is not recorded, so the same command runs it again.
        """
        if cell.key in self.recorded:
            return
        self.retries.counts[kind] += 1
        failure = Failure(
            kind=kind,
            reason=reason,
            traceback=result.get("traceback", ""),
            tries=self.retries.tries(cell),
            log=self._run_dir.log.relative_to(self._run_dir.root).as_posix(),
        )
        self.failures[cell.key] = str(failure)
        log.error("%s: %s\n%s", cell, failure, failure.traceback)
        # The same seed diverges again.
        if kind != DIVERGED and self.retries.once_more(cell, kind):
            (self._again if kind == ERROR else self._postponed)[cell.key] = cell
            self._console.cell_postponed(cell, reason, alone=kind != ERROR)
        elif kind == LOST:
            self._give_up(cell, str(failure))
        else:
            record: Record = result.get("record") or bare_record(cell)
            failed = record.with_values({"status": "failed", "error": failure.text})
            self._record(cell, failed, result.get("curves") or [], [])

    def _give_up(self, cell: Cell, reason: str) -> None:
        """The cell gets no record."""
        log.error("%s: %s", cell, reason)
        self.failures[cell.key] = reason
        self._tracking.abandon(cell)
        self._console.cell_failed(cell, reason)


def _test_score(row: Mapping[str, Any]) -> str:
    """A row's test score as text."""
    score, name = SCORES.get(row["task"], ("test_f1_macro", "F1"))
    return f"test {name} {100 * row[score]:5.1f} %"
