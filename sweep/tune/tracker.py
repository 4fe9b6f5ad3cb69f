"""The callback of Ray Tune, which tells the driver which cells run."""

from typing import Any

from ray.tune import Callback

from sweep.tune.running import RunningCells
from trainables.cell import Cell

LARGE = ("points", "record", "curves", "examples", "traceback")
"""Keys of large values that only the recorder needs."""


class TrialTracker(RunningCells, Callback):
    """Passes events of Ray Tune on. An attempt's name is Ray's name of the trial."""

    def __getstate__(self) -> dict[str, Any]:
        """Empty: Tune pickles its callbacks, which hold threads. They are never restored."""
        return {}

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """See `CellListener.cell_started`."""
        self.started(trial.trial_id, _cell(trial))

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **info: Any) -> None:
        """See `CellListener.cell_reported`."""
        self.reported(trial.trial_id, _cell(trial), result)
        for name in LARGE:  # Tune writes the last result of each trial to disk again and again
            result.pop(name, None)
        result["not_empty"] = True  # Tune prints a line about a trial with an empty last result

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """See `CellListener.worker_lost`."""
        cell = _cell(trial)
        self.ended(
            trial.trial_id, cell, lambda listener: listener.worker_lost(cell, trial.num_failures, trial.max_failures)
        )

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """See `CellListener.cell_given_up`."""
        cell = _cell(trial)
        self.ended(
            trial.trial_id, cell, lambda listener: listener.cell_given_up(cell, trial.num_failures, trial.error_file)
        )

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        """See `CellListener.cell_ended`."""
        self.ended(trial.trial_id, _cell(trial))

    def on_step_end(self, iteration: int, trials: list, **info: Any) -> None:
        """See `CellListener.step_ended`."""
        self.step_ended()


def _cell(trial: Any) -> Cell:
    return Cell(**trial.config["cell"])
