"""The settings of a search for learning rates, and its folder."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from datasets.errors import InputError
from datasets.files import write_text_atomically
from sweep.config.stopping_rule import AddedSeeds
from sweep.config.sweep import Sweep
from sweep.config.yaml_io import from_yaml, to_yaml
from sweep.storage.run_dir import RunDir
from trainables.cell import Cell
from trainables.objective_names import objective_info, without_learning_rate
from trainables.recipe import Recipe
from trainables.registry import BASELINES, LOSSES

SEEDS = (100, 101, 102)
"""Seeds of a search. No sweep has them, so that the choice is independent of the sweep's replicates."""
GRID = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Rates, half a decade apart: "The learning rates were determined via a coarse grid search" (paper, V-A)."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Learning rates to be tried for the losses of a sweep at rho 0."""

    config: Path | None = None
    """A sweep.yaml whose rates are searched, instead of a preset's; flags override it too."""
    rates: tuple[float, ...] = GRID
    """Learning rates that are tried for each loss; for tpe those that it begins with, and its smallest and largest."""
    sampler: Literal["grid", "tpe"] = "grid"
    """How rates are found: just those of --rates, or further ones by Optuna's tree-structured Parzen estimator."""
    trials: int = 0
    """For tpe: rates that are tried for each loss, those of --rates among them; 0: four more than these."""
    prune: bool = True
    """Go on to each further seed with the better half of the rates alone."""
    sweep: Annotated[Sweep, tyro.conf.arg(name="")]

    def __post_init__(self) -> None:
        """Refuse what cannot be searched."""
        if not self.rates:
            raise InputError("--rates is empty: give at least one learning rate")
        for rate in self.rates:
            if not 0 < rate < 1e6:
                raise InputError(f"--rates {rate:g}: a learning rate is above 0 and below a million")
        if self.sampler == "tpe" and len(set(self.rates)) < 2:
            raise InputError("--rates: tpe needs the smallest and the largest rate, give two at least")
        if self.trials and self.sampler == "grid":
            raise InputError("--trials is for --sampler tpe: the grid tries each of --rates once")
        if self.trials < 0 or 0 < self.trials < len(set(self.rates)):
            raise InputError(f"--trials {self.trials}: at least as many as --rates, {len(set(self.rates))}")
        if self.sweep.rho != (0.0,) or self.sweep.retry_failed:
            raise InputError(
                "--rho and --retry-failed are for sweep.run: a search is at rho 0, and what failed stays out"
            )
        if isinstance(self.sweep.out, str):
            raise InputError(
                f"--out {self.sweep.out}: a search needs a folder on this machine: give --out FOLDER; the sweep "
                "that it writes may go to an address"
            )
        if len(set(self.sweep.seeds)) < len(self.sweep.seeds):
            raise InputError("--seeds: each seed once")
        if not self.losses:
            known = [name for name, info in {**LOSSES, **BASELINES}.items() if info.trained]
            raise InputError(f"--losses: none of them has a learning rate, choose from {', '.join(known)}")

    @property
    def losses(self) -> tuple[str, ...]:
        """The losses whose rates are searched."""
        trained = (name for name in self.sweep.objectives if objective_info(name).trained)
        return tuple(dict.fromkeys(without_learning_rate(name) for name in trained))

    @property
    def tpe_trials(self) -> int:
        """Rates that TPE tries for each loss; 0 for the grid."""
        return (self.trials or len(set(self.rates)) + 4) if self.sampler == "tpe" else 0

    def recipe(self, objective: str, rate: float) -> Recipe:
        """The recipe under which a rate is tried."""
        return self.sweep.recipe.with_learning_rate(objective, rate)[0]

    def cell(self, objective: str, rate: float, seed: int) -> Cell:
        """The cell that tries a rate with a seed."""
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
    """The search for a sweep's rates by default, in a folder next to the sweep's."""
    seen = dict.fromkeys(base.objectives, True)
    losses = tuple(name for name in seen if objective_info(name).trained or name == "random")
    sweep = replace(
        base,
        objectives=losses or base.objectives,
        rho=(0.0,),
        seeds=SEEDS,
        until="",
        max_seeds=0,
        grown=AddedSeeds(),
        out=with_ending(Path("results", base.out.rsplit("/", 1)[1]) if isinstance(base.out, str) else base.out, "-lr"),
        report=False,
        retry_failed=False,
    )
    return SearchConfig(sweep=sweep)


def with_ending(out: str | Path, ending: str) -> str | Path:
    """The folder or address with this ending added to its name."""
    return f"{out}{ending}" if isinstance(out, str) else out.with_name(f"{out.name}{ending}")


def sweep_to_fill(search: SearchConfig, base: Sweep) -> Sweep:
    """The sweep that gets the rates: the grid of `base`, with whatever else flags have changed in the search."""
    sweep = search.sweep
    return replace(
        sweep,
        objectives=base.objectives,
        rho=base.rho,
        seeds=base.seeds,
        until=base.until,
        max_seeds=base.max_seeds,
        out=base.out,
        report=base.report,
        retry_failed=base.retry_failed,
    )


class SearchDir(RunDir):
    """A search's folder: its records belong to as many recipes as rates were tried."""

    @property
    def config(self) -> Path:
        """The sweep whose rates are searched."""
        return self.search_config

    def refuse_sweep(self) -> None:
        """Make sure that it is no sweep's folder.

        Raises:
            InputError: it is.
        """
        if super().config.exists():
            raise InputError(f"--out {self.root} is a sweep's folder: choose another --out for the search")

    def write_recipe(self, search: SearchConfig, objective: str, rate: float) -> None:
        """Write the recipe of a rate, before a cell is run under it."""
        recipe = search.recipe(objective, rate)
        path = self.recipes / f"{recipe.fingerprint}.yaml"
        if not path.exists():
            self.recipes.mkdir(exist_ok=True)
            write_text_atomically(path, to_yaml(replace(search.sweep, preset="custom", recipe=recipe)))

    def read_recipes(self) -> dict[str, Recipe]:
        """Fingerprint -> recipe of all rates that were tried.

        Raises:
            InputError: one cannot be read.
        """
        recipes = [from_yaml(path).recipe for path in sorted(self.recipes.glob("*.yaml"))]
        return {recipe.fingerprint: recipe for recipe in recipes}
