"""Learning rates that Optuna proposes to Ray Tune: from a grid, or by TPE from the scores so far.

The records are authoritative. Each command first updates the Optuna database, which TPE learns from, to agree with
them, since an earlier command may have been interrupted.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch

from analysis.records.schema import Record
from sweep.logs import redirect
from sweep.storage.run_dir import database_uri
from trainables.cell import Cell
from trainables.objective_names import without_learning_rate

log = logging.getLogger(__name__)

RATE, SCORE = "lr", "val_f1_macro"
"""Names in the Optuna database."""

Scores = Mapping[str, float | None]
"""Key -> validation score of a recorded cell; None if it failed."""


def open_database(path: Path) -> BaseStorage:
    """Open the Optuna database; create it if needed."""
    redirect("optuna")
    return RDBStorage(database_uri(path))


class RateProposer:
    """Proposes the rates of one loss, one by one, to run on the first seed."""

    def __init__(
        self,
        cell: Callable[[float], Cell],
        storage: BaseStorage,
        scores: Scores,
        *,
        rates: Sequence[float],
        known: Sequence[float],
        trials: int,
    ) -> None:
        """Update the study of the loss in the database to agree with the records.

        Args:
            cell: rate -> its cell on the first seed.
            storage: from `open_database`.
            scores: of recorded cells.
            rates: the grid; TPE starts with these rates and stays between the smallest and the largest.
            known: all rates that were ever tried.
            trials: number of rates that TPE tries, including recorded ones; 0: only the grid.
        """
        self._cell, self._scores, self._rates, self._trials = cell, scores, tuple(sorted(set(rates))), trials
        self.objective = without_learning_rate(cell(self._rates[0]).objective)
        span = FloatDistribution(self._rates[0], self._rates[-1], log=True)
        recorded = {rate: scores[cell(rate).key] for rate in known if cell(rate).key in scores}
        cut_off = update_study(storage, self.objective, recorded, span)
        first = self._rates if not trials else (*cut_off, *self._rates)
        # The grid is a list of points, because GridSampler of Optuna has a random order and counts an interrupted trial
        # as done.
        points = [{RATE: rate} for rate in dict.fromkeys(first) if cell(rate).key not in scores]
        self._search = OptunaSearch(
            {RATE: span},
            metric=SCORE,
            mode="max",
            points_to_evaluate=points or None,
            sampler=optuna.samplers.TPESampler(seed=0),
            study_name=self.objective,
            storage=storage,
        )
        self._tried = set(recorded)
        self._names: dict[str, str] = {}
        self._count = 0

    @property
    def open(self) -> bool:
        """Whether a rate remains to be tried."""
        if self._trials:
            return len(self._tried) < self._trials
        return not self._tried.issuperset(self._rates)

    def propose(self, trial_id: str) -> tuple[float, Cell] | None:
        """The next rate and its cell for a trial of Tune; None if all were proposed."""
        while self.open:
            self._count += 1
            name = f"{trial_id}-{self._count}"
            rate = self._rounded((self._search.suggest(name) or {})[RATE])
            # An earlier command left it in the database, or it was proposed twice.
            if rate in self._tried or not (self._trials or rate in self._rates):
                self._search.on_trial_complete(name, None, error=True)
                continue
            self._tried.add(rate)
            self._names[trial_id] = name
            return rate, self._cell(rate)
        return None

    def add_score(self, trial_id: str, score: float | None) -> None:
        """Report the score of a finished trial to Optuna; None if its cell failed."""
        name = self._names[trial_id]
        self._search.on_trial_complete(name, None if score is None else {SCORE: score}, error=score is None)

    def _rounded(self, rate: float) -> float:
        """The rate, rounded to three digits to be readable."""
        return rate if rate in self._rates else float(f"{rate:.3g}")


def update_study(
    storage: BaseStorage, objective: str, recorded: Mapping[float, float | None], space: FloatDistribution
) -> list[float]:
    """Update a study to agree with the records; return the interrupted rates that have no record.

    Args:
        storage: the Optuna database.
        objective: name of the study.
        recorded: rate -> score on the first seed; None if the cell failed.
        space: range of the rates.
    """
    study = optuna.create_study(storage=storage, study_name=objective, direction="maximize", load_if_exists=True)
    cut_off = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
        if trial.state == TrialState.RUNNING and RATE in trial.params:
            rate = trial.params[RATE]
            cut_off += [] if rate in recorded else [rate]
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
    known = {trial.params[RATE] for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    for rate, score in recorded.items():
        if score is not None and not any(abs(rate - one) <= 5e-3 * rate for one in known):
            low, high = min(space.low, rate), max(space.high, rate)
            wide = FloatDistribution(low, high, log=True)
            study.add_trial(create_trial(value=score, params={RATE: rate}, distributions={RATE: wide}))
    return cut_off


class OptunaCells(Searcher):
    """Suggests one rate of each loss in turn, then the cells of the random encoder."""

    def __init__(
        self,
        random: Sequence[Cell],
        proposers: Sequence[RateProposer],
        on_start: Callable[[Cell, float], None],
        *,
        closed: Callable[[], bool],
    ) -> None:
        """Store what to suggest.

        Args:
            random: cells of the random encoder.
            proposers: one for each loss.
            on_start: called with each cell and its rate, before the cell runs.
            closed: returns whether to suggest no further cells.
        """
        super().__init__()  # a metric would be required in every report
        self._random, self._queue, self._on_start, self._closed = list(random), list(proposers), on_start, closed
        self._proposers: dict[str, RateProposer] = {}
        self._scores: dict[str, float | None] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher to restore it, which we never do, and threads cannot be pickled."""
        return {}

    @property
    def open(self) -> bool:
        """Whether a cell remains to be suggested."""
        return bool(self._random) or any(proposer.open for proposer in self._queue)

    def suggest(self, trial_id: str) -> Any:
        """The next cell with its rate, or `Searcher.FINISHED`."""
        while self._queue and not self._closed():
            proposer = self._queue.pop(0)
            if proposal := proposer.propose(trial_id):
                rate, cell = proposal
                self._queue.append(proposer)
                self._proposers[trial_id] = proposer
                self._on_start(cell, rate)
                return {"cell": asdict(cell), "rate": rate}
        if self._random and not self._closed():  # the shortest cells last
            return {"cell": asdict(self._random.pop(0)), "rate": None}
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        """Store the score of a record that a worker reports. A failed cell has none."""
        record: Record | None = result.get("record")
        if record is not None and record.status == "done" and record.val_f1_macro is not None:
            self._scores[trial_id] = record.val_f1_macro

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Report the score of a finished cell to Optuna. A cell without a score may run again."""
        if trial_id in self._proposers and trial_id in self._scores:
            self._proposers[trial_id].add_score(trial_id, self._scores[trial_id])
