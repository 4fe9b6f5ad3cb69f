"""Which learning rates survive and which is chosen, with synthetic scores."""

import math

import pandas as pd
import pytest

from analysis.plots import learning_rates as drawing
from analysis.plots import style
from analysis.records import parquet
from analysis.stats.learning_rates import choose, remarks, render, surviving, table, write


def tried(scores, objective="moco"):
    """A table of {rate: [score of each seed, None for one that failed]}."""
    rows = [
        {
            "dataset": "vts",
            "objective": objective,
            "rate": rate,
            "seed": seed,
            "key": f"{rate}-{seed}",
            "status": "failed" if score is None else "done",
            "score": math.nan if score is None else score,
            "attained": math.nan if score is None else 0.1,
        }
        for rate, values in scores.items()
        for seed, score in enumerate(values)
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("means", "kept"),
    [
        ({0.1: 0.5}, (0.1,)),
        ({0.1: 0.5, 1.0: 0.4}, (0.1, 1.0)),
        ({0.1: 0.5, 1.0: 0.4, 3.0: 0.6}, (0.1, 3.0)),
        ({0.1: 0.1, 0.3: 0.2, 1.0: 0.9, 3.0: 0.8, 10.0: 0.3}, (1.0, 3.0, 10.0)),
        ({0.1: 0.5, 0.3: 0.5, 1.0: 0.5}, (0.1, 0.3)),  # the smaller ones of equal rates
    ],
)
def test_the_better_half_goes_on_and_two_at_least(means, kept):
    assert surviving({rate: [score] for rate, score in means.items()}) == kept


def test_it_is_the_mean_over_seeds_that_decides_who_goes_on():
    assert surviving({0.1: [0.9, 0.1], 0.3: [0.6, 0.6], 1.0: [0.55, 0.55]}) == (0.3, 1.0)


def test_the_best_mean_is_chosen():
    choice = choose(tried({0.1: [0.50, 0.51], 1.0: [0.60, 0.61], 10.0: [0.30, 0.31]}))
    assert (choice.rate, choice.best, choice.seeds, choice.edge) == (1.0, 1.0, 2, None)
    assert choice.score == pytest.approx(0.605)


def test_a_smaller_rate_that_cannot_be_told_from_the_best_is_taken():
    close = tried({0.1: [0.3, 0.3, 0.3], 0.3: [0.60, 0.50, 0.55], 1.0: [0.55, 0.56, 0.56], 3.0: [0.4, 0.4, 0.4]})
    choice = choose(close)
    assert (choice.rate, choice.best) == (0.3, 1.0)
    assert "within one standard error" in " ".join(remarks(choice, close))
    # An equally small mean difference, but equal in every seed, because differences are paired.
    steady = tried({0.1: [0.3, 0.3, 0.3], 0.3: [0.550, 0.500, 0.600], 1.0: [0.557, 0.507, 0.607], 3.0: [0.4, 0.4, 0.4]})
    assert choose(steady).rate == 1.0


def test_rates_that_were_left_behind_are_not_chosen():
    choice = choose(tried({0.1: [0.99], 0.3: [0.6, 0.6], 1.0: [0.7, 0.7]}))
    assert choice.rate == 1.0
    assert choice.edge == "largest"


def test_the_edge_of_what_was_tried_is_said_unless_beyond_it_training_fails():
    larger = tried({0.1: [0.4], 1.0: [0.6]})
    assert "1 is the largest rate tried: add larger ones to --rates" in " ".join(remarks(choose(larger), larger))
    diverged = tried({0.1: [0.4], 1.0: [0.6], 10.0: [None]})
    assert choose(diverged).edge is None
    assert choose(tried({0.1: [0.6], 1.0: [0.4]})).edge == "smallest"


def test_nothing_is_chosen_where_all_failed():
    assert choose(tried({0.1: [None], 1.0: [None]})) is None


def test_a_loss_that_is_no_better_than_the_random_encoder_is_said():
    both = pd.concat([tried({0.1: [0.4], 1.0: [0.5], 3.0: [0.2]}), tried({math.nan: [0.55]}, "random")])
    choice = choose(both[both["objective"] == "moco"])
    assert "no better than the random encoder (55.0 %)" in " ".join(remarks(choice, both))
    text = render(both, [choice])
    assert [line.split()[-1] for line in text.splitlines() if " 1 " in line and "chosen" in line] == ["chosen"]


def test_records_of_other_recipes_are_left_out():
    shared = {"dataset": "vts", "seed": 0, "status": "done", "pretrain_val_loss": 3.0, "pretrain_plateau": 4.0}
    shared |= {"pretrain_floor": 2.0}
    records = pd.DataFrame(
        [
            {**shared, "objective": "moco", "recipe": "a", "key": "1", "val_f1_macro": 0.5},
            {**shared, "objective": "moco", "recipe": "b", "key": "2", "val_f1_macro": 0.6},
            {**shared, "objective": "random", "recipe": "c", "key": "3", "val_f1_macro": 0.4, "pretrain_plateau": None},
            {**shared, "objective": "moco", "recipe": "z", "key": "4", "val_f1_macro": 0.9},
        ]
    )
    found = table(records, {("a", "moco"): 0.1, ("b", "moco"): 1.0})
    assert found[["key", "rate", "score"]].fillna(-1).values.tolist() == [
        ["1", 0.1, 0.5],
        ["2", 1.0, 0.6],
        ["3", -1, 0.4],
    ]
    assert found["attained"].tolist()[:2] == [0.5, 0.5]


def test_the_plot_shows_each_seed_the_random_encoder_and_the_choice():
    both = pd.concat([tried({0.1: [0.4, 0.5], 1.0: [0.5, 0.6], 10.0: [None]}), tried({math.nan: [0.45]}, "random")])
    choice = choose(both[both["objective"] == "moco"])
    with style.context():
        figure = drawing.rates(both, [choice], heading="rates")
    lines = {line.get_gid(): line for line in figure.axes[0].get_lines()}
    assert sorted(lines["seeds"].get_ydata()) == [40, 50, 50, 60]
    assert list(lines["chosen"].get_xdata()) == [choice.rate] * 2
    assert list(lines["random"].get_ydata()) == [45, 45]
    assert list(lines["failed"].get_xdata()) == [10]
    assert figure.axes[0].get_xscale() == "log"


def test_the_table_is_kept_as_parquet(tmp_path):
    path = write(tried({0.1: [0.4, None]}), tmp_path / "rates.parquet")
    assert parquet.read(path, remedy="")["score"].to_pylist()[0] == 0.4
