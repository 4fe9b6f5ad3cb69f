"""What a search for learning rates found: table, plot, MLflow, and the sweep with the rates filled in."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from analysis.records.io import compact, read_records, recorded_keys
from analysis.stats import learning_rates as judged
from analysis.stats.learning_rates import Choice
from analysis.text import failure_reason
from sweep.config.sweep import Sweep
from sweep.config.yaml_io import to_yaml
from sweep.lr_search.config import Search, SearchFolder, beside
from sweep.rates import with_rate
from sweep.storage.run_dir import replace_text
from sweep.summarize import python, recorded_errors
from sweep.tracking.background import Logbook
from sweep.tune.outcome import Outcome
from trainables.cell import Cell


def conclude(
    search: Search,
    base: Sweep,
    folder: SearchFolder,
    logbook: Logbook,
    rates: Mapping[tuple[str, str], float],
    left: Sequence[Cell],
    outcome: Outcome,
) -> bool:
    """Print what was found and write it down.

    Args:
        search: as it ran.
        base: the sweep that is to have the rates.
        folder: where.
        logbook: MLflow.
        rates: (recipe's fingerprint, objective) -> learning rate.
        left: cells that were to run and have no record.
        outcome: how the last cells ran.

    Returns:
        Whether a rate is chosen for each loss, and nothing is missing.
    """
    chosen, failures = list[Choice](), list[str]()
    if recorded_keys(folder.root).status:
        tried = asked_for(judged.table(read_records(folder.root), rates), search)
        chosen = [] if left or outcome.stop else choices(tried, search)
        artifacts = _written(tried, chosen, folder, base.preset, stopped=outcome.stop is not None)
        if complete := len(chosen) == len(search.losses):
            replace_text(folder.chosen, to_yaml(filled(base, chosen)))
            artifacts.append(folder.chosen)
        if outcome.stop is None:
            logbook.fill_again()
            numbers = {f"chosen_lr_{one.objective}": one.rate for one in chosen}
            logbook.end(complete, numbers | {f"val_f1_{one.objective}": one.score for one in chosen}, artifacts)
        failures = _failures(tried, recorded_errors(folder.root))
    _say(search, folder, logbook, chosen, left, outcome, failures)
    return len(chosen) == len(search.losses)


def _failures(tried: pd.DataFrame, errors: Mapping[str, str]) -> list[str]:
    """A line for each cell that failed."""
    rows = tried[tried["status"] == "failed"].to_dict("records")
    return [
        f"failed: {row['objective']} lr {row['rate']:g} seed {row['seed']}: {failure_reason(errors[str(row['key'])])}"
        for row in rows
    ]


def asked_for(tried: pd.DataFrame, search: Search) -> pd.DataFrame:
    """The rows of this command's losses, seeds and rates: the folder may hold those of earlier commands too."""
    mine = tried["seed"].isin(search.sweep.seeds) & tried["objective"].isin((*search.losses, "random"))
    if not search.wanted:
        mine &= tried["rate"].isna() | tried["rate"].isin(search.rates)
    return tried[mine].reset_index(drop=True)


def choices(tried: pd.DataFrame, search: Search) -> list[Choice]:
    """The choice of each loss of which a rate could be trained."""
    found = (judged.choose(tried[tried["objective"] == name]) for name in search.losses)
    return [choice for choice in found if choice]


def filled(base: Sweep, chosen: Sequence[Choice]) -> Sweep:
    """The sweep with the chosen rates, in a folder of its own: the sweep's may hold records of other rates."""
    recipe = base.recipe
    for choice in chosen:
        recipe = with_rate(recipe, choice.objective, choice.rate)
    name = base.preset if recipe == base.recipe else f"{base.preset.removesuffix(', changed')}, changed"
    return replace(base, preset=name, recipe=recipe, out=beside(base.out, "-chosen"))


def _written(
    tried: pd.DataFrame, chosen: Sequence[Choice], folder: SearchFolder, name: str, *, stopped: bool
) -> list[Path]:
    """Table as text (printed too), as Parquet, and drawn; the files."""
    text = judged.render(tried, chosen)
    print(f"\n{text}\n")
    replace_text(folder.text, text + "\n")
    written = [folder.text, judged.write(tried, folder.table), compact(folder.root)]
    if stopped or not tried["rate"].notna().any():
        return written
    # Here, because matplotlib takes a second to import.
    from analysis.figures import Drawn, save_figures
    from analysis.plots import learning_rates as drawing
    from analysis.plots import style

    heading = f"{name}: validation by learning rate, rho 0"
    with style.context():
        figure = drawing.rates(tried, chosen, heading=heading)
    one = Drawn(name="rates", stem="rates", title=heading, caption="", study=name, figure=figure, reason="")
    return [*written, *save_figures([one], folder.figures)]


def _say(
    search: Search,
    folder: SearchFolder,
    logbook: Logbook,
    chosen: Sequence[Choice],
    left: Sequence[Cell],
    outcome: Outcome,
    failures: Sequence[str],
) -> None:
    print(f"rates     {folder.table}\nfigure    {folder.figures / 'rates.png'}\nlogs      {folder.log}")
    print(f"MLflow    {python()} -m mlflow ui --backend-store-uri {shlex.quote(logbook.uri)}")
    print(f"          then http://127.0.0.1:5000/{logbook.runs}")
    if logbook.fault:
        print(f"MLflow could not be written ({logbook.fault}); the same command fills in what it lacks")
    for line in failures:
        print(line)
    if left:
        print(f"\n{len(left)} cells are missing; the same command runs them and goes on:")
        for cell in left:
            print(f"  {cell}: {outcome.failures.get(cell.key, 'not finished')}")
        return
    if outcome.stop:
        print("stopped; the same command goes on")
        return
    for name in search.losses:
        if name not in {choice.objective for choice in chosen}:
            print(f"{name}: no rate could be trained with every seed: add smaller ones to --rates")
    if len(chosen) == len(search.losses):
        print(f"chosen    {', '.join(f'{choice.objective} {choice.rate:g}' for choice in chosen)}")
        print(f"run them  {python()} -m sweep.run --config {shlex.quote(str(folder.chosen))}")
