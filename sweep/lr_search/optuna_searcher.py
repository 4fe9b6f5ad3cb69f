"""Learning rates proposed by Optuna through Ray Tune: those of a grid, or by TPE from the scores so far.

What is recorded is the truth, and Optuna's database what TPE learns from: at the beginning of a command the database is
brought up to the records, whatever an earlier one left unfinished.
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

from sweep.logs import redirect
from trainables.cell import Cell
from trainables.objective_names import without_learning_rate

log = logging.getLogger(__name__)

RATE, SCORE = "lr", "val_f1_macro"
"""Names in Optuna's database."""

Scores = Mapping[str, float | None]
"""Key -> validation score of a recorded cell; None of one that failed."""


def database(path: Path) -> BaseStorage:
    """Optuna's database, made where there is none."""
    redirect("optuna")
    return RDBStorage(f"sqlite:///{path.resolve()}")


class Proposer:
    """The rates of one loss, one after the other, each tried with the first seed."""

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
        """Bring the loss's study in the database up to the records.

        Args:
            cell: rate -> its cell with the first seed.
            storage: from `database`.
            scores: of what is recorded.
            rates: the grid; for TPE what it begins with, and the smallest and largest it may propose.
            known: all rates that were ever tried.
            trials: how many rates TPE tries, with what is recorded; 0: the grid, and nothing else.
        """
        self._cell, self._scores, self._rates, self._trials = cell, scores, tuple(sorted(set(rates))), trials
        self.objective = without_learning_rate(cell(self._rates[0]).objective)
        span = FloatDistribution(self._rates[0], self._rates[-1], log=True)
        recorded = {rate: scores[cell(rate).key] for rate in known if cell(rate).key in scores}
        cut_off = heal(storage, self.objective, recorded, span)
        begin = self._rates if not trials else (*cut_off, *self._rates)
        # The grid is handed to Optuna point by point: its GridSampler draws them in a random order, and counts a trial
        # that was cut off as done.
        points = [{RATE: rate} for rate in dict.fromkeys(begin) if cell(rate).key not in scores]
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
        self._asked = 0

    @property
    def open(self) -> bool:
        """Whether there is a rate left to be tried."""
        if self._trials:
            return len(self._tried) < self._trials
        return not self._tried.issuperset(self._rates)

    def propose(self, trial_id: str) -> tuple[float, Cell] | None:
        """The next rate and its cell for a trial of Tune's; None when all are handed out."""
        while self.open:
            self._asked += 1
            name = f"{trial_id}-{self._asked}"
            rate = self._rounded((self._search.suggest(name) or {})[RATE])
            # Left in the database by an earlier command, or proposed twice.
            if rate in self._tried or not (self._trials or rate in self._rates):
                self._search.on_trial_complete(name, None, error=True)
                continue
            self._tried.add(rate)
            self._names[trial_id] = name
            return rate, self._cell(rate)
        return None

    def tell(self, trial_id: str, score: float | None) -> None:
        """A trial has ended, with its cell's score or without one."""
        name = self._names[trial_id]
        self._search.on_trial_complete(name, None if score is None else {SCORE: score}, error=score is None)

    def _rounded(self, rate: float) -> float:
        """Three digits are enough for a rate that a person is to read."""
        return rate if rate in self._rates else float(f"{rate:.3g}")


def heal(
    storage: BaseStorage, objective: str, recorded: Mapping[float, float | None], space: FloatDistribution
) -> list[float]:
    """Bring a study up to the records; returns the rates that were cut off and have none.

    Args:
        storage: Optuna's database.
        objective: names the study.
        recorded: rate -> score with the first seed, None where the cell failed.
        space: what rates may be.
    """
    study = optuna.create_study(storage=storage, study_name=objective, direction="maximize", load_if_exists=True)
    cut_off = []
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING)):
        if trial.state == TrialState.RUNNING and RATE in trial.params:
            rate = trial.params[RATE]
            cut_off += [] if rate in recorded else [rate]
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
    told = {t.params[RATE] for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    for rate, score in recorded.items():
        if score is not None and not any(abs(rate - one) <= 5e-3 * rate for one in told):
            low, high = min(space.low, rate), max(space.high, rate)
            wide = FloatDistribution(low, high, log=True)
            study.add_trial(create_trial(value=score, params={RATE: rate}, distributions={RATE: wide}))
    return cut_off


class Proposals(Searcher):
    """Hands out cells: first those that have no rate, then one rate of each loss in turn, until all are handed out."""

    def __init__(
        self,
        plain: Sequence[Cell],
        proposers: Sequence[Proposer],
        begin: Callable[[Cell, float], None],
        *,
        closed: Callable[[], bool],
    ) -> None:
        """Nothing is proposed yet.

        Args:
            plain: cells of the random encoder.
            proposers: one a loss.
            begin: told of each rate before its cell is run.
            closed: tells whether no further cell is to be handed out.
        """
        super().__init__()  # of no metric: else each report would have to have it
        self._plain, self._turn, self._begin, self._closed = list(plain), list(proposers), begin, closed
        self._asked: dict[str, Proposer] = {}
        self._found: dict[str, float | None] = {}

    @property
    def open(self) -> bool:
        """Whether there is anything to be handed out."""
        return bool(self._plain) or any(proposer.open for proposer in self._turn)

    def suggest(self, trial_id: str) -> Any:
        """The next cell with its rate, or `Searcher.FINISHED`."""
        while self._turn and not self._closed():
            proposer = self._turn.pop(0)
            if found := proposer.propose(trial_id):
                rate, cell = found
                self._turn.append(proposer)
                self._asked[trial_id] = proposer
                self._begin(cell, rate)
                return {"cell": asdict(cell), "rate": rate}
        if self._plain and not self._closed():  # the shortest come last
            return {"cell": asdict(self._plain.pop(0)), "rate": None}
        return Searcher.FINISHED

    def on_trial_result(self, trial_id: str, result: dict) -> None:
        """A worker has reported: its row holds the score."""
        if f"row/{SCORE}" in result:
            self._found[trial_id] = result[f"row/{SCORE}"]

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """A cell has ended; Optuna is told, unless it has no score yet, for then it may run again."""
        if trial_id in self._asked and trial_id in self._found:
            self._asked[trial_id].tell(trial_id, self._found[trial_id])

    def save(self, checkpoint_path: str) -> None:
        """Nothing: what matters is in the records and the database."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: Tune is never asked to go on."""
