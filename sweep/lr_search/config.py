"""The settings of a search for learning rates, and its folder."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro
from pydantic import Field, NonNegativeInt

from datasets.errors import InputError
from datasets.files import write_text_atomically
from datasets.settings import settings
from sweep.config.stopping_rule import AddedSeeds
from sweep.config.sweep import Sweep
from sweep.config.yaml_io import from_yaml, to_yaml
from sweep.storage.run_dir import RunDir
from trainables.cell import Cell
from trainables.objective_names import objective_info, without_learning_rate
from trainables.recipe import Recipe
from trainables.registry import BASELINES, LOSSES

SEEDS = (100, 101, 102)
"""Seeds of a search. Sweeps use others, so the choice is independent of the replicates of a sweep."""
GRID = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Rates in steps of half a decade: "The learning rates were determined via a coarse grid search" (paper, V-A)."""


@settings()
class SearchConfig:
    """Learning rates to try for the losses of a sweep at rho 0."""

    config: Path | None = None
    """A sweep.yaml to search learning rates for, instead of a preset. Flags override it."""
    rates: tuple[Annotated[float, Field(gt=0, lt=1e6)], ...] = GRID
    """Learning rates to try for each loss. For --sampler tpe: those to start with; the smallest and largest are its
    limits."""
    sampler: Literal["grid", "tpe"] = "grid"
    """How rates are proposed. grid: only those of --rates; tpe: more by Optuna's tree-structured Parzen estimator."""
    trials: NonNegativeInt = 0
    """For --sampler tpe: number of rates to try for each loss, including --rates; 0: four more than --rates."""
    prune: bool = True
    """After each seed, keep only the better half of the rates."""
    sweep: Annotated[Sweep, tyro.conf.arg(name="")]

    def __post_init__(self) -> None:
        """Refuse settings that make no search."""
        if not self.rates:
            raise InputError("--rates is empty: give at least one learning rate")
        if self.sampler == "tpe" and len(set(self.rates)) < 2:
            raise InputError("--rates: tpe needs a smallest and a largest rate, give at least two")
        if self.trials and self.sampler == "grid":
            raise InputError("--trials is only for --sampler tpe: the grid tries each of --rates once")
        if 0 < self.trials < len(set(self.rates)):
            raise InputError(
                f"--trials {self.trials}: should be at least the number of --rates, {len(set(self.rates))}"
            )
        if self.sweep.rho != (0.0,) or self.sweep.retry_failed:
            raise InputError(
                "--rho and --retry-failed are only for sweep.run: a search runs at rho 0 and leaves failed cells out"
            )
        if self.sweep.vary:
            raise InputError("--vary is only for sweep.run: search learning rates at one level at a time")
        if isinstance(self.sweep.out, str):
            raise InputError(
                f"--out {self.sweep.out}: a search needs a folder on this machine, give --out FOLDER; the sweep that "
                "it writes can have an address"
            )
        if len(set(self.sweep.seeds)) < len(self.sweep.seeds):
            raise InputError("--seeds: give each seed once")
        if not self.losses:
            known = [name for name, info in {**LOSSES, **BASELINES}.items() if info.trained]
            raise InputError(f"--losses: none of these has a learning rate, choose from {', '.join(known)}")

    @property
    def losses(self) -> tuple[str, ...]:
        """The losses that have a learning rate, each named without it."""
        trained = (name for name in self.sweep.objectives if objective_info(name).trained)
        return tuple(dict.fromkeys(without_learning_rate(name) for name in trained))

    @property
    def tpe_trials(self) -> int:
        """Rates that TPE tries for each loss; 0 for the grid."""
        return (self.trials or len(set(self.rates)) + 4) if self.sampler == "tpe" else 0

    def recipe(self, objective: str, rate: float) -> Recipe:
        """The recipe that tries a rate."""
        return self.sweep.recipe.with_learning_rate(objective, rate)[0]

    def cell(self, objective: str, rate: float, seed: int) -> Cell:
        """The cell that tries a rate on a seed."""
        recipe, name = self.sweep.recipe.with_learning_rate(objective, rate)
        return self._cell(name, seed, recipe)

    def random_cell(self, seed: int) -> Cell:
        """The cell of the random encoder."""
        return self._cell("random", seed, self.sweep.recipe)

    def _cell(self, objective: str, seed: int, recipe: Recipe) -> Cell:
        return Cell(
            dataset=self.sweep.dataset, objective=objective, pairing="none", seed=seed, recipe=recipe.fingerprint
        )


def search_for(base: Sweep) -> SearchConfig:
    """The default search for a sweep, in a folder next to the folder of the sweep."""
    seen = dict.fromkeys(base.objectives, True)
    losses = tuple(name for name in seen if objective_info(name).trained or name == "random")
    sweep = replace(
        base,
        objectives=losses or base.objectives,
        rho=(0.0,),
        seeds=SEEDS,
        vary=(),
        until="",
        max_seeds=0,
        grown=AddedSeeds(),
        out=with_ending(Path("results", base.out.rsplit("/", 1)[1]) if isinstance(base.out, str) else base.out, "-lr"),
        report=False,
        retry_failed=False,
    )
    return SearchConfig(sweep=sweep)


def with_ending(out: str | Path, ending: str) -> str | Path:
    """The folder or address with an ending added to its name."""
    return f"{out}{ending}" if isinstance(out, str) else out.with_name(f"{out.name}{ending}")


def sweep_to_fill(search: SearchConfig, base: Sweep) -> Sweep:
    """The sweep that will use the rates: the grid of `base`, and the search's settings for everything else."""
    sweep = search.sweep
    return replace(
        sweep,
        objectives=base.objectives,
        rho=base.rho,
        seeds=base.seeds,
        vary=base.vary,
        until=base.until,
        max_seeds=base.max_seeds,
        out=base.out,
        report=base.report,
        retry_failed=base.retry_failed,
    )


class SearchDir(RunDir):
    """The folder of a search. Its records belong to several recipes, one for each rate."""

    @property
    def config(self) -> Path:
        """The sweep to search rates for."""
        return self.search_config

    def refuse_sweep(self) -> None:
        """Check that this is not the folder of a sweep.

        Raises:
            InputError: it is.
        """
        if super().config.exists():
            raise InputError(f"--out {self.root} is the folder of a sweep: choose another --out for the search")

    def write_recipe(self, search: SearchConfig, objective: str, rate: float) -> None:
        """Write the recipe of a rate, before a cell runs with it."""
        recipe = search.recipe(objective, rate)
        path = self.recipes / f"{recipe.fingerprint}.yaml"
        if not path.exists():
            self.recipes.mkdir(exist_ok=True)
            write_text_atomically(path, to_yaml(replace(search.sweep, preset="custom", recipe=recipe)))

    def read_recipes(self) -> dict[str, Recipe]:
        """Fingerprint -> recipe, for all rates that were tried.

        Raises:
            InputError: one cannot be read.
        """
        recipes = [from_yaml(path).recipe for path in sorted(self.recipes.glob("*.yaml"))]
        return {recipe.fingerprint: recipe for recipe in recipes}
