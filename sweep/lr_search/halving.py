"""Successive halving of learning rates (https://arxiv.org/abs/1502.07943): each rung is a seed.

The better half of the rates of a rung is promoted to the next. Only records decide, so a command that continues a
search promotes the same rates as the first one.
"""

from dataclasses import dataclass, field

import pandas as pd

from analysis.records.io import read_records, recorded_keys
from analysis.stats import learning_rates
from sweep.lr_search.config import SearchConfig, SearchDir
from trainables.cell import Cell
from trainables.objective_names import without_learning_rate


@dataclass(kw_only=True)
class RateTable:
    """The cells of a search, their learning rates, and the scores of the recorded ones."""

    cells: list[Cell] = field(default_factory=list)
    """All cells. The thread that writes to MLflow reads the same list."""
    rates: dict[str, float] = field(default_factory=dict)
    """Key -> learning rate, also of cells that the searcher suggests later."""
    scores: dict[str, float | None] = field(default_factory=dict)
    """Key -> validation score of recorded cells; None if the cell failed."""

    def add(self, cell: Cell, rate: float) -> None:
        """Add a cell with its learning rate."""
        if cell.key not in self.rates:
            self.cells.append(cell)
        self.rates[cell.key] = rate

    def add_random(self, cell: Cell) -> None:
        """Add a cell of the random encoder, which has no learning rate."""
        if cell not in self.cells:
            self.cells.append(cell)

    @property
    def by_recipe(self) -> dict[tuple[str, str], float]:
        """(Fingerprint of the recipe, objective) -> learning rate."""
        return {(cell.recipe, cell.objective): self.rates[cell.key] for cell in self.cells if cell.key in self.rates}

    def rates_of(self, objective: str) -> list[float]:
        """The rates of a loss, sorted."""
        return sorted({rate for (_, name), rate in self.by_recipe.items() if without_learning_rate(name) == objective})


def promoted(search: SearchConfig, table: RateTable, rung: int) -> list[Cell]:
    """Add the cells of a rung to the table, one for each promoted rate, and return them.

    All earlier rungs are evaluated again, so the records of an earlier command lead to the same promotions.
    """
    seeds, cells = search.sweep.seeds, list[Cell]()
    for objective in search.losses:
        rates = tuple(table.rates_of(objective)) if search.tpe_trials else tuple(sorted(set(search.rates)))
        for count in range(1, rung + 1):
            scores = {}
            for rate in rates:
                values = [table.scores.get(search.cell(objective, rate, seed).key) for seed in seeds[:count]]
                if all(value is not None for value in values):
                    scores[rate] = [value for value in values if value is not None]
            rates = learning_rates.surviving(scores) if search.prune else tuple(scores)
        for rate in rates:
            cell = search.cell(objective, rate, seeds[rung])
            table.add(cell, rate)
            cells.append(cell)
    return cells


def unfinished(search: SearchConfig, table: RateTable, rung: int) -> list[Cell]:
    """The cells of a rung without a record; on the first rung also those of the grid that were never suggested."""
    seed = search.sweep.seeds[rung]
    grid = [search.cell(name, rate, seed) for name in search.losses for rate in sorted(set(search.rates))]
    cells = [*(() if rung else grid), *(cell for cell in table.cells if cell.seed == seed)]
    return [cell for cell in dict.fromkeys(cells) if cell.key not in table.scores]


def read_table(search: SearchConfig, run_dir: SearchDir) -> RateTable:
    """The recorded cells of this search in a folder, and of earlier ones with other rates or seeds."""
    table = RateTable(scores=read_scores(run_dir))
    recipes = run_dir.read_recipes()
    for row in _rows(run_dir).to_dict("records"):
        recipe, objective = recipes.get(str(row["recipe"])), str(row["objective"])
        if recipe and without_learning_rate(objective) in search.losses:
            rate = recipe.learning_rate(objective)
            table.add(search.cell(objective, rate, int(row["seed"])), rate)
    return table


def read_scores(run_dir: SearchDir) -> dict[str, float | None]:
    """Key -> validation score of each recorded cell; None if it failed."""
    rows = _rows(run_dir).to_dict("records")
    return {str(row["key"]): float(row["val_f1_macro"]) if row["status"] == "done" else None for row in rows}


def _rows(run_dir: SearchDir) -> pd.DataFrame:
    columns = ["key", "objective", "recipe", "seed", "status", "val_f1_macro"]
    if not recorded_keys(run_dir.root).status:
        return pd.DataFrame(columns=columns)
    return read_records(run_dir.root)[columns]
