"""One search from beginning to end: seed after seed, the better half of the rates going on; then the choice."""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.records.io import read_records, recorded_keys
from analysis.stats import learning_rates as judged
from datasets.errors import InputError
from datasets.registry import load
from datasets.source import Source
from sweep import logs
from sweep.cluster.machine import Machine
from sweep.config.sweep import Sweep
from sweep.lr_search.config import Search, SearchFolder
from sweep.lr_search.report import conclude
from sweep.signals import Stop
from sweep.storage.cleanup import tidy
from sweep.storage.lock import alone
from sweep.summarize import stopped_at_once
from sweep.tracking.background import Logbook
from sweep.tune.console import Terminal
from sweep.tune.outcome import Outcome
from sweep.tune.runner import came_to, followed, origin
from trainables.cell import Cell
from trainables.objective_names import without_learning_rate

if TYPE_CHECKING:
    from sweep.lr_search.optuna_searcher import Proposals


@dataclass(kw_only=True)
class Tried:
    """What is recorded of a search, and which rate each of its cells has."""

    cells: list[Cell] = field(default_factory=list)
    """All of them; the logbook looks at this very list."""
    rates: dict[str, float] = field(default_factory=dict)
    """Key -> learning rate; grows when cells are handed out."""
    scores: dict[str, float | None] = field(default_factory=dict)
    """Key -> validation score of what is recorded; None: failed."""

    def add(self, cell: Cell, rate: float) -> None:
        """A cell is tried with a rate."""
        if cell.key not in self.rates:
            self.cells.append(cell)
        self.rates[cell.key] = rate

    def plain(self, cell: Cell) -> None:
        """A cell of the random encoder."""
        if cell not in self.cells:
            self.cells.append(cell)

    @property
    def by_recipe(self) -> dict[tuple[str, str], float]:
        """(Recipe's fingerprint, objective) -> learning rate."""
        return {(cell.recipe, cell.objective): self.rates[cell.key] for cell in self.cells if cell.key in self.rates}

    def of(self, objective: str) -> list[float]:
        """The rates of a loss, sorted."""
        return sorted({rate for (_, name), rate in self.by_recipe.items() if without_learning_rate(name) == objective})


def search_rates(search: Search, base: Sweep) -> int:
    """Run what is missing of a search and show what it found.

    Args:
        search: what was asked for.
        base: the sweep that is to have the rates.

    Returns:
        0 if a rate is chosen for each loss; 1 if some cells are missing or no rate of a loss could be trained; 130
        after Ctrl-C, 143 after SIGTERM.

    Raises:
        InputError: the data or the folder do not fit, or another command runs there.
    """
    began = time.time()
    folder = SearchFolder(search.sweep.root)
    folder.own()
    with alone(folder) as before:
        if before:
            print(f"the search that ran here ({before}) was cut off; what it has recorded and checkpointed is used")
        tidy(search.sweep.keeping, recorded_keys(folder.root).status, before=began)
        sweep = search.sweep.going_on(folder.check(search.sweep))
        source = load(sweep.recipe.data, sweep.place, sweep.demands)
        from sweep.autotune.choose import settle
        from sweep.cluster.session import first_machine, ray_session

        with ExitStack() as stack:
            folder.claim(sweep, source.fingerprint)
            logs.to_file(folder.log)
            stack.enter_context(ray_session(sweep.engine))
            there = first_machine(sweep.engine.threads)
            sweep, engine = settle(sweep, [search.cell(name, search.rates[0], 0) for name in search.losses], there)
            search = search.settled(sweep)
            folder.claim(sweep, source.fingerprint)
            print(f"learning rates for {base.preset} in {sweep.out}, on {source.title}\nengine: {engine}", flush=True)
            tried = known(search, folder)
            logbook = stack.enter_context(
                Logbook(sweep, folder, kind="lr_search", cells=tried.cells, rates=tried.rates)
            )
            if tried.scores:
                logbook.fill(folder.root, tried.cells)
            stop = Stop(sweep.keeping.stop)
            with stop.listening():
                outcome, left = _climb(search, folder, source, there, logbook, tried, stop)
            if stop.at_once:
                stopped_at_once()
                return stop.code
            if outcome.unwritable:
                raise InputError(f"{outcome.unwritable}: free space, then run the same command again")
            complete = conclude(search, base, folder, logbook, tried.by_recipe, left, outcome)
    return stop.code if stop.asked else 0 if complete else 1


def _climb(
    search: Search,
    folder: SearchFolder,
    source: Source,
    machine: Machine,
    logbook: Logbook,
    tried: Tried,
    stop: Stop,
) -> tuple[Outcome, list[Cell]]:
    """A seed after the other; returns how the last one went, and the cells that were to run and are not recorded."""
    outcome = Outcome()
    for number, seed in enumerate(search.sweep.seeds):
        cells = survivors(search, tried, number) if number else []
        for cell in cells:
            folder.keep(search, cell.objective, tried.rates[cell.key])
        tried.plain(search.random(seed))
        missing = [cell for cell in (*cells, search.random(seed)) if cell.key not in tried.scores]
        proposals = None if number else _proposals(search, folder, tried, stop, missing)
        if not missing and (proposals is None or not proposals.open):
            continue
        if number and stop.asked:  # it came when the seed before was just done
            return outcome, missing
        outcome = _rung(search, folder, source, machine, logbook, tried, stop, missing, proposals)
        tried.scores = scores(folder)
        if left := unfinished(search, tried, seed, proposed=number == 0):
            return outcome, left
    return outcome, []


def unfinished(search: Search, tried: Tried, seed: int, *, proposed: bool) -> list[Cell]:
    """The cells of a seed without a record; `proposed`: those of the grid too that were never handed out."""
    grid = [search.cell(name, rate, seed) for name in search.losses for rate in sorted(set(search.rates))]
    cells = [*(grid if proposed else ()), *(cell for cell in tried.cells if cell.seed == seed)]
    return [cell for cell in dict.fromkeys(cells) if cell.key not in tried.scores]


def survivors(search: Search, tried: Tried, number: int) -> list[Cell]:
    """The cells of the seed of this number: those of the rates that have come so far.

    Each earlier seed is gone through again, so that what an earlier command has recorded decides as it did then.
    """
    seeds, found = search.sweep.seeds, list[Cell]()
    for objective in search.losses:
        inside = tuple(tried.of(objective)) if search.wanted else tuple(sorted(set(search.rates)))
        for before in range(1, number + 1):
            table = {}
            for rate in inside:
                values = [tried.scores.get(search.cell(objective, rate, seed).key) for seed in seeds[:before]]
                if all(value is not None for value in values):
                    table[rate] = [value for value in values if value is not None]
            inside = judged.surviving(table) if search.prune else tuple(table)
        for rate in inside:
            cell = search.cell(objective, rate, seeds[number])
            tried.add(cell, rate)
            found.append(cell)
    return found


def _rung(
    search: Search,
    folder: SearchFolder,
    source: Source,
    machine: Machine,
    logbook: Logbook,
    tried: Tried,
    stop: Stop,
    cells: Sequence[Cell],
    proposals: "Proposals | None",
) -> Outcome:
    """Run the cells of one seed, or what is proposed."""
    from ray import tune

    from sweep.tune.grid_searcher import GridSearcher
    from sweep.tune.recorder import Recorder
    from sweep.tune.runner import run_rounds
    from sweep.tune.trainable import try_rate
    from sweep.tune.watchdog import Watch

    def beside(cell: Cell) -> dict[str, Any]:
        return {"rate": tried.rates.get(cell.key)}

    def handing_out(some: Sequence[Cell]) -> GridSearcher:
        return GridSearcher(some, closed=lambda: stop.asked, beside=beside)

    def said(row: Mapping[str, Any]) -> str:
        rate = f"lr {tried.rates[row['key']]:<7g}" if row["key"] in tried.rates else f"{'':10}"
        return f"{rate} validation F1 {100 * row['val_f1_macro']:5.1f} %"

    sweep = search.sweep
    terminal = Terminal(len(cells), 0)
    recorder = Recorder(sweep, source.classes, origin(sweep, source), logbook, terminal, stop, score=said)
    trainable = tune.with_parameters(
        try_rate, recipe=sweep.recipe, source=source, engine=sweep.engine, imagenet=None, keeping=sweep.keeping
    )
    watch = Watch(sweep.patience, terminal)
    with followed(terminal, stop):
        run_rounds(
            sweep,
            trainable,
            proposals or handing_out(cells),
            handing_out,
            machine,
            recorder,
            watch,
            None,  # how many cells there will be is not known before the last seed
            stop,
            folder.logs,
            grows=False,
        )
    return came_to(recorder, stop)


def _proposals(search: Search, folder: SearchFolder, tried: Tried, stop: Stop, plain: Sequence[Cell]) -> "Proposals":
    from sweep.lr_search.optuna_searcher import Proposals, Proposer, database

    storage, seed = database(folder.optuna), search.sweep.seeds[0]

    def begin(cell: Cell, rate: float) -> None:
        folder.keep(search, cell.objective, rate)
        tried.add(cell, rate)

    proposers = [
        Proposer(
            partial(search.cell, name, seed=seed),
            storage,
            tried.scores,
            rates=search.rates,
            known=tried.of(name),
            trials=search.wanted,
        )
        for name in search.losses
    ]
    return Proposals(plain, proposers, begin, closed=lambda: stop.asked)


def known(search: Search, folder: SearchFolder) -> Tried:
    """What the folder holds of this search and earlier ones with other rates or seeds."""
    tried = Tried(scores=scores(folder))
    recipes = folder.kept()
    for row in _rows(folder).to_dict("records"):
        recipe, objective = recipes.get(str(row["recipe"])), str(row["objective"])
        if recipe and without_learning_rate(objective) in search.losses:
            rate = recipe.learning_rate(objective)
            tried.add(search.cell(objective, rate, int(row["seed"])), rate)
    return tried


def scores(folder: SearchFolder) -> dict[str, float | None]:
    """Key -> validation score of each recorded cell; None of one that failed."""
    rows = _rows(folder).to_dict("records")
    return {str(row["key"]): float(row["val_f1_macro"]) if row["status"] == "done" else None for row in rows}


def _rows(folder: SearchFolder) -> pd.DataFrame:
    columns = ["key", "objective", "recipe", "seed", "status", "val_f1_macro"]
    if not recorded_keys(folder.root).status:
        return pd.DataFrame(columns=columns)
    return read_records(folder.root)[columns]
