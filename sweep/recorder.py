"""Driver-side Ray Tune callback: what workers report becomes records, curves and MLflow runs."""

import logging
from collections.abc import Mapping
from typing import Any

from ray.tune import Callback

from analysis.columns import schema
from analysis.errors import RecordsError
from analysis.predictions import Prediction, write_predictions
from analysis.records import write_curves, write_record
from sweep.config import Sweep
from sweep.logbook import Logbook
from sweep.status import Status
from trainables.cell import Cell

log = logging.getLogger(__name__)


class Recorder(Callback):
    """Writes a record as soon as a cell is done. Idempotent by cell: a cell that runs again overwrites itself."""

    def __init__(
        self,
        sweep: Sweep,
        classes: tuple[str, ...],
        origin: Mapping[str, Any],
        logbook: Logbook,
        status: Status,
    ) -> None:
        """`origin` is the provenance that all cells share: commit, version, data fingerprint."""
        self._sweep, self._classes, self._origin = sweep, classes, origin
        self._logbook, self._status = logbook, status
        self.recorded: set[str] = set()
        """Keys recorded by this command."""
        self.failures: dict[str, str] = {}
        """Why a cell has failed or gave no record, by key."""
        self.postponed: dict[str, Cell] = {}
        """Cells that did not fit beside others, by key: they are to run again alone."""
        self._alone = False
        self.stopped: str | None = None
        """Why the sweep cannot go on (records cannot be written), if so."""

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune writes its callbacks down for a restore that is never asked for, and a thread cannot be."""
        return {}

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A cell begins, or begins again after its worker was lost."""
        cell = _cell(trial)
        self._status.start(cell)
        self._logbook.start(cell)

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """A worker reports points of the curves, a finished cell, or what went wrong."""
        cell = _cell(trial)
        if points := result.get("points"):
            self._logbook.curves(cell, points)
        if error := result.get("error"):
            self._failed(cell, error, result.get("traceback", ""), may_fit_alone=result["did_not_fit"])
        elif row := result.get("row"):
            self._record(cell, row, result["curves"], result["examples"])

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Ray gave the cell up: its worker was lost too often."""
        # Whoever kills a process for want of memory does not say so.
        self._failed(_cell(trial), f"its worker was lost; see {trial.error_file}", "", may_fit_alone=True)

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """Once a turn of Ray's loop."""
        self._status.refresh(every=1.0)

    def _record(self, cell: Cell, row: Mapping[str, Any], curves: list, examples: list) -> None:
        if cell.key in self.recorded:  # its worker was lost after it had reported: Ray ran it again
            return
        # What a baseline or a failed cell does not have is null.
        row = {
            **dict.fromkeys(name for name in schema(self._classes).names if name != "schema"),
            **row,
            **self._origin,
        }
        try:
            write_curves(self._sweep.out, cell.key, curves)
            if examples:
                write_predictions(self._sweep.out, cell.key, [Prediction(key=cell.key, **one) for one in examples])
            write_record(self._sweep.out, row, self._classes)
        except RecordsError as error:  # the cell's fault and no other's
            self._failed(cell, f"not recorded: {error}", "")
            return
        except OSError as error:
            self.stopped = f"{self._sweep.out} cannot be written ({error})"
            self._failed(cell, f"not recorded: {self.stopped}", "")
            return
        self.recorded.add(cell.key)
        self._logbook.finish(cell, row, curves)
        if row["status"] == "failed":
            self.failures[cell.key] = str(row["error"])
            log.error("%s: %s", cell, row["error"])
            self._status.end(cell, None, None, str(row["error"]))
        else:
            self.failures.pop(cell.key, None)
            name, score = ("accuracy", "test_accuracy") if row["task"] == "classification" else ("F1", "test_f1_macro")
            log.info("%s: test %s %.4f in %.1f s", cell, name, row[score], row["seconds"])
            self._status.end(cell, f"test {name} {100 * row[score]:5.1f} %", row["seconds"])

    def take_postponed(self) -> tuple[Cell, ...]:
        """The postponed cells, for their second and last try: what fails there has failed."""
        cells, self.postponed, self._alone = tuple(self.postponed.values()), {}, True
        return cells

    def _failed(self, cell: Cell, reason: str, traceback: str, *, may_fit_alone: bool = False) -> None:
        self.failures[cell.key] = reason
        log.error("%s: %s\n%s", cell, reason, traceback)
        if may_fit_alone and not self._alone:
            self.postponed[cell.key] = cell
            self._status.postpone(cell, reason)
        else:
            self._logbook.abandon(cell)
            self._status.end(cell, None, None, reason)


def _cell(trial: Any) -> Cell:
    return Cell(**trial.config["cell"])
