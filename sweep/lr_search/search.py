"""One search for learning rates from beginning to end: the rungs of successive halving, then the choice."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from analysis.records.io import compact, read_records, recorded_keys
from analysis.stats import learning_rates
from analysis.stats.learning_rates import Choice
from datasets.errors import InputError
from datasets.files import write_text_atomically
from datasets.source import Source
from sweep import logs
from sweep.backend import RayBackend
from sweep.config.sweep import Sweep
from sweep.config.yaml_io import to_yaml
from sweep.lr_search import report
from sweep.lr_search.config import SearchConfig, SearchDir
from sweep.lr_search.halving import RateTable, promoted, read_scores, read_table, unfinished
from sweep.prepare import check_settings, claim, load_sources, previous_sweep, take_over
from sweep.signals import StopRequest
from sweep.storage.lock import locked
from sweep.summarize import (
    AGAIN,
    last_step,
    print_mlflow,
    print_stopped,
    python_command,
    recorded_errors,
    refuse_if,
)
from sweep.tracking.background import BackgroundTracking
from sweep.tune.outcome import Outcome
from trainables.cell import Cell

if TYPE_CHECKING:
    from sweep.lr_search.optuna_searcher import OptunaCells
    from sweep.tune.runner import TuneRunner


def search_learning_rates(search: SearchConfig, base: Sweep) -> int:
    """Run the missing cells of a search and show its result.

    Args:
        search: its settings.
        base: the sweep that will use the rates.

    Returns:
        0 if each loss has a chosen rate; 1 if cells are missing or all rates of a loss failed; 130 after Ctrl-C, 143
        after SIGTERM.

    Raises:
        InputError: the data or the folder do not fit, or another command uses the folder.
    """
    began = time.time()
    run_dir = SearchDir(search.sweep.run_dir.root)
    run_dir.refuse_sweep()
    with locked(run_dir) as killed:
        take_over(run_dir, killed, before=began)
        sweep = search.sweep.continuing(previous_sweep(run_dir, search.sweep))
        check_settings(sweep, None)
        (source,) = load_sources(sweep).values()  # before Ray starts, as in a sweep
        claim(run_dir, sweep, [source.fingerprint])
        logs.to_file(run_dir.log)
        return _search_with_ray(replace(search, sweep=sweep), base, run_dir, source)


def _search_with_ray(search: SearchConfig, base: Sweep, run_dir: SearchDir, source: Source) -> int:
    """Start Ray, choose the engine, run the search, and return the exit code."""
    from sweep.autotune.choose import choose_engine  # here: Ray takes a second to import
    from sweep.autotune.microbenchmark import benchmark_processes
    from sweep.cluster.session import first_machine
    from sweep.tune.job import WorkerJob
    from sweep.tune.runner import TuneRunner

    with RayBackend(None).session(search.sweep):
        machine = first_machine(search.sweep.engine.threads)
        first_rung = [search.cell(name, search.rates[0], 0) for name in search.losses]
        sources = {search.sweep.recipe.data: source}
        sweep, engine = choose_engine(search.sweep, first_rung, machine, sources, benchmark_processes)
        search = replace(search, sweep=sweep)
        claim(run_dir, sweep, [source.fingerprint])
        print(f"learning rates for {base.preset} in {sweep.out}, on {source.title}\nengine: {engine}", flush=True)
        table, stop = read_table(search, run_dir), StopRequest(run_dir)
        with BackgroundTracking(sweep, run_dir, kind="lr_search", cells=table.cells, rates=table.rates) as tracking:
            if table.scores:
                tracking.fill(run_dir.root, table.cells)
            runner = TuneRunner(sweep, WorkerJob.of(sweep, sources), machine, run_dir, tracking, stop)
            lr_search = LrSearch(
                search=search, base=base, run_dir=run_dir, runner=runner, tracking=tracking, stop=stop, table=table
            )
            with stop.handling():
                lr_search.run()
            if stop.at_once:
                print_stopped(run_dir)
                return stop.code
            if reason := lr_search.outcome.unwritable:
                raise InputError(f"{reason}: {AGAIN}")
            complete = lr_search.conclude()
    return stop.code if stop.asked else 0 if complete else 1


@dataclass(kw_only=True)
class LrSearch:
    """A running search."""

    search: SearchConfig
    """Its settings, with the chosen engine."""
    base: Sweep
    """The sweep that will use the rates."""
    run_dir: SearchDir
    runner: "TuneRunner"
    tracking: BackgroundTracking
    stop: StopRequest
    table: RateTable
    """The cells and their scores, updated after each rung."""
    outcome: Outcome = field(default_factory=Outcome)
    """The outcome of the last rung."""
    missing: list[Cell] = field(default_factory=list)
    """The cells without a record."""

    def run(self) -> None:
        """Run the rungs in order. Stop after a rung with cells that have no record."""
        for rung, seed in enumerate(self.search.sweep.seeds):
            cells = promoted(self.search, self.table, rung) if rung else []
            for cell in cells:
                self.run_dir.write_recipe(self.search, cell.objective, self.table.rates[cell.key])
            cells.append(self.search.random_cell(seed))
            self.table.add_random(cells[-1])
            missing = [cell for cell in cells if cell.key not in self.table.scores]
            proposals = None if rung else self._propose(missing)
            if not missing and (proposals is None or not proposals.open):
                continue
            if rung and self.stop.asked:  # a signal came just after the previous rung
                self.missing = missing
                return
            self.outcome = self.runner.run(missing, rates=self.table.rates, proposals=proposals)
            self.table.scores = read_scores(self.run_dir)
            self.missing = unfinished(self.search, self.table, rung)
            if self.missing:
                return

    def _propose(self, random: Sequence[Cell]) -> "OptunaCells":
        """The cells of the first rung: Optuna proposes their rates; cells of the random encoder come last."""
        from sweep.lr_search.optuna_searcher import OptunaCells, RateProposer, open_database

        storage, seed = open_database(self.run_dir.optuna), self.search.sweep.seeds[0]
        proposers = [
            RateProposer(
                partial(self.search.cell, name, seed=seed),
                storage,
                self.table.scores,
                rates=self.search.rates,
                known=self.table.rates_of(name),
                trials=self.search.tpe_trials,
            )
            for name in self.search.losses
        ]
        return OptunaCells(random, proposers, self._begin, closed=lambda: self.stop.asked)

    def _begin(self, cell: Cell, rate: float) -> None:
        """Write the recipe of a proposed cell before it runs."""
        self.run_dir.write_recipe(self.search, cell.objective, rate)
        self.table.add(cell, rate)

    def conclude(self) -> bool:
        """Choose the rates, write tables, a plot and the sweep with these rates, and print the result.

        Returns:
            Whether each loss has a chosen rate, and no cell is missing.

        Raises:
            InputError: a result could not be written. Everything else was printed before.
        """
        chosen, failures, files, failed = list[Choice](), list[str](), list[Path](), list[str]()
        if recorded_keys(self.run_dir.root).status:
            rows = learning_rates.table(read_records(self.run_dir.root), self.table.by_recipe)
            rows = report.requested_rows(report.named_by_loss(rows), self.search)
            if not self.missing and not self.outcome.stop:
                chosen = report.choose_rates(rows, self.search)
            with last_step("the table could not be written", failed):
                files += report.write_table(rows, chosen, self.run_dir)
            with last_step("the summary could not be written", failed):
                files.append(compact(self.run_dir.root))
            if not self.outcome.stop:
                with last_step("the figure could not be drawn"):
                    files += report.draw(rows, chosen, self.run_dir, self.base.preset)
            if self._is_complete(chosen):
                with last_step("the sweep with the chosen rates could not be written", failed):
                    write_text_atomically(self.run_dir.chosen, to_yaml(report.with_chosen_rates(self.base, chosen)))
                    files.append(self.run_dir.chosen)
            self._log_choice(chosen, files)
            with last_step("the reasons of failed cells cannot be read"):
                failures = report.failure_lines(rows, recorded_errors(self.run_dir.root))
        self._print_places()
        print("".join(f"{line}\n" for line in failures), end="")
        self._print_result(chosen)
        refuse_if(failed)
        return self._is_complete(chosen)

    def _is_complete(self, chosen: Sequence[Choice]) -> bool:
        return len(chosen) == len(self.search.losses)

    def _log_choice(self, chosen: Sequence[Choice], files: Sequence[Path]) -> None:
        """Log the choice and the files to MLflow."""
        if self.outcome.stop is None:
            self.tracking.fill_again()
            metrics = {f"chosen_lr_{choice.objective}": choice.rate for choice in chosen}
            metrics |= {f"val_f1_{choice.objective}": choice.score for choice in chosen}
            self.tracking.end(self._is_complete(chosen), metrics, files)

    def _print_places(self) -> None:
        """Print where the files are."""
        run_dir = self.run_dir
        print(f"rates     {run_dir.rates_table}\nfigure    {run_dir.figures / 'rates.png'}\nlogs      {run_dir.log}")
        print_mlflow(self.tracking)
        if self.tracking.fault:
            print(f"MLflow could not be written ({self.tracking.fault}); the same command adds what is missing")

    def _print_result(self, chosen: Sequence[Choice]) -> None:
        """Print what is missing, or the chosen rates."""
        if self.missing:
            print(f"\n{len(self.missing)} cells are missing; the same command runs them and continues:")
            for cell in self.missing:
                print(f"  {cell}: {self.outcome.failures.get(cell.key, 'not finished')}")
            return
        if self.outcome.stop:
            print("stopped; the same command continues")
            return
        for name in self.search.losses:
            if name not in {choice.objective for choice in chosen}:
                print(f"{name}: every rate failed on some seed: add smaller ones to --rates")
        if self._is_complete(chosen):
            print(f"chosen    {', '.join(f'{choice.objective} {choice.rate:g}' for choice in chosen)}")
            print(f"run them  {python_command()} -m sweep.run --config {shlex.quote(str(self.run_dir.chosen))}")
