"""Proposed rates, and what an interrupted command leaves in the Optuna database; without Ray."""

import threading
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState
from ray import cloudpickle
from ray.tune.search import Searcher
from ray.tune.utils.util import flatten_dict

from analysis.stats.learning_rates import Choice
from datasets.errors import InputError
from sweep.lr_search.config import SEEDS, SearchDir, search_for, sweep_to_fill
from sweep.lr_search.halving import RateTable, promoted, unfinished
from sweep.lr_search.optuna_searcher import OptunaCells, RateProposer, open_database
from sweep.lr_search.report import named_by_loss, with_chosen_rates
from sweep.presets import preset
from sweep.tune.admission import CellQueue
from sweep.tune.grid_searcher import GridSearcher
from sweep.tune.retries import bare_record


@pytest.fixture
def storage(tmp_path):
    storage = open_database(tmp_path / "optuna.db")
    yield storage
    storage.engine.dispose()


def search(**more):
    found = search_for(preset("vts-smoke"))
    return replace(found, **{"rates": (0.1, 1.0, 10.0), **more})


def proposer(storage, scores=None, known=(), asked=None, objective="moco"):
    asked = asked or search()
    cell = partial(asked.cell, objective, seed=100)
    return RateProposer(cell, storage, scores or {}, rates=asked.rates, known=known, trials=asked.tpe_trials)


def handed_out(one, score=lambda rate: 0.5):
    """All proposed rates, when each score is reported immediately."""
    found = []
    while trial := one.propose(f"trial-{len(found)}"):
        found.append(trial[0])
        one.add_score(f"trial-{len(found) - 1}", score(trial[0]))
    return found


def states(storage, objective="moco"):
    study = optuna.load_study(study_name=objective, storage=storage)
    return [trial.state for trial in study.get_trials()]


def test_the_grid_is_handed_out_in_its_order_each_rate_once(storage):
    assert handed_out(proposer(storage)) == [0.1, 1.0, 10.0]
    assert states(storage) == [TrialState.COMPLETE] * 3


def test_a_cell_is_that_of_the_recipe_with_the_rate():
    asked = search()
    cell = asked.cell("cross_image", 1.5, 100)
    recipe, _ = preset("vts-smoke").recipe.with_learning_rate("cross_image", 1.5)
    assert cell.recipe == recipe.fingerprint
    assert (cell.rho, cell.seed, recipe.dense.cross_lr) == (0, 100, 1.5)
    assert recipe.dense.within_lr == preset("vts-smoke").recipe.dense.within_lr


def test_every_loss_that_is_trained_has_its_rate():
    recipe = preset("vts-smoke").recipe
    trained = ("moco", "within_image", "cross_image", "supervised")
    for number, objective in enumerate(trained):
        recipe, _ = recipe.with_learning_rate(objective, 0.5 + number)
    assert [recipe.learning_rate(objective) for objective in trained] == [0.5, 1.5, 2.5, 3.5]


def test_a_loss_from_outside_is_searched_by_its_name(storage, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "helpers" / "outside"))
    simclr, smoke = "mypackage.module:SimClr", preset("vts-smoke")
    base = replace(smoke, objectives=("moco", f"{simclr}(lr=0.5)", f"{simclr}(temperature=0.1)", "random"))
    asked = replace(search_for(base), rates=(0.06, 1.0))
    assert asked.losses == ("moco", simclr, f"{simclr}(temperature=0.1)")
    cells = [asked.cell(simclr, rate, 100) for rate in asked.rates]
    assert [cell.objective for cell in cells] == [simclr, f"{simclr}(lr=1.0)"]  # 0.06 is its default
    assert {cell.recipe for cell in cells} == {smoke.recipe.fingerprint}
    assert handed_out(proposer(storage, asked=asked, objective=simclr)) == [0.06, 1.0]
    tried = RateTable()
    for cell, rate in zip(cells, asked.rates, strict=True):
        tried.add(cell, rate)
    assert tried.rates_of(simclr) == [0.06, 1.0]
    assert len(tried.by_recipe) == 2
    row = {"dataset": "vts", "seed": 100}
    rows = [row | {"objective": cell.objective, "rate": tried.rates[cell.key]} for cell in cells[::-1]]
    table = named_by_loss(pd.DataFrame(rows))
    assert table["objective"].tolist() == [simclr, simclr]
    assert table["rate"].tolist() == [0.06, 1.0]
    choice = Choice(objective=simclr, rate=1.0, best=1.0, score=0.5, seeds=3, edge=None)
    assert with_chosen_rates(base, [choice]).objectives == (
        "moco",
        f"{simclr}(lr=1.0)",
        f"{simclr}(temperature=0.1)",
        "random",
    )
    assert with_chosen_rates(base, [choice]).recipe == base.recipe
    assert with_chosen_rates(base, [choice]).preset == "vts-smoke, changed"


def test_what_is_recorded_is_not_handed_out_again(storage):
    scores = {search().cell("moco", 1.0, 100).key: 0.7, search().cell("moco", 10.0, 100).key: None}
    one = proposer(storage, scores, known=(1.0, 10.0))
    assert handed_out(one) == [0.1]
    assert not one.open


def test_a_command_that_was_cut_off_is_gone_on_with(storage):
    first = proposer(storage)
    first.propose("a"), first.propose("b")
    first.add_score("a", 0.4)  # b was running, and the third rate was waiting
    scores = {search().cell("moco", 0.1, 100).key: 0.4}
    assert sorted(handed_out(proposer(storage, scores, known=(0.1,)))) == [1.0, 10.0]


def test_a_lost_database_is_made_anew_from_the_records(storage):
    asked = search(sampler="tpe", trials=5)
    scores = {asked.cell("moco", rate, 100).key: rate for rate in (0.1, 1.0, 2.34)}
    found = handed_out(proposer(storage, scores, known=(0.1, 1.0, 2.34), asked=asked))
    assert found[0] == 10.0
    assert len(found) == 2
    study = optuna.load_study(study_name="moco", storage=storage)
    assert {0.1, 1.0, 2.34} <= {trial.params["lr"] for trial in study.get_trials(states=(TrialState.COMPLETE,))}


def test_tpe_begins_with_the_grid_and_goes_on_where_scores_are_good(storage):
    asked = search(sampler="tpe", trials=25, rates=(0.01, 0.1, 1.0, 10.0))
    found = handed_out(proposer(storage, asked=asked), score=lambda rate: -abs(rate - 1.0))
    assert found[:4] == [0.01, 0.1, 1.0, 10.0]
    assert len(found) == len(set(found)) == 25
    assert all(0.01 <= rate <= 10 for rate in found)
    later = found[14:]
    assert sum(0.3 < rate < 3 for rate in later) > len(later) / 2  # a third of the span, by chance


def test_losses_take_turns_and_cells_without_a_rate_come_last(storage):
    begun = []
    plain = [search().random_cell(100)]
    both = [proposer(storage), proposer(storage, objective="within_image")]
    proposals = OptunaCells(plain, both, lambda cell, rate: begun.append((cell.objective, rate)), closed=lambda: False)
    assert proposals.open
    suggested = [proposals.suggest(str(number)) for number in range(8)]
    assert [(one["cell"]["objective"], one["rate"]) for one in suggested[:3]] == [
        ("moco", 0.1),
        ("within_image", 0.1),
        ("moco", 1.0),
    ]
    assert suggested[6] == {"cell": asdict(plain[0]), "rate": None}
    assert suggested[7] == Searcher.FINISHED
    assert len(begun) == 6
    assert not proposals.open


def test_optuna_is_told_the_score_that_a_worker_reported(storage):
    proposals = OptunaCells([], [proposer(storage)], lambda cell, rate: None, closed=lambda: False)
    proposals.suggest("a"), proposals.suggest("b")
    proposals.on_trial_result("a", {"worker": 1})
    record = bare_record(search().cell("moco", 0.1, 100))
    done = record.with_values({"status": "done", "val_f1_macro": 0.6})
    # As Tune passes the reports of a worker to a searcher.
    proposals.on_trial_result("a", flatten_dict({"record": done, "curves": [], "examples": []}))
    proposals.on_trial_result("b", flatten_dict({"error": "no", "record": record, "curves": []}))
    proposals.on_trial_complete("a")
    proposals.on_trial_complete("b")  # without a score: it may run again
    study = optuna.load_study(study_name="moco", storage=storage)
    assert [(t.params["lr"], t.value) for t in study.get_trials(states=(TrialState.COMPLETE,))] == [(0.1, 0.6)]
    assert states(storage).count(TrialState.RUNNING) == 1


def test_nothing_is_handed_out_when_the_search_is_to_stop(storage):
    proposals = OptunaCells(
        [search().random_cell(100)], [proposer(storage)], lambda cell, rate: None, closed=lambda: True
    )
    assert proposals.suggest("a") == Searcher.FINISHED


def scored(asked, scores):
    """The recorded scores of moco: {rate: scores of the first seeds}."""
    table = RateTable()
    for rate, values in scores.items():
        for seed, score in zip(asked.sweep.seeds, values, strict=False):
            cell = asked.cell("moco", rate, seed)
            table.add(cell, rate)
            table.scores[cell.key] = score
    return table


def promoted_rates(asked, table, number):
    cells = promoted(asked, scored(asked, table), number)
    return [(cell.seed, rate) for cell in cells for rate in asked.rates if cell == asked.cell("moco", rate, cell.seed)]


def test_the_better_half_goes_on_with_each_seed():
    asked = search(rates=(0.1, 0.3, 1.0, 3.0, 10.0))
    asked = replace(asked, sweep=replace(asked.sweep, objectives=("moco", "random")))
    table = {0.1: [0.1], 0.3: [0.5], 1.0: [0.6], 3.0: [0.4], 10.0: [None]}
    assert promoted_rates(asked, table, 1) == [(101, 0.3), (101, 1.0)]
    table |= {0.3: [0.5, 0.9], 1.0: [0.6, 0.1]}
    assert promoted_rates(asked, table, 2) == [(102, 0.3), (102, 1.0)]
    everything = replace(asked, prune=False)
    assert [rate for _, rate in promoted_rates(everything, table | {0.1: [0.1, 0.1], 3.0: [0.4, 0.4]}, 2)] == [
        0.1,
        0.3,
        1.0,
        3.0,
    ]


def test_seeds_of_a_search_are_none_of_a_sweep():
    for name in ("vts-quick", "vts-paper", "xbd-quick"):
        assert not set(search_for(preset(name)).sweep.seeds) & set(preset(name).seeds)
    assert search_for(preset("vts-smoke")).sweep.seeds == SEEDS


def test_the_sweep_to_fill_is_the_one_that_was_asked_for():
    base = preset("vts-quick")
    found = search_for(base)
    assert sweep_to_fill(found, base) == base
    assert found.losses == ("moco", "within_image", "cross_image", "supervised")
    assert found.sweep.out.name == "vts-quick-lr"


def test_a_sweep_that_grows_at_an_address_is_searched_here_and_filled_there():
    grid = replace(preset("vts-smoke"), rho=(0.0, 1.0), seeds=(0, 1), pairings=("noisy", "exposure"))
    base = replace(grid, out="s3://bucket/some", until="halfwidth(difference) < 0.1", max_seeds=4)
    found = search_for(base)
    assert found.sweep.out == Path("results/some-lr")
    assert found.sweep.until == ""
    assert sweep_to_fill(found, base) == base
    choice = Choice(objective="moco", rate=0.5, best=0.5, score=0.5, seeds=1, edge=None)
    assert with_chosen_rates(base, [choice]).out == "s3://bucket/some-chosen"
    with pytest.raises(InputError, match="--until: difference needs a rate above 0"):
        replace(found.sweep, seeds=(0, 1), until=base.until, max_seeds=4)


def test_recipes_are_kept_before_they_are_run(tmp_path):
    asked = search()
    folder = SearchDir(tmp_path)
    folder.write_recipe(asked, "moco", 0.25)
    recipe = asked.recipe("moco", 0.25)
    assert folder.read_recipes() == {recipe.fingerprint: recipe}
    (tmp_path / "sweep.yaml").touch()
    with pytest.raises(InputError, match="is the folder of a sweep"):
        folder.refuse_sweep()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"rates": ()}, "--rates is empty"),
        ({"rates": (0.0,)}, "--rates 0: should be greater than 0"),
        ({"trials": 5}, "--trials is only for --sampler tpe"),
        ({"sampler": "tpe", "trials": 2}, "--trials 2: should be at least the number of --rates, 3"),
        ({"sampler": "tpe", "rates": (1.0,)}, "give at least two"),
        (
            {"sweep": replace(preset("vts-smoke"), rho=(0.0,), objectives=("random",))},
            "none of these has a learning rate",
        ),
        ({"sweep": replace(preset("vts-smoke"), rho=(0.5,))}, "a search runs at rho 0"),
        ({"sweep": replace(preset("vts-smoke"), rho=(0.0,), seeds=(1, 1))}, "each seed once"),
        ({"sweep": replace(preset("vts-smoke"), rho=(0.0,), out="s3://b/n")}, "s3://b/n: a search needs a folder"),
    ],
)
def test_what_cannot_be_searched_is_refused(more, said):
    with pytest.raises(InputError, match=said):
        replace(search(), **more)


def test_rates_that_were_never_handed_out_are_missing_too():
    asked = search()
    asked = replace(asked, sweep=replace(asked.sweep, objectives=("moco",)))
    table = scored(asked, {0.1: [0.5]})
    for seed in (100, 101):
        table.add_random(asked.random_cell(seed))
    missing = unfinished(asked, table, 0)
    assert missing == [asked.cell("moco", 1.0, 100), asked.cell("moco", 10.0, 100), asked.random_cell(100)]
    assert unfinished(asked, table, 1) == [asked.random_cell(101)]


def test_tune_writes_down_a_searcher_that_knows_a_thread(storage):
    lock = threading.Lock()  # like the stop request of a sweep at an address
    assert cloudpickle.dumps(GridSearcher(CellQueue([search().random_cell(0)]), closed=lambda: lock.locked()))
    cells = OptunaCells([], [proposer(storage)], lambda cell, rate: lock.acquire(), closed=lambda: lock.locked())
    assert cloudpickle.dumps(cells)
