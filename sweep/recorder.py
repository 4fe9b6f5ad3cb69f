"""Driver-side Ray Tune callback: what workers report becomes records, curves and MLflow runs."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune import Callback

from analysis.columns import schema
from analysis.errors import RecordsError
from analysis.records import write_curves, write_record
from sweep.config import Sweep
from sweep.status import Status
from sweep.tracking import TRACKING_ERRORS, Tracking
from trainables.cell import Cell

log = logging.getLogger(__name__)


class Recorder(Callback):
    """Writes a record as soon as a cell is done. Idempotent by cell: a cell that runs again overwrites itself."""

    def __init__(
        self,
        sweep: Sweep,
        classes: tuple[str, ...],
        origin: Mapping[str, Any],
        tracking: Tracking,
        status: Status,
    ) -> None:
        """`origin` is the provenance that all cells share: commit, version, data fingerprint."""
        self._sweep, self._classes, self._origin = sweep, classes, origin
        self._tracking, self._status = tracking, status
        self.recorded: set[str] = set()
        """Keys recorded by this command."""
        self.failures: dict[str, str] = {}
        """Why a cell has failed or gave no record, by key."""
        self.untracked: str | None = None
        """What MLflow last said when it could not be written; records do not depend on it."""
        self.stopped: str | None = None
        """Why the sweep cannot go on (records cannot be written), if so."""

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """A cell begins, or begins again after its worker was lost."""
        cell = _cell(trial)
        self._status.start(cell)
        self._track(self._tracking.start, cell)

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """A worker reports points of the curves, a finished cell, or what went wrong."""
        cell = _cell(trial)
        if points := result.get("points"):
            self._track(self._tracking.curves, cell, points)
        if error := result.get("error"):
            self._failed(cell, error, result.get("traceback", ""))
        elif row := result.get("row"):
            self._record(cell, row, result["curves"])

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """Ray gave the cell up: its worker was lost too often."""
        self._failed(_cell(trial), f"its worker was lost; see {trial.error_file}", "")

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """Once a turn of Ray's loop."""
        self._status.refresh(every=1.0)

    def _record(self, cell: Cell, row: Mapping[str, Any], curves: list) -> None:
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
            write_record(self._sweep.out, row, self._classes)
        except (OSError, RecordsError) as error:
            self.stopped = f"{self._sweep.out} cannot be written ({error})"
            self._failed(cell, f"not recorded: {self.stopped}", "")
            return
        self.recorded.add(cell.key)
        self._track(self._tracking.finish, cell, row)
        if row["status"] == "failed":
            self.failures[cell.key] = str(row["error"])
            log.error("%s: %s", cell, row["error"])
            self._status.end(cell, None, None, str(row["error"]))
        else:
            self.failures.pop(cell.key, None)
            log.info("%s: test F1 %.4f in %.1f s", cell, row["test_f1_macro"], row["seconds"])
            self._status.end(cell, row["test_f1_macro"], row["seconds"])

    def _track(self, write: Callable[..., None], *what: Any) -> None:
        """Write to MLflow; that it cannot be written is remembered and stops nothing."""
        try:
            write(*what)
        except TRACKING_ERRORS as error:
            self.untracked = " ".join(str(error).split())[:200]
            log.exception("MLflow could not be written")

    def _failed(self, cell: Cell, reason: str, traceback: str) -> None:
        self.failures[cell.key] = reason
        log.error("%s: %s\n%s", cell, reason, traceback)
        self._track(self._tracking.abandon, cell)
        self._status.end(cell, None, None, reason)


def _cell(trial: Any) -> Cell:
    return Cell(**trial.config["cell"])
