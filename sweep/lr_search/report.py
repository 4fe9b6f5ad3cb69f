"""The results of a search for learning rates: its table, its choice, and its files."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis.stats import learning_rates
from analysis.stats.learning_rates import Choice
from analysis.text import failure_reason
from datasets.files import write_text_atomically
from sweep.config.sweep import Sweep
from sweep.lr_search.config import SearchConfig, SearchDir, with_ending
from trainables.objective_names import objective_info, without_learning_rate


def named_by_loss(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, with the learning rate removed from the names of losses, since it has its own column."""
    named = rows.assign(objective=rows["objective"].map(without_learning_rate))
    return named.sort_values(["dataset", "objective", "rate", "seed"], ignore_index=True)


def requested_rows(rows: pd.DataFrame, search: SearchConfig) -> pd.DataFrame:
    """The rows with the losses, seeds and rates of this command. The folder may contain others of earlier commands."""
    mine = rows["seed"].isin(search.sweep.seeds) & rows["objective"].isin((*search.losses, "random"))
    if not search.tpe_trials:
        mine &= rows["rate"].isna() | rows["rate"].isin(search.rates)
    return rows[mine].reset_index(drop=True)


def choose_rates(rows: pd.DataFrame, search: SearchConfig) -> list[Choice]:
    """The choice for each loss that has a rate without failures."""
    choices = (learning_rates.choose(rows[rows["objective"] == name]) for name in search.losses)
    return [choice for choice in choices if choice]


def with_chosen_rates(base: Sweep, chosen: Sequence[Choice]) -> Sweep:
    """The sweep with the chosen rates, in a new folder, since its own may contain records of other rates."""
    recipe, objectives = base.recipe, base.objectives
    for choice in chosen:
        recipe, name = recipe.with_learning_rate(choice.objective, choice.rate)
        objectives = tuple(name if without_learning_rate(one) == choice.objective else one for one in objectives)
        if objective_info(name).settings is None and name not in objectives:  # only its name holds its rate
            objectives = (*objectives, name)
    objectives = tuple(dict.fromkeys(objectives)) if objectives != base.objectives else objectives
    same = (recipe, objectives) == (base.recipe, base.objectives)
    name = base.preset if same else f"{base.preset.removesuffix(', changed')}, changed"
    return replace(base, preset=name, objectives=objectives, recipe=recipe, out=with_ending(base.out, "-chosen"))


def failure_lines(rows: pd.DataFrame, errors: Mapping[str, str]) -> list[str]:
    """A line for each failed cell.

    Args:
        rows: of the search.
        errors: key -> the column `error` of the record.
    """
    failed = rows[rows["status"] == "failed"].to_dict("records")
    return [
        f"failed: {row['objective']} lr {row['rate']:g} seed {row['seed']}: {failure_reason(errors[str(row['key'])])}"
        for row in failed
    ]


def write_table(rows: pd.DataFrame, chosen: Sequence[Choice], run_dir: SearchDir) -> list[Path]:
    """Print the table, write it as text and as Parquet, and return the files."""
    text = learning_rates.render(rows, chosen)
    print(f"\n{text}\n")
    write_text_atomically(run_dir.rates_text, text + "\n")
    return [run_dir.rates_text, learning_rates.write(rows, run_dir.rates_table)]


def draw(rows: pd.DataFrame, chosen: Sequence[Choice], run_dir: SearchDir, name: str) -> list[Path]:
    """Plot scores over rates and return the files, none if no rate was tried.

    Args:
        rows: of the search.
        chosen: marked in the plot.
        run_dir: the folder of the search.
        name: of the preset, for the heading.
    """
    if not rows["rate"].notna().any():
        return []
    from analysis.figures import Drawn, save_figures  # here: matplotlib takes a second to import
    from analysis.plots import learning_rates as plots
    from analysis.plots import style

    heading = f"{name}: validation by learning rate, rho 0"
    with style.context():
        figure = plots.rates(rows, chosen, heading=heading)
    drawn = Drawn(name="rates", stem="rates", title=heading, caption="", study=name, figure=figure, reason="")
    return save_figures([drawn], run_dir.figures)
